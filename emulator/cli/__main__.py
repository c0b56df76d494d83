"""``python -m emulator.cli`` is the command ``jetbed``."""

from emulator.cli.main import main

main()
