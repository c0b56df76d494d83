"""The numeric plane: real training and evaluation of many devices at once. Torch is imported in here alone."""
