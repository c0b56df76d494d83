"""What makes a run go: its inputs, its parts put together, the rounds, the wall, and how it is stopped."""
