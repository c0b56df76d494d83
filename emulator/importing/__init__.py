"""Recordings of other projects, turned into the trace files that a run replays."""
