"""Shapes of models without their weights: what is priced, and what is trained."""
