"""Which ports of this machine are taken, and by whom."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from emulator import process_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HOST = "127.0.0.1"
LISTENING = "0A"


def listening() -> dict[int, str]:
    """Every TCP port that has a listener → the socket's inode. Linux only: reading costs its owner nothing."""
    found = {}
    for table in ("tcp", "tcp6"):
        file = Path("/proc/net", table)
        if file.exists():
            for line in file.read_text(encoding="ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING:
                    found[int(fields[1].rpartition(":")[2], 16)] = fields[9]
    return found


def served(numbers: Iterable[int]) -> set[int]:
    """Those of the given ports that somebody listens on."""
    if process_table.LINUX:
        return set(numbers) & listening().keys()
    return {number for number in numbers if _connects(number)}


def _connects(number: int) -> bool:
    try:
        socket.create_connection((HOST, number), timeout=1.0).close()
    except OSError:
        return False
    return True


def taken(numbers: Mapping[str, int]) -> dict[str, int]:
    """Name → number of the ports that could not be listened on."""
    busy = served(numbers.values())
    return {name: number for name, number in numbers.items() if number in busy or not _bindable(number)}


def _bindable(number: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, number))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports the system gives out now. Held until all are known, so they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def holder(number: int) -> str:
    """Who listens on a port, in words; an unknown holder is another user's process."""
    pid = _holder_on_linux(number) if process_table.LINUX else _holder_by_lsof(number)
    if pid is None:
        return "a process this user may not see"
    command = process_table.command_line(pid)
    shown = command if len(command) <= 100 else f"{command[:97]}…"  # noqa: PLR2004 - the width of a line
    return f"process {pid}: {shown}"


def _holder_on_linux(number: int) -> int | None:
    inode = listening().get(number)
    if inode is None:
        return None
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are wanted
        if entry.isdigit() and _has_socket(Path("/proc", entry, "fd"), inode):
            return int(entry)
    return None


def _has_socket(descriptors: Path, inode: str) -> bool:
    try:
        return any(str(descriptor.readlink()) == f"socket:[{inode}]" for descriptor in descriptors.iterdir())
    except OSError:
        return False  # it ended, or it is somebody else's


def _holder_by_lsof(number: int) -> int | None:
    if shutil.which("lsof") is None:
        return None
    command = ["lsof", "-nP", "-t", f"-iTCP:{number}", "-sTCP:LISTEN"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return int(answer[0]) if answer else None
