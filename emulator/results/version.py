"""The version of jetbed, as runs state it; in a module of its own so that installing needs no import of the package."""

VERSION = "0.1.0"
