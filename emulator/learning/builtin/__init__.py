"""The task and the encoder that every laptop run can train on without a download."""
