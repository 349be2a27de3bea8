"""The local suite: the whole product on one machine, started by `python3 -m emulator`."""
