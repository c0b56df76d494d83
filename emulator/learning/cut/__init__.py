"""Training of models that are cut between devices and server."""
