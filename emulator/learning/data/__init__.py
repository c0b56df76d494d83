"""Texts and images: read, tokenised, spread over the devices, and drawn in batches."""

from emulator.learning.data.texts import TextData, load_data

__all__ = ["TextData", "load_data"]
