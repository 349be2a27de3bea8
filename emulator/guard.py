"""The guard of one part: starts it, adopts whatever it orphans, and ends the whole family when the launcher is gone.

The launcher holds the writing end of a pipe, the lifeline. However the launcher ends, kill -9 included, the kernel
closes that end, and the guard reads the end of file. So no process outlives the suite.

    python -m emulator.guard --lifeline FD [--grace SECONDS] [--cwd DIR] [--foreground] -- COMMAND…
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
import time

from emulator import process_table

SIGNALLED = 128
ORPHAN_CHECK_SECONDS = 2.0  # a process that becomes an orphan sends no signal to who adopts it
COULD_NOT_START = 127


def start(command: list[str], cwd: str | None, *, foreground: bool) -> subprocess.Popen[bytes]:
    """Start the guarded command; it dies with the guard. In the foreground it keeps the terminal and its Ctrl-C."""

    def prepare() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # an ignored signal would stay ignored across exec
        process_table.die_with_parent()

    return subprocess.Popen(
        command,
        cwd=cwd,
        stdin=None if foreground else subprocess.DEVNULL,
        preexec_fn=prepare,  # noqa: PLW1509 - the guard has one thread
    )


class Guard:
    """Watches one child until it ends or the lifeline does."""

    def __init__(self, child: int, lifeline: int, grace_seconds: float) -> None:
        self.child = child
        self.lifeline = lifeline
        self.grace_seconds = grace_seconds
        self.exit_code: int | None = None
        self.asked_to_leave: set[int] = set()
        self.wakeup, writer = socket.socketpair()
        writer.setblocking(False)  # noqa: FBT003 - its only parameter
        self._writer = writer
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)
        self.told_to_stop = False
        for signum in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._stop)

    def _stop(self, _signum: int, _frame: object) -> None:
        self.told_to_stop = True

    def run(self) -> int:
        """The child's exit code, once it and everything it started are gone."""
        self._reap()  # it may have ended before the signal handlers stood
        while self.exit_code is None and not self.told_to_stop:
            self._wait(ORPHAN_CHECK_SECONDS)
        if self.exit_code is None:
            self._end_gracefully()
        process_table.kill_descendants()
        self._reap()
        return SIGNALLED + signal.SIGKILL if self.exit_code is None else self.exit_code

    def _wait(self, seconds: float) -> None:
        """Sleep until a child ends, a signal comes, the lifeline ends or the time is over."""
        wakeup = self.wakeup.fileno()
        watched = [wakeup] if self.told_to_stop else [wakeup, self.lifeline]
        ready, _, _ = select.select(watched, [], [], seconds)
        if wakeup in ready:
            self.wakeup.recv(4096)
        if self.lifeline in ready and not os.read(self.lifeline, 1):
            self.told_to_stop = True
        self._reap()
        self._dismiss_orphans()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = SIGNALLED - code if code < 0 else code

    def _dismiss_orphans(self) -> None:
        """A part's process whose parent ended is a leak: the Functions emulator leaves its Python workers so."""
        for pid in process_table.children(os.getpid()):
            if pid != self.child and pid not in self.asked_to_leave:
                self.asked_to_leave.add(pid)
                process_table.send([pid], signal.SIGTERM)

    def _end_gracefully(self) -> None:
        if self.grace_seconds > 0:
            process_table.send([self.child], signal.SIGTERM)
        deadline = time.monotonic() + self.grace_seconds
        while self.exit_code is None and (left := deadline - time.monotonic()) > 0:
            self._wait(left)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m emulator.guard")
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--grace", type=float, default=5.0)
    parser.add_argument("--cwd")
    parser.add_argument("--foreground", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command and for the launcher
    process_table.adopt_orphans()
    try:
        child = start(command, options.cwd, foreground=options.foreground)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return COULD_NOT_START
    child.returncode = 0  # the guard itself waits for it; a Popen must not
    return Guard(child.pid, options.lifeline, options.grace).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
