"""The processes of this machine as far as the suite needs them: who descends from whom, and who carries our mark.

Linux is read from /proc; elsewhere `ps` gives the same picture, a little later and without adopted orphans.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

LINUX = sys.platform.startswith("linux")
MARK = "CRAFTPILOT_SUITE"
"""Environment variable that every process of a suite inherits; its value names the checkout and the block."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
KILL_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    zombie: bool


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that none escapes to init."""
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that forked it ends. Called between fork and exec."""
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def processes() -> dict[int, Process]:
    return _processes_of_proc() if LINUX else _processes_of_ps()


def _processes_of_proc() -> dict[int, Process]:
    found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are wanted, and this runs in a loop
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue  # it ended while we looked
            state, parent = stat.rpartition(")")[2].split()[:2]
            found[int(entry)] = Process(int(entry), int(parent), zombie=state in "ZX")
    return found


def _processes_of_ps() -> dict[int, Process]:
    listing = subprocess.run(["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True)
    found = {}
    for line in listing.stdout.splitlines():
        pid, parent, state = line.split()[:3]
        found[int(pid)] = Process(int(pid), int(parent), zombie=state.startswith("Z"))
    return found


def children(parent: int) -> list[int]:
    """The living children of a process of one thread."""
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    if listed.exists():
        return [int(pid) for pid in listed.read_text(encoding="ascii").split()]
    return [one.pid for one in processes().values() if one.parent == parent and not one.zombie]


def descendants(ancestor: int, table: dict[int, Process] | None = None) -> list[int]:
    """Living descendants of a process, its children first."""
    table = processes() if table is None else table
    by_parent: dict[int, list[int]] = {}
    for process in table.values():
        by_parent.setdefault(process.parent, []).append(process.pid)
    found: list[int] = []
    waiting = list(by_parent.get(ancestor, ()))
    while waiting:
        pid = waiting.pop(0)
        if not table[pid].zombie:
            found.append(pid)
        waiting.extend(by_parent.get(pid, ()))
    return found


def ancestors(pid: int, table: dict[int, Process] | None = None) -> list[int]:
    table = processes() if table is None else table
    found: list[int] = []
    while pid in table and pid not in found:
        found.append(pid)
        pid = table[pid].parent
    return found


def marked(value: str) -> list[int]:
    """Processes whose environment carries our mark with this value, without this process and its ancestors."""
    ours = ancestors(os.getpid())
    wanted = f"{MARK}={value}"
    pids = _marked_of_proc(wanted) if LINUX else _marked_of_ps(wanted)
    return [pid for pid in pids if pid not in ours]


def _marked_of_proc(wanted: str) -> list[int]:
    found = []
    for pid, process in processes().items():
        if process.zombie:
            continue
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue  # it ended, or it is somebody else's
        if wanted.encode() in environment.split(b"\0"):
            found.append(pid)
    return found


def _marked_of_ps(wanted: str) -> list[int]:
    listing = subprocess.run(["ps", "-axEww", "-o", "pid=,command="], capture_output=True, text=True, check=True)
    return [int(line.split()[0]) for line in listing.stdout.splitlines() if f" {wanted} " in f"{line} "]


def send(pids: list[int], signum: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            continue  # it ended by itself


def kill_descendants(*, spare: frozenset[int] = frozenset()) -> None:
    """Kill this process's whole family, again and again until none is left: a child may fork while we look.

    Callers that adopt orphans also see the children of those just killed. `spare` are pids left alone with
    everything below them.
    """
    me = os.getpid()
    # Where orphans cannot be adopted, those seen now must be remembered: killing their parent hides them.
    remembered: set[int] = set()
    deadline = time.monotonic() + KILL_PATIENCE_SECONDS
    while time.monotonic() < deadline:
        table = processes()
        spared = {pid for root in spare for pid in (root, *descendants(root, table))}
        remembered.update(pid for pid in descendants(me, table) if pid not in spared)
        alive = [pid for pid in remembered if pid in table and not table[pid].zombie]
        if not alive:
            return
        send(alive, signal.SIGKILL)
        reap_adopted(spare)
        time.sleep(0.02)


def reap_adopted(spare: frozenset[int]) -> None:
    """Collect the ended children nobody else waits for."""
    me = os.getpid()
    for process in processes().values():
        if process.zombie and process.parent == me and process.pid not in spare:
            try:
                os.waitpid(process.pid, os.WNOHANG)
            except ChildProcessError:
                continue  # its Popen object was quicker


def kill_marked(value: str) -> list[int]:
    """Kill what a suite of this name left behind; returns the pids found first."""
    first = found = marked(value)
    deadline = time.monotonic() + KILL_PATIENCE_SECONDS
    while found and time.monotonic() < deadline:
        send(found, signal.SIGKILL)
        time.sleep(0.02)
        found = marked(value)
    return first


def command_line(pid: int) -> str:
    """A process's command, or an empty string if it cannot be told."""
    if LINUX:
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return ""
        return raw.replace(b"\0", b" ").decode(errors="replace").strip()
    listing = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listing.stdout.strip()
