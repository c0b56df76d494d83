"""What starts a run, looks at one before it starts, and gives one to a script."""
