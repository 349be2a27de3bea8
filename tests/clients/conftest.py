"""Client tests run real client libraries, as separate programs, against the running local suite.

The packages under js/ are installed when they are missing or the lock file has changed. `ai` is the current AI SDK;
`ai-strict` is an older one whose schema of stream chunks refuses unknown fields, which the current one lets pass.

Programs in Python stand under python/. Those of the OpenAI SDK's older line and of LangChain have packages of their
own, in `.suite/clients`; the newer line is among the product's.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.suite.support import Suite, User, give_credits, set_account, sign_up

ROOT = Path(__file__).parents[2]
JS = Path(__file__).parent / "js"
PYTHON = Path(__file__).parent / "python"
INSTALL_S = 300
SCRIPT_S = 100
FAULTY_MODEL = "z-ai/glm-4.6"
INSTALLING_TAKES_ITS_TIME = pytest.mark.timeout(func_only=True)
"""The first run installs packages inside a fixture, which `INSTALL_S` bounds and not the time of a test."""
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
            [node, name, *arguments],
            cwd=JS,
            env=os.environ | {"CRAFTPILOT_FAULTY_MODEL": FAULTY_MODEL},
            capture_output=True,
            text=True,
            timeout=SCRIPT_S,
            check=False,
        )
        assert ended.returncode == 0, f"{name} failed:\n{ended.stdout}{ended.stderr}"
        report: dict[str, Any] = json.loads(ended.stdout)
        return report

    return run


@pytest.fixture(scope="session")
def python_packages() -> Callable[[str], Path]:
    """Installs what a list of python/ pins into a folder of its own, beside the packages of the product."""

    def install(name: str) -> Path:
        wanted = PYTHON / f"{name}.txt"
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        folder = ROOT / ".suite" / "clients" / f"{name}-python{version}"
        stamp = folder / ".list-digest"
        digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
        if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        command = [*pip, "--no-deps", "--target", str(folder), "--requirement", str(wanted)]
        installed = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        assert installed.returncode == 0, f"pip install failed:\n{installed.stdout}{installed.stderr}"
        stamp.write_text(digest, encoding="utf-8")
        return folder

    return install


@pytest.fixture(scope="session")
def openai_program(request: pytest.FixtureRequest, python_packages: Callable[[str], Path]) -> Script:
    """Runs a program written for OpenAI's API as a user of their own each time; gives the JSON document it prints."""

    def run(name: str, door: str) -> dict[str, Any]:
        environment = os.environ | _openai_environment(door)
        if name.endswith(".mjs"):
            request.getfixturevalue("packages")
            command, folder = [request.getfixturevalue("node"), name.replace(".mjs", "_scenario.mjs")], JS
        else:
            folder = PYTHON
            command = [sys.executable, f"{name.partition('-')[0]}_scenario.py"]
            if name != "openai":
                environment["PYTHONPATH"] = str(python_packages(name))
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SCRIPT_S, check=False
        )
        assert ended.returncode == 0, f"{command} failed:\n{ended.stdout}{ended.stderr}"
        report: dict[str, Any] = json.loads(ended.stdout)
        return report

    return run


def _openai_environment(door: str) -> dict[str, str]:
    """Where the API is, and the keys of two users: one with a plan and credits, one with neither."""
    suite = Suite()
    base = suite.hosting if door == "hosting" else f"{suite.functions}/openai_api"
    rich, poor = sign_up(suite), sign_up(suite)
    set_account(rich, plan="enterprise")
    give_credits(rich, 10_000)
    return {
        "CRAFTPILOT_FAULTY_MODEL": FAULTY_MODEL,
        "OPENAI_BASE_URL": f"{base}/v1",
        "OPENAI_API_KEY": _api_key(rich),
        "CRAFTPILOT_POOR_KEY": _api_key(poor),
    }


def _api_key(user: User) -> str:
    scopes = ["chat:read", "chat:write", "models:read"]
    answer = user.api("POST", "/api/v1/api-keys", {"name": "programs", "scopes": scopes})
    assert answer.status == 201, answer
    key: str = answer.json["key"]
    return key


@pytest.fixture(scope="module")
def provider_fault() -> Iterator[Fault]:
    """Makes the provider behave in the named way for the next chat completions of `FAULTY_MODEL`."""
    url = f"{os.environ['CRAFTPILOT_OPENROUTER_URL']}/_standin/faults"

    def ask(method: str, body: dict[str, Any] | None = None) -> None:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=10).close()

    def queue(fault: str, times: int = 1) -> None:
        ask("POST", {"times": times, "match": {"path": "/chat/completions", "model": FAULTY_MODEL}, "faults": fault})

    yield queue
    ask("DELETE")
