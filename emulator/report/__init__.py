"""Pages and traces that people look at, made from the folders of runs."""
