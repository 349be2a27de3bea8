"""The real emulators: what firebase-tools detaches and orphans ends with the suite; settings reach the functions."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emulator.block import ROOT, Block, shifted
from emulator.parts import PARTS

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.timeout(300),  # the emulators start in ten seconds on a quiet machine, in a minute on a busy one
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS has no way to adopt orphans"),
]
# Two test processes start a suite each at the same time; neither meets the other, nor the blocks dev and test.
OFFSET = {"gw1": 17_300}.get(os.environ.get("PYTEST_XDIST_WORKER", ""), 20_700)
NUMBERS = shifted(PARTS, OFFSET)
FUNCTIONS = f"http://127.0.0.1:{NUMBERS['functions']}/demo-craftpilot/us-central1"
MAIN = '''
"""One function of each kind that the suite must serve."""
import json
from firebase_functions import https_fn, scheduler_fn
from firebase_functions.params import SecretParam, StringParam

BASE, REDIS, LATER = StringParam("OPENROUTER_BASE_URL"), StringParam("REDIS_URL"), StringParam("LATER", default="later")
KEY = SecretParam("OPENROUTER_API_KEY")

@https_fn.on_request(secrets=[KEY])
def seen(request):
    return https_fn.Response(json.dumps([BASE.value, REDIS.value, LATER.value, KEY.value]))

@scheduler_fn.on_schedule(schedule="every 1 minutes")
def minutely(event):
    print("the minute has passed", flush=True)
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for linked in ("venv", "emulator"):
        (tmp_path / linked).symlink_to(ROOT / linked)
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "requirements.txt").write_text("firebase-functions\n")
    (tmp_path / "public").mkdir()
    (tmp_path / "firestore.rules").write_bytes((ROOT / "firestore.rules").read_bytes())
    config = {
        "functions": {"source": ".", "ignore": ["venv", "emulator", ".*"]},
        "hosting": {"public": "public"},
        "firestore": {"rules": "firestore.rules"},
    }
    (tmp_path / "firebase.json").write_text(json.dumps(config))
    return tmp_path


@pytest.fixture
def suite(launch_script, project):
    launcher = launch_script("whole_suite.py", str(project), str(OFFSET), block="whole")
    launcher.wait_until(lambda: launcher.has_started() or launcher.process.poll() is not None, "start", 240)
    assert launcher.has_started(), launcher.output.read_text()
    return launcher


def ask() -> list[str]:
    with urllib.request.urlopen(f"{FUNCTIONS}/seen", timeout=60) as answer:
        answered: list[str] = json.loads(answer.read())
        return answered


def ask_at_once(count: int) -> list[list[str]]:
    """Each concurrent request makes the emulator start a process tree of its own."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: ask(), range(count)))


def test_ctrl_c_ends_the_emulators_and_every_worker(suite):
    answers = ask_at_once(3)

    block = Block("whole", NUMBERS)
    expected = [block.settings["OPENROUTER_BASE_URL"], block.settings["REDIS_URL"], "later", "sk-or-v1-local-suite"]
    assert answers == [expected] * 3
    assert len([one for one in suite.members() if "functions-framework" in " ".join(one.cmdline())]) >= 3
    suite.process.send_signal(signal.SIGINT)
    assert suite.wait_ended() == 128 + signal.SIGINT
    assert suite.everything() == []


def test_kill_9_of_the_launcher_ends_the_emulators_and_every_worker(suite):
    ask_at_once(2)

    suite.process.kill()

    suite.wait_ended()
    suite.wait_nothing_left()


def test_kill_9_of_an_emulator_that_firebase_tools_started_ends_the_suite_by_name(suite):
    firestore = next(one for one in suite.members() if "firestore.jar" in " ".join(one.cmdline()))

    firestore.kill()

    assert suite.wait_ended() == 1
    assert f"firestore stopped listening on port {NUMBERS['firestore']}" in suite.output.read_text()
    assert suite.everything() == []


def test_a_scheduled_function_fires_when_its_minute_comes(suite, project):
    log = project / ".suite/whole/logs/scheduler.log"

    suite.wait_until(lambda: "us-central1-minutely-0 (every 1 minutes) → 200" in log.read_text(), "the firing", 100)

    assert "the minute has passed" in (project / ".suite/whole/logs/firebase.log").read_text()
    suite.process.send_signal(signal.SIGTERM)
    assert suite.wait_ended() == 128 + signal.SIGTERM
    assert suite.everything() == []
