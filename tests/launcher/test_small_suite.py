"""What a launcher does with its parts: it reports those that fail, runs a command beside them, and keeps others out."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

import psutil
import pytest

from emulator.block import Block, running
from emulator.ports import free_ports

pytestmark = pytest.mark.enable_socket
READY = "import time; print('ready', flush=True); time.sleep(600)"
STEADY = {"name": "steady", "arguments": ["-c", READY]}


def block_of(launcher) -> Block:
    return Block("small", {}, (), launcher.root)


def test_a_part_that_cannot_start_is_named_with_its_last_words(launch):
    launcher = launch(STEADY, {"name": "broken", "arguments": ["-c", "raise SystemExit('no such table')"]})

    assert launcher.wait_ended() == 1
    said = launcher.output.read_text()
    assert "broken ended with exit code 1" in said
    assert "no such table" in said
    assert "Traceback" not in said
    assert launcher.everything() == []


def test_a_part_that_lives_but_says_it_cannot_work_is_a_failed_start(launch):
    script = "import time; print('cannot go on: main.py is broken', flush=True); time.sleep(600)"
    launcher = launch({"name": "stuck", "arguments": ["-c", script]})

    assert launcher.wait_ended() == 1
    assert "main.py is broken" in launcher.output.read_text()
    assert launcher.everything() == []


def test_a_port_that_is_not_served_any_more_ends_the_suite_although_the_part_lives(launch):
    (port,) = free_ports(1)
    script = (
        "import socket, time; s = socket.create_server(('127.0.0.1', int('{door}'))); "
        "print('ready', flush=True); time.sleep(4); s.close(); time.sleep(600)"
    ).replace("{door}", str(port))
    launcher = launch({"name": "shop", "arguments": ["-c", script], "ports": {"door": port}})
    launcher.wait_started()

    assert launcher.wait_ended() == 1
    assert f"door stopped listening on port {port}" in launcher.output.read_text()


def test_a_taken_port_is_named_with_its_holder_before_anything_starts(launch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        launcher = launch({"name": "shop", "arguments": ["-c", READY], "ports": {"door": port}})

        assert launcher.wait_ended() == 1

    said = launcher.output.read_text()
    assert f"{port} (door) is held by process {os.getpid()}: {psutil.Process().cmdline()[0]}" in said
    assert not (launcher.root / ".suite/small/logs/shop.log").exists()


def test_the_exit_code_of_the_command_is_the_launchers(launch):
    launcher = launch(STEADY, command=(sys.executable, "-c", "raise SystemExit(7)"))

    assert launcher.wait_ended() == 7
    assert launcher.everything() == []


def test_the_command_sees_the_suites_environment(launch):
    script = "import json, os; json.dump(dict(os.environ), open('seen.json', 'w'))"
    launcher = launch(STEADY, command=(sys.executable, "-c", script))

    assert launcher.wait_ended() == 0
    seen = json.loads((launcher.root / "seen.json").read_text())
    assert seen["GCLOUD_PROJECT"] == seen["GOOGLE_CLOUD_PROJECT"] == "demo-craftpilot"
    assert seen["CRAFTPILOT_SUITE_LOGS"] == str(launcher.root / ".suite/small/logs")


def test_a_command_that_does_not_exist_is_a_failure_without_a_stack_trace(launch):
    launcher = launch(STEADY, command=("no-such-command",))

    assert launcher.wait_ended() == 127
    said = launcher.output.read_text()
    assert "no-such-command: No such file or directory" in said
    assert "Traceback" not in said


def test_a_parts_death_ends_the_command(launch):
    script = "import time; print('ready', flush=True); time.sleep(2)"
    launcher = launch(
        {"name": "short", "arguments": ["-c", script]}, command=(sys.executable, "-c", "import time; time.sleep(600)")
    )

    assert launcher.wait_ended() == 1
    assert "short ended with exit code 0" in launcher.output.read_text()
    assert launcher.everything() == []


def test_sigterm_to_the_launcher_ends_the_command_and_what_it_started(launch):
    script = "import subprocess, time; subprocess.Popen(['sleep', '600'], start_new_session=True); time.sleep(600)"
    launcher = launch(STEADY, command=(sys.executable, "-c", script))
    launcher.wait_until(
        lambda: ["sleep", "600"] in [one.cmdline() for one in launcher.members()], "the command's child"
    )

    launcher.process.send_signal(signal.SIGTERM)

    assert launcher.wait_ended() == 128 + signal.SIGTERM
    assert launcher.everything() == []


def test_a_second_suite_in_the_same_block_is_refused_and_the_first_lives_on(launch):
    first = launch(STEADY)
    first.wait_started()

    second = launch(STEADY)

    assert second.wait_ended() == 1
    assert f"A suite already runs in the block 'small' (process {first.process.pid})" in second.output.read_text()
    assert first.process.poll() is None
    assert len(first.members()) == 1


def test_a_running_suite_is_found_by_its_block_and_a_stopped_or_killed_one_is_not(launch):
    launcher = launch(STEADY)
    launcher.wait_started()

    facts = running(block_of(launcher))
    assert facts is not None
    assert facts["pid"] == launcher.process.pid
    assert facts["environment"]["GCLOUD_PROJECT"] == "demo-craftpilot"

    launcher.process.kill()
    launcher.wait_ended()
    assert running(block_of(launcher)) is None
