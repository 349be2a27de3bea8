"""Other gateways behind the same provider: one worker each, no database, as their own documents start them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.load import scratch, subjects, upstream
from tests.load.subjects import PLAIN, Subject
from tests.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = LITELLM, PORTKEY = "LiteLLM proxy", "Portkey gateway"
LITELLM_VERSION, PORTKEY_VERSION = "1.106.2", "1.15.2"
_MASTER_KEY = "sk-benchmark"
_START_S = 180.0


@contextlib.contextmanager
def running(provider_port: int) -> Iterator[list[Subject]]:
    """The peers, if PEERS=1 asks for them."""
    if os.environ.get("PEERS") != "1":
        yield []
        return
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        started = []
        for start in (_litellm, _portkey):
            started.append(start(provider_port, folder))
            stack.callback(started[-1].stop)
        yield started


def _litellm(provider_port: int, folder: Path) -> Subject:
    programs = scratch.from_pypi("litellm", f"litellm[proxy]=={LITELLM_VERSION}")
    parameters = {
        "model": f"openai/{upstream.MODEL}",
        "api_base": f"http://127.0.0.1:{provider_port}/api/v1",
        "api_key": "sk-or-v1-benchmark",
    }
    config = {
        "model_list": [{"model_name": upstream.MODEL, "litellm_params": parameters}],
        "general_settings": {"master_key": _MASTER_KEY},
        "litellm_settings": {"telemetry": False},
    }
    # YAML is a superset of JSON.
    (folder / "litellm.yaml").write_text(json.dumps(config))
    port = free_port()
    address = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    command = [str(programs / "litellm"), "--config", str(folder / "litellm.yaml"), *address]
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    requests = subjects.completions("/v1/chat/completions", Authorization=f"Bearer {_MASTER_KEY}")
    process = subjects.start(command, folder, scratch.FOLDER / "litellm-run.log", environment)
    subject = Subject(LITELLM, port, process.pid, requests, stop=lambda: subjects.end(process))
    subjects.wait_until(lambda: _answers(subject), process, _START_S, pause_s=0.5)
    return subject


def _portkey(provider_port: int, folder: Path) -> Subject:
    package = scratch.from_npm("portkey", f"@portkey-ai/gateway@{PORTKEY_VERSION}")
    node = shutil.which("node")
    assert node is not None, "Node is what runs it"
    port = free_port()
    command = [node, str(package / "build" / "start-server.js"), f"--port={port}", "--headless"]
    requests = subjects.completions(
        "/v1/chat/completions",
        Authorization="Bearer sk-or-v1-benchmark",
        x_portkey_provider="openrouter",
        x_portkey_custom_host=f"http://127.0.0.1:{provider_port}/api/v1",
    )
    process = subjects.start(command, folder, scratch.FOLDER / "portkey-run.log", {"NODE_ENV": "production"})
    # Each streamed request ends in status 500, "TypeError: immutable": Portkey-AI/gateway#1389 and #1550.
    subject = Subject(PORTKEY, port, process.pid, requests, stop=lambda: subjects.end(process), shapes=(PLAIN,))
    subjects.wait_until(lambda: _answers(subject), process, _START_S, pause_s=0.5)
    return subject


def _answers(subject: Subject) -> bool:
    return subjects.ask(subject.port, next(subject.requests(PLAIN))).status == 200
