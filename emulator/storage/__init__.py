"""Where files lie, on this machine or on a storage, and how they are written whole."""
