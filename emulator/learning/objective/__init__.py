"""What is learnt: rows become batches, batches have a loss, and held-out rows a score."""
