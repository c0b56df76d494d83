"""A federation of Flower's own processes on links of known rates, beside its emulation: see ``__main__``."""
