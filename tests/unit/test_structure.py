"""The project's parts name each other in several places; here they are held together.

`main.py`, the options, the rewrites of Hosting, the API document, and what each deployed function imports.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.api import CAPABILITIES, all_routes
from shared.deployment import FUNCTIONS
from shared.settings import REGION
from shared.startup import KEEP_ALIVE_S, STOPS_WITHIN_S

ROOT = Path(__file__).parents[2]
RUNTIME_PACKAGES = ("functions", "triggers", "shared")
NOT_FOR_PACKAGES = {"tests", "infra", "emulator", "public"}
README_LINES = 25
LOAD_BALANCERS_KEEP_ALIVE_S = 600
KILLED_AFTER_S = 10

# Slow to import. What a function does not need must not be there when it starts.
NEVER_AT_START = {"google.cloud.pubsub_v1", "google.cloud.storage", "openai"}
# What single documents, logs and routes do without: the general clients, and the SDK that only deployment needs.
SLOW_WAYS = {
    "firebase_admin",
    "firebase_functions.https_fn",
    "google.api_core",
    "google.cloud.firestore",
    "httpx",
    "opentelemetry",
    "redis",
    "requests",
}
FORBIDDEN_MODULES = {
    "system": NEVER_AT_START | {"google.cloud.firestore", "grpc"},
    "chat": NEVER_AT_START | SLOW_WAYS,
    "openai_api": NEVER_AT_START | SLOW_WAYS,
    "users": NEVER_AT_START,
    "on_event_created": {"google.cloud.storage", "openai"},
}

ENVIRONMENT = {
    "FUNCTIONS_EMULATOR": "true",
    "GCLOUD_PROJECT": "demo-craftpilot",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "OPENROUTER_API_KEY": "sk-or-v1-of-nobody",
}
DISCOVER = """
import json, main
from firebase_functions.private import serving
found = serving.get_functions()
print(json.dumps({
    "modules": {name: function.module for name, function in main.FUNCTIONS.items()},
    "defined": [name for name in main.FUNCTIONS if hasattr(getattr(main, name, None), "__firebase_endpoint__")],
    "manifest": serving.functions_as_yaml(found),
    "files": [__import__(name).__file__ for name in ("functions", "triggers", "shared")],
}))
"""
START = """
import json, os, sys, main
from gunicorn.config import Config
print(json.dumps({
    "keep_alive_s": Config().keepalive,
    "stops_within_s": Config().graceful_timeout,
    "modules": [name for name in sys.modules],
    "threads": os.environ.get("THREADS"),
    "defined": [name for name in main.FUNCTIONS if hasattr(main, name)],
}))
"""


def in_a_fresh_process(code: str, **environment: str) -> Any:
    """What the code prints, in a process like a new instance of a function."""
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@cache
def discovery() -> Any:
    """What `firebase deploy` finds."""
    return in_a_fresh_process(DISCOVER)


@cache
def started(target: str) -> Any:
    return in_a_fresh_process(START, FUNCTION_TARGET=target)


@cache
def endpoints() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(discovery()["manifest"])["endpoints"]
    return found


@cache
def hosting() -> Any:
    return json.loads((ROOT / "firebase.json").read_text())["hosting"]


def function_of(rewrite: dict[str, Any]) -> str:
    name: str = rewrite["function"]["functionId"]
    return name


def matches(glob: str, path: str) -> bool:
    """Hosting's globs: `*` within one step of a path, `**` over any number of steps."""
    pieces = {"/**": "/.*", "**": ".*", "*": "[^/]*"}
    pattern = "".join(pieces.get(piece, re.escape(piece)) for piece in re.split(r"(/\*\*|\*\*|\*)", glob))
    return re.fullmatch(pattern, path) is not None


def rewrite_for(path: str) -> dict[str, Any] | None:
    """The first that fits is taken."""
    found: dict[str, Any] | None = next(
        (rewrite for rewrite in hosting()["rewrites"] if matches(rewrite["source"], path)), None
    )
    return found


