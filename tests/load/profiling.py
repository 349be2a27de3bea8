"""Where a function's processor time goes: its application, asked in a process of its own under Python's profiler.

One request after the other, on one thread, by that thread's own clock: waiting counts nothing. A sampler outside the
process was tried; it cannot tell threads that work from those that wait for the interpreter's lock. Calls of Python
functions weigh more here than they do without a profiler.
"""

from __future__ import annotations

import cProfile
import io
import os
import pickle
import pstats
import subprocess
import sys
import time
from collections import Counter
from email.parser import BytesParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WARM_UP, PROFILED = 150, 300
SHOWN = 40
_ROOT = Path(__file__).parents[2]
_STDOUT = 1
_BUILT_IN = "~"


def shown(target: str, requests: Iterable[bytes], cost_ms: float) -> str:
    """The parts of one request, whose cost was measured beside; by package they add up to it."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.load.profiling"],
        cwd=_ROOT,
        env={**os.environ, "FUNCTION_TARGET": target},
        input=pickle.dumps((target, list(requests), cost_ms)),
        stdout=subprocess.PIPE,
        check=True,
    )
    return ended.stdout.decode()


def main() -> None:
    target, requests, cost_ms = pickle.load(sys.stdin.buffer)
    from functions_framework import create_app  # the parent of this process needs none of it

    app = create_app(target, "main.py", "http")
    asked = [_environ(request) for request in requests]
    report, devnull = os.dup(_STDOUT), os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, _STDOUT)  # there the function writes its log
    for environ in asked[:WARM_UP]:
        _ask(app, environ)
    profiler = cProfile.Profile(time.thread_time)
    profiler.enable()
    for environ in asked[WARM_UP:]:
        _ask(app, environ)
    profiler.disable()
    os.write(report, _described(pstats.Stats(profiler).stats, cost_ms).encode())  # type: ignore[attr-defined]


def _environ(request: bytes) -> dict[str, Any]:
    from werkzeug.test import EnvironBuilder

    head, _, body = request.partition(b"\r\n\r\n")
    line, _, fields = head.partition(b"\r\n")
    method, path, _ = line.decode().split(" ")
    headers = list(BytesParser().parse(io.BytesIO(fields + b"\r\n\r\n"), headersonly=True).items())
    environ: dict[str, Any] = EnvironBuilder(path, method=method, headers=headers, data=body).get_environ()
    return environ


def _ask(app: Callable[..., Any], environ: dict[str, Any]) -> None:
    said: list[str] = []
    answer = app(environ, lambda status, _headers, _error=None: said.append(status))
    for _ in answer:
        pass
    answer.close()
    assert said[0].startswith("200"), said


def _described(stats: dict[tuple[str, int, str], Any], cost_ms: float) -> str:
    packages, own, whole = Counter[str](), Counter[str](), Counter[str]()
    for (file, _, function), (_, _, own_s, whole_s, callers) in stats.items():
        name = f"{function} ({_package_of(file)})"
        own[name] += own_s
        whole[name] = max(whole[name], whole_s)
        if file == _BUILT_IN:  # what is written in C belongs to who calls it
            for (caller, _, _), (_, _, of_it_s, _) in callers.items():
                packages[_package_of(caller)] += of_it_s
        else:
            packages[_package_of(file)] += own_s
    scale = cost_ms / packages.total()
    lines = []
    for title, counted in (("by package", packages), ("own time", own), ("with all it calls", whole)):
        lines.append(f"  {title}")
        lines += [f"    {seconds * scale:6.2f} ms  {name}" for name, seconds in counted.most_common(SHOWN)]
    return "\n".join(lines)


def _package_of(file: str) -> str:
    """`functions/chat` and `shared/http` for ours, the distribution or the module for others'."""
    path = Path(file)
    if path.is_relative_to(_ROOT) and "site-packages" not in path.parts:
        return "/".join(path.relative_to(_ROOT).parts[:2])
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1]
    return path.parent.name if path.name == "__init__.py" else path.name


if __name__ == "__main__":
    main()
