"""The version of jetbed, in a module of its own so that installing needs no import of the package."""

VERSION = "0.1.0"
