"""Programs that only the benchmark needs, installed from the registries on first use, away from the project's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from typing import TYPE_CHECKING

from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FOLDER = ROOT / ".suite" / "peers"
_MARK = "installed"


def from_pypi(name: str, *requirements: str) -> Path:
    """The folder of programs of a virtual environment with these packages."""
    folder = FOLDER / name
    python = folder / "bin" / "python"
    if not (folder / _MARK).exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        _install(name, folder, [str(python), "-m", "pip", "install", "--quiet", *requirements])
    return python.parent


def from_npm(name: str, package: str) -> Path:
    """The folder of an installed package."""
    folder = FOLDER / name
    npm = shutil.which("npm")
    assert npm is not None, "npm is what installs it"
    if not (folder / _MARK).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _install(name, folder, [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), package])
    return folder / "node_modules" / package.rpartition("@")[0]


def _install(name: str, folder: Path, command: Sequence[str]) -> None:
    print(f"… installing {name} (once; a minute or two)", file=sys.stderr, flush=True)
    with (FOLDER / f"{name}.log").open("wb") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if code != 0:
        sys.exit(f"{name} could not be installed; {FOLDER / name}.log says why")
    (folder / _MARK).touch()
