"""A launcher of the real Firebase emulators for a small project of its own.

python whole_suite.py ROOT OFFSET
"""

import sys
from pathlib import Path

from emulator import toolchain
from emulator.block import Block, shifted
from emulator.console import SuiteError, complain
from emulator.parts import FIREBASE, OPENROUTER, PARTS, REDIS, SCHEDULER
from emulator.suite import Interrupted, Suite, interruptible

STARTED = (REDIS, FIREBASE, SCHEDULER)


def main() -> int:
    root, offset = sys.argv[1:]
    block = Block("whole", shifted(PARTS, int(offset)), (*STARTED, OPENROUTER), Path(root))
    try:
        with interruptible(), Suite(block, STARTED, toolchain.set_up()) as suite:
            suite.configure_firebase()
            suite.start()
            print("started", flush=True)
            suite.watch()
    except SuiteError as error:
        complain(error)
        return 1
    except Interrupted as interruption:
        return 128 + interruption.signum
    return 0


if __name__ == "__main__":
    sys.exit(main())
