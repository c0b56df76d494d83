"""Pure functions and small classes of which policies are composed: aggregation, ranks, grouping, balancing, search."""
