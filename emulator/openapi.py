"""Writes docs/openapi.json, the API document as it is kept in the repository: `python -m emulator.openapi`."""

import json
import sys
from pathlib import Path

from functions.api import document

PATH = Path(__file__).parent.parent / "docs" / "openapi.json"


def text() -> str:
    """The document, the same for the same routes."""
    return json.dumps(document(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"wrote {PATH}\n")


if __name__ == "__main__":
    main()
