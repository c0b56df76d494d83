"""Texts and images: read, tokenised, spread over the devices, and drawn in batches."""
