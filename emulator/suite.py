"""One running suite: starts the parts of a block, waits until they are ready, watches them and stops them all."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from emulator import firebase_config, ports, process_table, processes
from emulator.block import Tenancy, running
from emulator.console import SuiteError, done, note, plain, tail

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from emulator.block import Block
    from emulator.parts import Part
    from emulator.processes import Guarded
    from emulator.toolchain import Toolchain

POLL_SECONDS = 0.1
PORT_CHECK_SECONDS = 2.0
PATIENCE_AFTER_CTRL_C_SECONDS = 20.0
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asks the suite to stop."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def ignore_signals() -> None:
    for one in STOPPING_SIGNALS:
        signal.signal(one, signal.SIG_IGN)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT, SIGTERM and SIGHUP into `Interrupted`; the first one starts the stop, others are ignored."""

    def interrupt(signum: int, _frame: object) -> None:
        ignore_signals()
        raise Interrupted(signum)

    previous = {one: signal.signal(one, interrupt) for one in STOPPING_SIGNALS}
    try:
        yield
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)


class Suite:
    """The parts of a block as processes. Use as a context: leaving it stops everything."""

    def __init__(self, block: Block, parts: Sequence[Part], toolchain: Toolchain) -> None:
        self.block = block
        self.parts = parts
        self.toolchain = toolchain
        self.tenancy = Tenancy(block)
        self.running: dict[str, Guarded] = {}
        self.watched_ports: dict[str, int] = {}
        self._silent_since: dict[str, float] = {}
        self._next_port_check = 0.0

    def __enter__(self) -> Self:
        if not self.tenancy.acquire():
            facts = running(self.block) or {}
            raise SuiteError(
                f"A suite already runs in the block {self.block.name!r} (process {facts.get('pid', 'unknown')}).\n"
                "  Stop it there with Ctrl-C, or start this one beside it with another --port-offset."
            )
        process_table.adopt_orphans()
        leftovers = process_table.kill_marked(self.block.mark)
        if leftovers:
            note(f"ended {len(leftovers)} processes that an earlier launcher left behind")
        for name in ("logs", "firebase", "tmp", "config"):
            shutil.rmtree(self.block.folder / name, ignore_errors=True)
            (self.block.folder / name).mkdir()
        return self

    def __exit__(self, *_error: object) -> None:
        ignore_signals()
        processes.stop(self.running.values())
        survivors = processes.sweep(self.block.mark)
        self.tenancy.release()
        if survivors:
            raise SuiteError(f"These processes could not be ended: {', '.join(map(str, survivors))}")

    # What the parts are started with

    def fill(self, template: str) -> str:
        places = {
            "root": str(self.block.root),
            "folder": str(self.block.folder),
            "firebase_config": str(self.block.firebase_config),
            "rules": str(self.block.root / "firestore.rules"),
        }
        return self.block.fill(template, **places, **self.toolchain.programs)

    @property
    def part_environment(self) -> dict[str, str]:
        """Firebase-tools keeps a login and a list of running suites; in a folder of our own it meets no other's."""
        return {
            **self.toolchain.environment,
            process_table.MARK: self.block.mark,
            "GOOGLE_CLOUD_PROJECT": self.block.environment["GOOGLE_CLOUD_PROJECT"],
            "TMPDIR": str(self.block.folder / "tmp"),
            "XDG_CONFIG_HOME": str(self.block.folder / "config"),
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def program_environment(self) -> dict[str, str]:
        """For the programs that use the suite: seed, tests."""
        environment = {**self.block.environment, "PATH": self.toolchain.environment["PATH"]}
        return {**environment, process_table.MARK: self.block.mark}

    # Start

    def check_ports(self) -> None:
        """Name every taken port and its holder before anything is started."""
        wanted = {name: self.block.numbers[name] for part in self.parts for name in part.ports}
        busy = ports.taken(wanted)
        if busy:
            lines = [f"  {number} ({name}) is held by {ports.holder(number)}" for name, number in busy.items()]
            raise SuiteError(
                "These ports are taken:\n" + "\n".join(lines) + "\n  Free them, or move all ports: --port-offset 20000."
            )

    def configure_firebase(self) -> None:
        firebase_config.write(self.block, self.toolchain.runtime)

    def start(self) -> float:
        """Start every part and wait until all are ready; returns the seconds it took."""
        self.check_ports()
        began = time.monotonic()
        started: dict[str, float] = {}
        waiting = {part.name: part for part in self.parts}
        ready: set[str] = set()
        while waiting:
            for part in list(waiting.values()):
                if part.name not in self.running and ready.issuperset(set(part.needs) & {p.name for p in self.parts}):
                    started[part.name] = time.monotonic()
                    self.running[part.name] = self._start_part(part)
                if part.name in self.running and self._is_ready(part, started[part.name]):
                    del waiting[part.name]
                    ready.add(part.name)
                    done(f"{part.name:<11}{part.purpose}", time.monotonic() - started[part.name])
            self.check_alive()
            time.sleep(POLL_SECONDS)
        self.describe()
        return time.monotonic() - began

    def _start_part(self, part: Part) -> Guarded:
        return processes.start(
            part.name,
            [self.fill(word) for word in part.command],
            root=self.block.root,
            cwd=Path(self.fill(part.cwd)),
            environment={
                **self.part_environment,
                **{name: self.fill(value) for name, value in part.environment.items()},
            },
            log=self.block.logs / f"{part.name}.log",
            grace_seconds=part.grace_seconds,
        )

    def _is_ready(self, part: Part, since: float) -> bool:
        log = self.block.logs / f"{part.name}.log"
        self._check_fatal_lines(part, log)
        if all(check.holds(self.fill, log) for check in part.ready):
            numbers = {name: self.block.numbers[name] for name in part.ports}
            open_now = ports.served(numbers.values())
            self.watched_ports.update({name: number for name, number in numbers.items() if number in open_now})
            return True
        if time.monotonic() - since > part.start_seconds:
            raise SuiteError(f"{part.name} was not ready after {part.start_seconds:.0f} s.\n{self._evidence(log)}")
        return False

    def _check_fatal_lines(self, part: Part, log: Path) -> None:
        if not part.fatal_lines or not log.exists():
            return
        text = plain(log)
        if any(line in text for line in part.fatal_lines):
            raise SuiteError(f"{part.name} cannot do its work.\n{self._evidence(log)}")

    def _evidence(self, log: Path) -> str:
        return f"  The end of {log}:\n{tail(log)}"

    # While it runs

    def check_alive(self) -> None:
        """Raise for a part that ended, or whose port was served and is not any more."""
        for name, program in self.running.items():
            code = program.exit_code
            if code is not None and program.log:
                raise SuiteError(f"{name} {how_it_ended(code)}.\n{self._evidence(program.log)}")
        now = time.monotonic()
        if now >= self._next_port_check:
            self._next_port_check = now + PORT_CHECK_SECONDS
            self._check_ports_served(now)

    def _check_ports_served(self, now: float) -> None:
        """An emulator started by firebase-tools can die without firebase-tools ending: its port tells."""
        open_now = ports.served(self.watched_ports.values())
        for name, number in self.watched_ports.items():
            if number in open_now:
                self._silent_since.pop(name, None)
            elif now - self._silent_since.setdefault(name, now) >= PORT_CHECK_SECONDS / 2:
                part = next(part for part in self.parts if name in part.ports)
                log = self.block.logs / f"{part.name}.log"
                raise SuiteError(f"{name} stopped listening on port {number}.\n{self._evidence(log)}")

    def watch(self) -> None:
        """Return only by an exception: a part that died, or a signal."""
        while True:
            self.check_alive()
            time.sleep(POLL_SECONDS)

    def run(self, name: str, command: Sequence[str], *, log: Path | None, cwd: Path) -> int:
        """Run a program beside the parts and return its exit code; a part's death ends it."""
        program = processes.start(
            name,
            command,
            root=self.block.root,
            cwd=cwd,
            environment=self.program_environment,
            log=log,
            grace_seconds=5.0,
        )
        try:
            while (code := program.exit_code) is None:
                self.check_alive()
                time.sleep(POLL_SECONDS)
        except Interrupted as interruption:
            # Ctrl-C went to the program too, which may want to say how far it came.
            if interruption.signum == signal.SIGINT and log is None:
                wait_for_end(program, PATIENCE_AFTER_CTRL_C_SECONDS)
            raise
        finally:
            processes.stop([program])
        return code

    def seed(self, module: str) -> float:
        """Fill the emulators with the accounts and data a developer starts from; gives the seconds it took."""
        log = self.block.logs / "seed.log"
        began = time.monotonic()
        code = self.run("seed", [str(self.toolchain.python.path), "-m", module], log=log, cwd=self.block.root)
        if code != 0:
            raise SuiteError(f"The seed step {how_it_ended(code)}.\n{self._evidence(log)}")
        seconds = time.monotonic() - began
        done(f"{'seed':<11}accounts and sample data", seconds)
        return seconds

    def describe(self) -> None:
        """Write suite.json, by which other programs find this suite."""
        self.tenancy.describe(
            {
                "block": self.block.name,
                "pid": os.getpid(),
                "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "ports": dict(self.block.numbers),
                "environment": self.block.environment,
                "parts": {name: program.guard.pid for name, program in self.running.items()},
            }
        )


def how_it_ended(code: int) -> str:
    if code < 0 or code > 128:  # noqa: PLR2004 - 128 + n is a shell's word for signal n
        return f"was ended by signal {-code if code < 0 else code - 128}"
    return f"ended with exit code {code}"


def wait_for_end(program: Guarded, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while program.exit_code is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
