"""Batches of runs: what a sweep file asks for, the runs that it comes to, their folder, and carrying them out."""
