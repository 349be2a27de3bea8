"""Whatever the product stores anywhere is declared: held about users, or personal to nobody, with the reason."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from functions.privacy import inventory
from shared.holdings import CacheKeys, Documents, Files

ROOT = Path(__file__).parents[3]
SOURCES = sorted(path for package in ("functions", "triggers", "shared") for path in (ROOT / package).rglob("*.py"))

NAMES_FROM_DECLARATIONS = {"functions/privacy/repository.py"}
"""Reads whatever the declarations name, beside its own collection."""

IN_REDIS: dict[str, str | None] = {
    "functions/chat/generation_log.py": "gen:*:meta",
    "functions/users/preferences_cache.py": "preferences:{uid}",
    "shared/identity/session_cache.py": "session:{id}",
    "shared/limits/admission.py": "limits:{{all}}:*:{uid}",
    "shared/breaker.py": None,
    "shared/metrics.py": None,
    "shared/presence.py": None,
}
"""The modules that name keys, and the declaration that covers them. None: counts of processes and of the whole."""
REACHES_REDIS = re.compile(r"\bredis_client\(\)|\bredis_link\(\)|\bLink\(|\bredis\.Redis\b")
NAMES_NO_KEYS = {
    "functions/privacy/repository.py",  # reads what the declarations name
    "functions/system/readiness.py",  # asks whether Redis answers
    "shared/clients.py",
    "shared/limits/limiter.py",
    "shared/redis_link.py",
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def declared_roots() -> set[str]:
    return {each.root for each in inventory.DOCUMENTS} | {each.root for each in inventory.NOTHING_PERSONAL}


def roots_in_rules() -> set[str]:
    """The root collections that the security rules name."""
    found, depth, database = set(), 0, 0
    for line in (ROOT / "firestore.rules").read_text().splitlines():
        code = line.partition("//")[0]
        match = re.search(r"match /databases/|match /([a-z_]+)/", code)
        if match and match[1] is None:
            database = depth + 1
        elif match and depth == database:
            found.add(match[1])
        braces = re.sub(r"/\{[^}]*\}", "", code)
        depth += braces.count("{") - braces.count("}")
    return found


def roots_in(path: Path) -> Iterator[str]:
    """The root collections that a module reads or writes: every name that the database is asked for."""
    tree = ast.parse(path.read_text())
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for call in _calls(function):
            if not _asks_the_database(call):
                continue
            for name in _names(call.args[0], constants, function, tree):
                assert isinstance(name, str), f"{relative(path)}:{call.lineno}: the collection's name cannot be read"
                yield name.partition("/")[0]


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _asks_the_database(call: ast.Call) -> bool:
    """`firestore_client().collection(…)`, `.document(…)`, `store.document(…)`."""
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "store":
        return function.attr == "document"
    return (
        isinstance(function, ast.Attribute)
        and function.attr in {"collection", "document"}
        and isinstance(function.value, ast.Call)
        and isinstance(function.value.func, ast.Name)
        and function.value.func.id == "firestore_client"
    )


def _names(
    argument: ast.expr, constants: Mapping[str, object], function: ast.FunctionDef, tree: ast.AST
) -> list[object]:
    """What the argument can be: itself, a constant of the module, or what the function's callers give for it."""
    if isinstance(argument, ast.Constant):
        return [argument.value]
    if isinstance(argument, ast.Name) and argument.id in constants:
        return [constants[argument.id]]
    parameters = [each.arg for each in function.args.args]
    if not isinstance(argument, ast.Name) or argument.id not in parameters:
        return [None]
    place = parameters.index(argument.id)
    given = [call.args[place] for call in _calls(tree) if getattr(call.func, "id", None) == function.name]
    return [each.value if isinstance(each, ast.Constant) else None for each in given] or [None]


@cache
def roots_in_code() -> frozenset[str]:
    paths = [path for path in SOURCES if relative(path) not in NAMES_FROM_DECLARATIONS]
    return frozenset(root for path in paths for root in roots_in(path)) | {"privacy_jobs"}


