"""Entry of `python3 -m emulator`: finds a supported Python, then hands over to the command line.

This file must be readable by any Python 3, so it imports nothing of the launcher before the version is known.
"""

import os
import shutil
import subprocess
import sys

OLDEST = (3, 11)
NEWEST = (3, 14)  # the newest runtime Firebase offers for functions


def supported(version: "tuple[int, ...]") -> bool:
    """Whether functions can run with this (major, minor)."""
    return OLDEST <= version <= NEWEST


def find_supported_python() -> "str | None":
    """The newest supported interpreter on PATH, or None. A version manager's shim may exist and yet not start."""
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        path = shutil.which("python3." + str(minor))
        if path and subprocess.call([path, "-c", ""], stderr=subprocess.DEVNULL) == 0:
            return path
    return None


def main() -> int:
    """Continue in this interpreter if it is supported, else in one that is, else say what is missing."""
    if supported(sys.version_info[:2]):
        from emulator.cli import main as run_cli  # only a supported Python can read it

        return run_cli(sys.argv[1:])
    other = find_supported_python()
    if other:
        os.execv(other, [other, "-m", "emulator", *sys.argv[1:]])  # noqa: S606 - no shell is wanted
    found = ".".join(str(number) for number in sys.version_info[:3])
    print("Python 3.11 to 3.14 is needed; this is " + found + " and no other was found on PATH.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
