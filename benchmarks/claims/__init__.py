"""What the papers of the six systems claim, as sweeps that anyone can run, with the papers' figures beside ours."""
