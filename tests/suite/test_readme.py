"""What the README promises, run as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_curl_commands_of_the_readme_work(suite):
    readme = (ROOT / "README.md").read_text()
    section = readme.split("## Talk to it yourself")[1]
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", section.split("\n## ")[0], re.DOTALL))
    for local, here in (
        ("http://127.0.0.1:9099", f"http://{os.environ['FIREBASE_AUTH_EMULATOR_HOST']}"),
        ("http://127.0.0.1:5001/demo-craftpilot/us-central1", suite.functions),
        ("http://127.0.0.1:5000", suite.hosting),
    ):
        commands = commands.replace(local, here)
    done = subprocess.run(["bash", "-euc", commands], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    for expected in ("text-delta", "data: [DONE]", '"user_message"', '"available"', '"previous_hash"'):
        assert expected in done.stdout
    for expected in ('"permission":', "ratelimit", '"field": "role"', '"name":"firestore","state":"up"'):
        assert expected in done.stdout.lower().replace('"permission": ', '"permission":')
    first, second = re.findall(r'^{"id":"(conv_\w+)"', done.stdout, re.MULTILINE)[-2:]
    assert first == second, "the same key makes the same conversation"


def test_the_demo_shows_the_whole_turn():
    done = subprocess.run(
        [sys.executable, "-m", "emulator.demo"], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in (
        "Signed in as pro@craftpilot.dev",
        "Cost:",
        "Balance:",
        "Stored:",
        "Activity:",
        "Analytics",
        "Title",
    ):
        assert expected in done.stdout
