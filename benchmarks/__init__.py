"""Programs that measure jetbed: its speed against other ways to do the same work."""