def documented() -> Iterator[tuple[str, str]]:
    """Every path of the API, with an id in each place for one, and the capability that it belongs to.

    Read from the document in the repository, which test_api_document.py holds against the routes.
    """
    for path, operations in json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"].items():
        for operation in operations.values():
            yield re.sub(r"\{[^}]+\}", "x_1", path), operation["tags"][0]


def packages() -> Iterator[Path]:
    for name in RUNTIME_PACKAGES:
        yield ROOT / name
        for init in (ROOT / name).rglob("__init__.py"):
            yield init.parent


def test_the_globs_are_read_as_hosting_reads_them():
    assert matches("/api/v1/models", "/api/v1/models")
    assert not matches("/api/v1/models", "/api/v1/models/x")
    assert matches("/api/**", "/api/v1/x/y")
    assert not matches("/api/v1/credits/**", "/api/v1/credits")
    assert matches("/a/*/c", "/a/b/c")
    assert not matches("/a/*", "/a/b/c")
    assert not matches("/api/v1/openapi.json", "/api/v1/openapixjson")


def test_every_function_of_main_is_defined_and_found_by_deployment():
    everywhere = [name for name, function in FUNCTIONS.items() if function.only_with is None]
    assert discovery()["defined"] == everywhere
    assert set(endpoints()) == set(everywhere)


def test_a_function_that_not_every_project_can_have_is_deployed_when_it_is_asked_for():
    found = in_a_fresh_process(DISCOVER, AUTH_TRIGGER="on")
    assert set(found["defined"]) == set(FUNCTIONS)
    assert "on_user_creating" in yaml.safe_load(found["manifest"])["endpoints"]


def test_every_function_is_deployed_under_the_name_it_is_found_by():
    for name, endpoint in endpoints().items():
        assert endpoint["entryPoint"] == name


def test_every_function_is_deployed_with_its_options():
    for name, endpoint in endpoints().items():
        options = FUNCTIONS[name].options
        assert endpoint["region"] == [REGION]
        assert endpoint["availableMemoryMb"] == options.memory_mb
        assert endpoint["timeoutSeconds"] == options.timeout_s
        assert endpoint["maxInstances"] == options.max_instances
        assert endpoint["concurrency"] == options.concurrency


def test_a_failed_event_is_delivered_again():
    triggers = {name: endpoint["eventTrigger"] for name, endpoint in endpoints().items() if "eventTrigger" in endpoint}
    retried = {name: trigger["retry"] for name, trigger in triggers.items()}
    assert retried == {"on_event_created": True, "on_chat_event": True, "on_privacy_job_created": True}


def test_only_functions_that_ask_models_see_the_key_that_pays():
    with_key = {
        name
        for name, endpoint in endpoints().items()
        if "OPENROUTER_API_KEY" in [secret["key"] for secret in endpoint.get("secretEnvironmentVariables", ())]
    }
    assert with_key == {"chat", "chat_send", "on_chat_event", "openai_api", "sweep", "sync_models"}


def test_every_capability_is_a_function_with_a_rewrite():
    assert {routes.capability for routes in all_routes()} == set(CAPABILITIES)
    assert set(CAPABILITIES) <= set(discovery()["modules"])
    assert set(CAPABILITIES) <= {function_of(rewrite) for rewrite in hosting()["rewrites"]}


def test_no_rewrite_leads_to_a_function_that_is_not_there():
    for rewrite in hosting()["rewrites"]:
        assert function_of(rewrite) in CAPABILITIES
        assert rewrite["function"]["region"] == REGION


@pytest.mark.parametrize(("path", "capability"), sorted(set(documented())))
def test_a_documented_path_reaches_its_function(path, capability):
    rewrite = rewrite_for(path)
    assert rewrite is not None
    assert function_of(rewrite) == capability


def test_no_rewrite_is_left_without_a_route():
    taken = {rewrite["source"] for path, _ in documented() if (rewrite := rewrite_for(path))}
    declared = {rewrite["source"] for rewrite in hosting()["rewrites"]}
    assert declared - taken <= {"/api/**"}


def test_what_is_no_route_is_answered_by_the_system_and_not_by_the_web_app():
    rewrite = rewrite_for("/api/v1/nowhere")
    assert rewrite is not None
    assert function_of(rewrite) == "system"


