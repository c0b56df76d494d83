"""What a terminal shows: quantities, curves, the summary of a run and the tables of a comparison."""
