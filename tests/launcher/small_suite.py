"""A launcher with a small suite: the real `Suite`, guards and signals, with parts that start in a moment.

    python small_suite.py ROOT PARTS_JSON [-- CMD…]

Without a command it watches, as `dev` does; with one it runs it, as `run` does.
"""

import json
import sys
from pathlib import Path

from emulator.block import Block
from emulator.console import SuiteError, complain
from emulator.parts import Part, ports_of
from emulator.ready import LogSays
from emulator.suite import Interrupted, Suite, interruptible
from emulator.toolchain import Emulators, Tool, Toolchain

HERE = Path(__file__).parent
THIS_PYTHON = Tool(Path(sys.executable), "3.11.0")
NO_TOOLS = Toolchain(
    python=THIS_PYTHON,
    java=THIS_PYTHON,
    redis=THIS_PYTHON,
    emulators=Emulators(HERE, None, None, "none"),
    node=None,
)


def part_of(description: dict[str, object]) -> Part:
    """`{"name": …, "script": python code, "ports": …}`; ready when its log says so."""
    return Part(
        name=str(description["name"]),
        purpose="a part of a test",
        command=("{python}", *map(str, description["arguments"])),  # type: ignore[call-overload]
        ready=(LogSays("ready"),),
        ports=description.get("ports", {}),  # type: ignore[arg-type]
        fatal_lines=("cannot go on",),
        grace_seconds=0.3,
        start_seconds=20.0,
    )


def main() -> int:
    root, described, *rest = sys.argv[1:]
    parts = tuple(part_of(one) for one in json.loads(described))
    block = Block("small", ports_of(parts), parts, Path(root))
    try:
        with interruptible(), Suite(block, parts, NO_TOOLS) as suite:
            suite.start()
            print("started", flush=True)
            if rest:
                return suite.run("the command", rest[1:], log=None, cwd=Path(root))
            suite.watch()
    except SuiteError as error:
        complain(error)
        return 1
    except Interrupted as interruption:
        return 128 + interruption.signum
    return 0


if __name__ == "__main__":
    sys.exit(main())
