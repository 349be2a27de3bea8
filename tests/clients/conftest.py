"""Client tests run real client libraries in Node, as separate programs, against the running local suite.

The packages under js/ are installed when they are missing or the lock file has changed. `ai` is the current AI SDK;
`ai-strict` is an older one whose schema of stream chunks refuses unknown fields, which the current one lets pass.
"""

import hashlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

JS = Path(__file__).parent / "js"
INSTALL_S = 300
SCRIPT_S = 100
NEEDED = (
    "FIREBASE_AUTH_EMULATOR_HOST",
    "FIRESTORE_EMULATOR_HOST",
    "CRAFTPILOT_FUNCTIONS_URL",
    "CRAFTPILOT_OPENROUTER_URL",
)

Script = Callable[..., dict[str, Any]]
Fault = Callable[..., None]


@pytest.fixture(scope="session", autouse=True)
def suite_environment() -> None:
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        pytest.exit(
            f"The client tests run inside the local suite, which sets {', '.join(missing)}: "
            "python3 -m emulator run --block test -- pytest tests/clients",
            returncode=2,
        )


@pytest.fixture(scope="session")
def node() -> str:
    found = os.environ.get("CRAFTPILOT_NODE") or shutil.which("node")
    if found is None:
        pytest.exit("The client tests need Node: set CRAFTPILOT_NODE or put `node` on PATH.", returncode=2)
    return found


@pytest.fixture(scope="session")
def packages(node: str) -> None:
    """`npm ci` when what is installed is not what the lock file says. No package of ours needs an install script."""
    stamp = JS / "node_modules" / ".lock-digest"
    digest = hashlib.sha256((JS / "package-lock.json").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return
    command = [*_npm(node), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    path = f"{Path(node).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    installed = subprocess.run(
        command,
        cwd=JS,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    assert installed.returncode == 0, f"npm ci failed:\n{installed.stdout}{installed.stderr}"
    stamp.write_text(digest, encoding="utf-8")


def _npm(node: str) -> list[str]:
    """The npm of this Node: some distributions bring npm's files without a command."""
    bundled = Path(node).resolve().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [node, str(bundled)] if bundled.exists() else ["npm"]


@pytest.fixture(scope="session")
def script(node: str, packages: None) -> Script:  # the packages must be there first
    """Runs a script of js/ and gives the JSON document it prints."""

    def run(name: str, *arguments: str) -> dict[str, Any]:
        ended = subprocess.run(
            [node, name, *arguments], cwd=JS, capture_output=True, text=True, timeout=SCRIPT_S, check=False
        )
        assert ended.returncode == 0, f"{name} failed:\n{ended.stdout}{ended.stderr}"
        report: dict[str, Any] = json.loads(ended.stdout)
        return report

    return run


@pytest.fixture(scope="module")
def provider_fault() -> Iterator[Fault]:
    """Makes the provider behave in the named way for the next chat completions."""
    url = f"{os.environ['CRAFTPILOT_OPENROUTER_URL']}/_standin/faults"

    def ask(method: str, body: dict[str, Any] | None = None) -> None:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=10).close()

    def queue(fault: str, times: int = 1) -> None:
        ask("POST", {"times": times, "match": {"path": "/chat/completions"}, "faults": fault})

    yield queue
    ask("DELETE")
