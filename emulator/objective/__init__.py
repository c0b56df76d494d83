"""What is learnt: which shapes it asks of a model, and which figures tell how well it is learnt. No torch."""
