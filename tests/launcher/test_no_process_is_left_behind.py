"""However a suite ends, none of its processes outlives it: detached ones, orphans, and those deaf to signals."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS has no way to adopt orphans")

HERE = Path(__file__).parent
FAMILY = {"name": "family", "arguments": [str(HERE / "family.py")]}
NEIGHBOUR = {"name": "neighbour", "arguments": ["-c", "import time; print('ready', flush=True); time.sleep(600)"]}


@pytest.fixture
def suite(launch):
    launcher = launch(FAMILY, NEIGHBOUR)
    launcher.wait_started()
    assert len(launcher.members()) == 5  # the family of four and the neighbour
    return launcher


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_launcher_ends_every_process(suite, signum):
    suite.process.send_signal(signum)

    assert suite.wait_ended() == 128 + signum
    assert suite.everything() == []


def test_a_second_ctrl_c_does_not_cut_the_stop_short(suite):
    suite.process.send_signal(signal.SIGINT)
    suite.process.send_signal(signal.SIGINT)

    assert suite.wait_ended() == 128 + signal.SIGINT
    assert suite.everything() == []


def test_kill_9_of_the_launcher_ends_every_process(suite):
    suite.process.kill()

    suite.wait_ended()
    suite.wait_nothing_left()


def test_kill_9_of_a_part_ends_the_suite_and_names_the_part(suite):
    part = next(one for one in suite.members() if one.cmdline()[-1].endswith("family.py"))

    part.kill()

    assert suite.wait_ended() == 1
    assert suite.everything() == []
    said = suite.output.read_text()
    assert "family was ended by signal 9" in said
    assert str(suite.root / ".suite/small/logs/family.log") in said


def test_kill_9_of_a_guard_ends_the_suite_and_its_part_too(suite):
    suite.guard_of(str(HERE / "family.py")).kill()

    assert suite.wait_ended() == 1
    assert suite.everything() == []


def test_what_survives_when_launcher_and_guards_are_killed_at_once_is_ended_by_the_next_start(suite, launch):
    guards = [one for one in suite.everything() if "emulator.guard" in one.cmdline()]
    for one in [suite.process, *guards]:
        one.send_signal(signal.SIGSTOP)  # so that none acts on the end of another
    for one in [suite.process, *guards]:
        one.send_signal(signal.SIGKILL)
    suite.wait_ended()
    survivors = {one.pid for one in suite.everything()}
    assert survivors  # those whose parent was not the guard

    second = launch(NEIGHBOUR)
    second.wait_started()

    assert survivors.isdisjoint(one.pid for one in second.everything())
    assert "processes that an earlier launcher left behind" in second.output.read_text()


def test_an_orphan_of_a_part_is_told_to_leave_while_the_part_lives_on(launch):
    leaver = "import subprocess as s; s.Popen(['sleep', '600'], start_new_session=True)"
    script = (
        "import subprocess, sys, time; print('ready', flush=True);"
        f"subprocess.run([sys.executable, '-c', {leaver!r}]); time.sleep(600)"
    )
    launcher = launch({"name": "leaky", "arguments": ["-c", script]})
    launcher.wait_started()

    def leaks() -> list[psutil.Process]:
        return [one for one in launcher.members() if one.cmdline() == ["sleep", "600"]]

    launcher.wait_until(lambda: bool(leaks()), "the leak")
    launcher.wait_until(lambda: not leaks(), "the end of the leak")
    assert len(launcher.members()) == 1
    assert launcher.process.poll() is None
