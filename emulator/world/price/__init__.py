"""What a local step asks of a device, and what it costs in time, energy and memory."""
