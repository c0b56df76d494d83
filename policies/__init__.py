"""The policies that ship with jetbed, one file per system: one class, and the file's name is the policy's name."""
