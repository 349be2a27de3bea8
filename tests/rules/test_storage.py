"""The bucket's rules, which no emulator of the local suite runs: they are held to closing everything, in one way."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CLOSED = """
rules_version = '2';
service firebase.storage {
  match /b/{bucket}/o {
    match /{path=**} {
      allow read, write: if false;
    }
  }
}
"""


def test_the_bucket_is_closed_to_clients_and_the_file_says_nothing_else():
    text = (ROOT / "storage.rules").read_text(encoding="utf-8")
    assert words(re.sub(r"//.*", "", text)) == words(CLOSED)


def test_the_rules_of_the_bucket_are_deployed():
    """A bucket without rules of ours has those of its making, which may be open."""
    config = json.loads((ROOT / "firebase.json").read_text(encoding="utf-8"))
    assert config["storage"]["rules"] == "storage.rules"


def words(text: str) -> list[str]:
    return text.split()
