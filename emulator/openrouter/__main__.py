"""Starts the stand-in: `python -m emulator.openrouter --port 8790`. SIGTERM and SIGINT end it at once."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from emulator.openrouter import faults
from emulator.openrouter.calls import GENERATION_404_MS, Standin
from emulator.openrouter.server import start

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_PORT = 8790


def main() -> int:
    options = _options()
    if options.faults:
        print(faults.as_markdown())
        return 0
    try:
        asyncio.run(_serve(options))
    except OSError as error:
        print(f"The OpenRouter stand-in cannot listen on {options.host}:{options.port}: {error}", file=sys.stderr)
        return 1
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m emulator.openrouter", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port to listen on (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no log line per request")
    parser.add_argument(
        "--generation-404-ms",
        type=int,
        default=GENERATION_404_MS,
        help="how long /generation answers 404 after the end of a generation (default: %(default)s)",
    )
    parser.add_argument("--faults", action="store_true", help="print the table of faults and leave")
    return parser.parse_args()


async def _serve(options: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stopped.set)
    standin = Standin(generation_404_ms=options.generation_404_ms)
    server = await start(standin, options.host, options.port, _ignore if options.quiet else _line_writer())
    print(f"OpenRouter stand-in at http://{options.host}:{server.port}/api/v1 (page: /_standin/)", flush=True)
    await stopped.wait()
    await server.stop()


def _line_writer() -> Callable[[str], None]:
    """Whole lines with one write each, so that lines of several processes on one terminal do not mix."""
    descriptor = sys.stdout.fileno()

    def write(line: str) -> None:
        # Who reads the lines may leave earlier than who asks the questions: then they are for nobody.
        with contextlib.suppress(BrokenPipeError):
            os.write(descriptor, f"{line}\n".encode("utf-8", "replace"))

    return write


def _ignore(line: str) -> None:
    del line


if __name__ == "__main__":
    sys.exit(main())
