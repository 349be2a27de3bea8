"""A deployed process that would believe unsigned tokens does not start, and says why."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared import startup

ROOT = Path(__file__).parents[3]
EMULATOR_HOSTS = ["FIREBASE_AUTH_EMULATOR_HOST", "FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST"]

# Tells, whatever becomes of the import, what the process had loaded by then.
IMPORT_MAIN = """
import atexit, sys
heavy = ("flask", "pydantic", "firebase_admin", "firebase_functions", "google.cloud.firestore", "redis")
atexit.register(lambda: print("loaded:", *[name for name in heavy if name in sys.modules]))
import main
"""


@pytest.fixture(autouse=True)
def _bare_process(monkeypatch):
    for name in [*os.environ]:
        if name.endswith("_EMULATOR_HOST") or name in {"FUNCTIONS_EMULATOR", "K_CONFIGURATION", "K_SERVICE"}:
            monkeypatch.delenv(name)


def test_a_plain_process_may_start():
    startup.prepare()


def test_a_deployed_process_may_start(monkeypatch):
    monkeypatch.setenv("K_CONFIGURATION", "chat")
    monkeypatch.setenv("K_SERVICE", "chat")
    startup.prepare()


def test_the_emulator_may_have_emulators(monkeypatch):
    monkeypatch.setenv("FUNCTIONS_EMULATOR", "true")
    for name in EMULATOR_HOSTS:
        monkeypatch.setenv(name, "127.0.0.1:9")
    startup.prepare()


@pytest.mark.parametrize("name", [*EMULATOR_HOSTS, "STORAGE_EMULATOR_HOST", "FIREBASE_STORAGE_EMULATOR_HOST"])
@pytest.mark.parametrize("deployed", [False, True])
def test_outside_the_emulator_an_emulators_address_is_refused_by_name(monkeypatch, name, deployed):
    monkeypatch.setenv(name, "127.0.0.1:9")
    if deployed:
        monkeypatch.setenv("K_CONFIGURATION", "chat")
    with pytest.raises(SystemExit, match=name) as refusal:
        startup.prepare()
    assert refusal.value.code not in {None, 0}


def test_an_empty_address_is_refused_too(monkeypatch):
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", "")
    with pytest.raises(SystemExit, match="FIREBASE_AUTH_EMULATOR_HOST"):
        startup.prepare()


def test_all_addresses_are_named_at_once(monkeypatch):
    for name in EMULATOR_HOSTS:
        monkeypatch.setenv(name, "127.0.0.1:9")
    with pytest.raises(SystemExit, match=", ".join(sorted(EMULATOR_HOSTS))):
        startup.prepare()


def test_a_deployed_process_that_takes_itself_for_the_emulator_is_refused(monkeypatch):
    monkeypatch.setenv("FUNCTIONS_EMULATOR", "true")
    monkeypatch.setenv("K_CONFIGURATION", "chat")
    with pytest.raises(SystemExit, match="FUNCTIONS_EMULATOR"):
        startup.prepare()


@pytest.mark.parametrize("value", ["false", "1", "TRUE", ""])
def test_only_true_means_the_emulator(monkeypatch, value):
    monkeypatch.setenv("FUNCTIONS_EMULATOR", value)
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", "127.0.0.1:9")
    with pytest.raises(SystemExit, match="FIREBASE_AUTH_EMULATOR_HOST"):
        startup.prepare()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"K_CONFIGURATION": "x", "FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:9"}, "FIREBASE_AUTH_EMULATOR_HOST"),
        ({"K_CONFIGURATION": "x", "FUNCTIONS_EMULATOR": "true"}, "FUNCTIONS_EMULATOR"),
        ({"FIRESTORE_EMULATOR_HOST": "127.0.0.1:9"}, "FIRESTORE_EMULATOR_HOST"),
    ],
)
def test_a_real_process_stops_before_it_imports_anything_heavy(environment, named):
    process = subprocess.run(
        [sys.executable, "-c", IMPORT_MAIN],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "FUNCTION_TARGET": "system",
            "GCLOUD_PROJECT": "demo-craftpilot",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode != 0
    assert named in process.stderr
    assert "Traceback" not in process.stderr
    assert process.stdout.split() == ["loaded:"]