def test_the_rules_and_the_code_are_read_as_they_are():
    assert {"users", "credit_accounts", "usage_records", "activity", "models"} <= roots_in_rules()
    assert not {"conversations", "messages", "entries"} & roots_in_rules()
    assert {"users", "events", "processed", "api_keys", "sessions", "idempotency", "erased_accounts"} <= roots_in_code()


def test_every_collection_of_the_rules_is_declared():
    assert roots_in_rules() - declared_roots() == set()


def test_every_collection_of_the_code_is_declared():
    assert roots_in_code() - declared_roots() == set()


def test_no_declaration_is_left_over():
    assert declared_roots() - roots_in_rules() - roots_in_code() == set()


def test_what_is_personal_to_nobody_is_not_also_held_about_users():
    assert {each.root for each in inventory.NOTHING_PERSONAL} & {each.root for each in inventory.DOCUMENTS} == set()
    assert all(each.because for each in inventory.NOTHING_PERSONAL)


@pytest.mark.parametrize("path", [relative(path) for path in SOURCES if REACHES_REDIS.search(path.read_text())])
def test_every_module_that_reaches_redis_is_accounted_for(path):
    assert path in {*IN_REDIS, *NAMES_NO_KEYS}, "say in IN_REDIS which declaration covers its keys"


@pytest.mark.parametrize("match", sorted(filter(None, IN_REDIS.values())))
def test_what_is_in_redis_is_declared(match):
    copies = {name for each in inventory.DOCUMENTS for name in each.cached_as}
    assert match in copies | {each.match for each in inventory.CACHE_KEYS}


def test_every_folder_of_the_bucket_that_names_users_is_declared():
    named = {
        f"{folder}/{{uid}}/"
        for path in SOURCES
        if path.name != "inventory.py"
        for folder in re.findall(r"""f"([a-z]+)/\{uid\}/""", path.read_text())
    }
    assert named
    assert named == {each.prefix for each in inventory.FILES}


def test_no_two_declarations_name_the_same():
    names = [each.path for each in inventory.DOCUMENTS]
    assert len(names) == len(set(names))
    archived = [each.archive for each in inventory.DOCUMENTS if each.archive]
    assert len(archived) == len(set(archived))


def test_the_account_itself_goes_last():
    assert inventory.DOCUMENTS[-1].path == "users/{uid}"


def test_what_gets_somebody_in_goes_first():
    assert {each.root for each in inventory.CREDENTIALS} >= {"api_keys", "sessions"}


def test_documents_whose_ids_are_hashes_of_secrets_do_not_leave_with_their_ids():
    assert all(each.secret_id for each in inventory.DOCUMENTS if each.root in {"api_keys", "sessions"})


def test_what_another_declaration_names_below_a_document_is_not_found_twice():
    [account] = [each for each in inventory.DOCUMENTS if each.path == "users/{uid}"]
    assert inventory.apart_from(account) == {
        "attachments",
        "contexts",
        "conversations",
        "folder_names",
        "folders",
        "generations",
        "removals",
        "search_entries",
    }


def test_a_holding_that_is_neither_archived_nor_explained_is_refused():
    with pytest.raises(AssertionError, match="archived, or a reason"):
        Documents("things", archive=None)
    with pytest.raises(AssertionError, match="archived, or a reason"):
        Files("things/{uid}/", archive=None)


def test_the_kinds_of_paths_are_told_apart():
    document, collection, everybodys = (
        Documents(path, archive="x.json") for path in ("users/{uid}", "users/{uid}/things", "things")
    )
    assert [each.is_one_document for each in (document, collection, everybodys)] == [True, False, False]
    assert [each.by_path for each in (document, collection, everybodys)] == [True, True, False]
    assert CacheKeys("a:{uid}").match.format(uid="ada") == "a:ada"
