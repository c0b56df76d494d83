"""The learning side of the adapter forms: how their arrays take part in a model's forward and backward pass."""
