"""Kinds of links: what a file of each says, and the rates that devices on such a link have."""