def test_no_two_functions_answer_the_same_path():
    paths = [(route.method, route.pattern.pattern) for routes in all_routes() for route in routes]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("target", FORBIDDEN_MODULES)
def test_a_function_starts_without_what_it_does_not_need(target):
    assert FORBIDDEN_MODULES[target] & set(started(target)["modules"]) == set()


@pytest.mark.parametrize("target", FORBIDDEN_MODULES)
def test_a_function_starts_with_its_own_code_only(target):
    assert started(target)["defined"] == [target]
    assert "functions.api" not in started(target)["modules"]
    others = {function.module for function in FUNCTIONS.values()} - {FUNCTIONS[target].module}
    assert others & set(started(target)["modules"]) == set()


@pytest.mark.parametrize("target", FORBIDDEN_MODULES)
def test_a_function_has_a_thread_for_every_request_it_admits(target):
    assert started(target)["threads"] == str(FUNCTIONS[target].options.concurrency)


def test_a_function_closes_no_connection_that_a_proxy_may_be_using_again():
    assert started("system")["keep_alive_s"] == KEEP_ALIVE_S > LOAD_BALANCERS_KEEP_ALIVE_S


def test_a_function_ends_by_itself_before_it_is_killed():
    assert started("system")["stops_within_s"] == STOPS_WITHIN_S < KILLED_AFTER_S


def test_the_packages_are_ours_and_not_somebody_elses_of_the_same_name():
    assert [Path(file).parent for file in discovery()["files"]] == [
        ROOT / name for name in ("functions", "triggers", "shared")
    ]


def left_behind(path: Path) -> bool:
    """Whether deployment skips the file: firebase-tools matches a pattern without a slash with any part of the path."""
    patterns = json.loads((ROOT / "firebase.json").read_text())["functions"][0]["ignore"]
    relative = path.relative_to(ROOT)
    return any(
        fnmatch(part, pattern) if "/" not in pattern else fnmatch(str(relative), pattern)
        for pattern in patterns
        for part in relative.parts
    )


def test_nothing_that_runs_is_left_behind_by_deployment():
    assert json.loads((ROOT / "firebase.json").read_text())["functions"][0]["source"] == "."
    runs = [ROOT / path for path in [*modules(), "requirements.txt"]]
    assert [path for path in runs if left_behind(path)] == []
    assert left_behind(ROOT / "emulator" / "seed.py")
    assert left_behind(ROOT / "firestore.rules")


def test_no_package_has_a_name_that_deployment_leaves_behind():
    for package in packages():
        assert package.name not in NOT_FOR_PACKAGES


def test_what_does_not_run_is_left_behind_by_deployment():
    ignored = set(json.loads((ROOT / "firebase.json").read_text())["functions"][0]["ignore"])
    assert {"tests", "emulator", "venv", ".git", "web"} <= ignored


def test_the_root_is_no_node_project():
    assert not (ROOT / "package.json").exists()


def capabilities() -> list[str]:
    return sorted(init.parent.name for init in (ROOT / "functions").glob("*/__init__.py"))


@pytest.mark.parametrize("capability", capabilities())
def test_a_capability_says_briefly_what_it_owns(capability):
    lines = (ROOT / "functions" / capability / "README.md").read_text().splitlines()
    assert lines
    assert len(lines) <= README_LINES


def modules() -> list[str]:
    paths = [ROOT / "main.py", *(path for name in RUNTIME_PACKAGES for path in (ROOT / name).rglob("*.py"))]
    return sorted(str(path.relative_to(ROOT)) for path in paths)


@pytest.mark.parametrize("module", modules())
def test_a_module_begins_with_what_it_owns(module):
    source = (ROOT / module).read_text()
    assert source.startswith('"""') or module == "functions/__init__.py"


@pytest.mark.parametrize("module", sorted({*modules()} - {"main.py", "shared/startup.py", "shared/settings.py"}))
def test_only_the_settings_touch_the_environment(module):
    assert "environ" not in (ROOT / module).read_text()
