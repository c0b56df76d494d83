"""Links and what they share: how long a transfer takes."""
