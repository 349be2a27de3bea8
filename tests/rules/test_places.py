"""Holds the table of who may do what against the rules, the code, the indexes and the architecture document."""

import ast
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.rules.access import TABLE, names

ROOT = Path(__file__).resolve().parents[2]
RULES = (ROOT / "firestore.rules").read_text(encoding="utf-8")
DATABASE = "/databases/{database}/documents"
EVERYTHING = "/{document=**}"

NAMED = frozenset(itertools.chain.from_iterable(names(place) for place in TABLE))


def test_every_match_of_the_rules_is_a_row_that_allows_something_and_the_other_way_round():
    matched = {path.removeprefix(f"{DATABASE}/") for path in matches(RULES)} - {DATABASE, EVERYTHING[1:]}
    assert matched == {place for place, row in TABLE.items() if row}


def test_the_only_rule_for_more_than_one_place_closes_them_all():
    """Rules are alternatives: one open wildcard would undo all the others."""
    assert RULES.count("=**") == 1
    closed = RULES[RULES.index(f"match {EVERYTHING}") :]
    assert re.findall(r"allow [^;]+;", closed) == ["allow read, write: if false;"]
    assert RULES.count("if true") == 0


def test_no_allow_is_without_a_condition():
    assert re.findall(r"allow [^:;]+;", without_comments(RULES)) == []


def test_the_table_names_every_collection_of_the_code():
    assert collections_of_the_code() - NAMED == set()


def test_the_code_of_which_collections_are_collected_is_found():
    """An empty set would pass the comparison."""
    assert {"conversations", "messages", "holds", "checkpoints", "events", "shards"} <= collections_of_the_code()


def test_collections_are_found_however_the_code_names_them():
    source = """
SESSIONS = "sessions"
db.collection("users").document(uid).collection("devices")
db.collection("credit_accounts", uid, "grants")
db.document("credit_accounts", uid, "checkpoints", "latest")
db.document(f"privacy_jobs/{job_id}")
db.collection(SESSIONS)
db.collection_group("entries")
batch.create(collection.document(document_id))
"""
    found = set(_collections(ast.parse(source)))
    assert found == {
        "users", "devices", "credit_accounts", "grants", "checkpoints", "privacy_jobs", "sessions", "entries"
    }  # fmt: skip


def test_the_table_names_every_collection_that_has_an_index():
    file = json.loads((ROOT / "firestore.indexes.json").read_text(encoding="utf-8"))
    indexed = {entry["collectionGroup"] for entry in file["indexes"] + file["fieldOverrides"]}
    assert indexed - NAMED == set()


def test_the_table_names_every_collection_of_the_architecture():
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    data = text.partition("\n## Data\n")[2].partition("\n## ")[0]
    paths = [
        path for row in re.findall(r"^\| (`[^|]+) \|", data, re.MULTILINE) for path in re.findall(r"`([^`]+)`", row)
    ]
    documented = {name for path in paths for name in re.sub(r"{[^}]*}", "", path).split("/") if name}
    assert documented >= {"users", "credit_accounts", "activity"}
    assert documented - NAMED == set()


def matches(rules: str) -> Iterator[str]:
    """The whole path of every match block, from the outermost one's on."""
    open_blocks: list[str] = []
    for token in re.finditer(r"match\s+(/\S+)\s*\{|[{}]", without_comments(rules)):
        if token[0] == "}":
            open_blocks.pop()
        else:
            open_blocks.append(token[1] or "")
            if token[1]:
                yield "".join(open_blocks)


def without_comments(rules: str) -> str:
    return re.sub(r"//.*", "", rules)


def collections_of_the_code() -> set[str]:
    """The names that stand where a path has a collection."""
    files = itertools.chain.from_iterable(
        (ROOT / package).rglob("*.py") for package in ("functions", "shared", "triggers")
    )
    return {name for file in files for name in _collections(ast.parse(file.read_text(encoding="utf-8")))}


def _collections(tree: ast.Module) -> Iterator[str]:
    constants = _constants(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            path = "/".join(_text(argument, constants) for argument in node.args)
            if _is_path(node.func.attr, path):
                yield from (name for name in path.split("/")[::2] if name.isidentifier())


def _is_path(method: str, path: str) -> bool:
    """Whether this is a path from its beginning; `document` with an id alone only adds it to one."""
    return method in {"collection", "collection_group"} or (method == "document" and "/" in path)


def _constants(tree: ast.Module) -> Mapping[str, str]:
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _text(argument: ast.expr, constants: Mapping[str, str]) -> str:
    """What an argument of a path says; `*` where only running the code could tell."""
    match argument:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return constants.get(name, "*")
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, constants) for part in parts)
        case _:
            return "*"
