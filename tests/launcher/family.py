"""A part that starts a family hard to end: a child, a detached grandchild and an orphan, all deaf to SIGTERM.

python family.py            prints "ready", then sleeps
python family.py leaf …     one member
"""

import signal
import subprocess
import sys
import time

DEAF_MEMBER = [sys.executable, __file__, "leaf"]


def leaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def parent_that_leaves() -> None:
    """Its child outlives it: an orphan, in a session of its own."""
    subprocess.Popen([*DEAF_MEMBER, "orphan"], start_new_session=True)


def family() -> None:
    subprocess.Popen([*DEAF_MEMBER, "child"])
    subprocess.Popen([*DEAF_MEMBER, "detached"], start_new_session=True)
    subprocess.run([sys.executable, __file__, "leaver"], check=True)
    print("ready", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    {"leaf": leaf, "leaver": parent_that_leaves}.get(sys.argv[1] if len(sys.argv) > 1 else "", family)()
