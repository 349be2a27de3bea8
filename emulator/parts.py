"""The one table of what the local suite runs. A new part is one entry here.

Texts are templates: `{redis}` is the port of that name in the block at hand; the toolchain gives `{python}`, `{node}`,
`{redis_server}` and the block `{root}`, `{folder}`, `{firebase_config}`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from emulator.ready import AnswersHttp, AnswersRedis, LogSays

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from emulator.ready import Ready


@dataclass(frozen=True)
class Part:
    """One program of the suite."""

    name: str
    purpose: str
    command: tuple[str, ...]
    ready: tuple[Ready, ...]
    ports: Mapping[str, int] = field(default_factory=dict)
    """Name → number in the dev block. Names are unique over all parts."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the part's own process."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Deployment settings of the product that point to this part (Firebase params, environment of programs)."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """The same for Firebase secrets. Equal in all blocks: firebase-tools reads them from one file."""
    exports: Mapping[str, str] = field(default_factory=dict)
    """Environment for programs that speak to the suite, not for the product itself."""
    pages: Mapping[str, str] = field(default_factory=dict)
    """What the table at the end of the start shows: title → address."""
    fatal_lines: tuple[str, ...] = ()
    """Log lines that mean the part cannot do its work although its process lives on."""
    needs: tuple[str, ...] = ()
    """Parts that must be ready first; the others start at the same time."""
    grace_seconds: float = 3.0
    """How long it may take to end by itself before it is killed."""
    start_seconds: float = 90.0
    cwd: str = "{root}"
    clock: bool = False
    """It stands for the passing of time: left out of test runs, which want to say themselves when time passes."""


REDIS = Part(
    name="redis",
    purpose="limits, generation logs, caches",
    ports={"redis": 6390},
    command=("{redis_server}", "--port", "{redis}", "--bind", "{host}", "--save", "", "--appendonly", "no"),
    cwd="{folder}",
    ready=(AnswersRedis("redis"),),
    settings={"REDIS_URL": "redis://{host}:{redis}/0"},
    pages={"Redis": "redis://{host}:{redis}/0"},
)

OPENROUTER = Part(
    name="openrouter",
    purpose="stands in for OpenRouter, with faults on demand",
    ports={"openrouter": 8790},
    command=("{python}", "-m", "emulator.openrouter", "--host", "{host}", "--port", "{openrouter}"),
    ready=(AnswersHttp("http://{host}:{openrouter}/_standin/health"),),
    settings={"OPENROUTER_BASE_URL": "http://{host}:{openrouter}/api/v1"},
    secrets={"OPENROUTER_API_KEY": "sk-or-v1-local-suite"},
    exports={"CRAFTPILOT_OPENROUTER_URL": "http://{host}:{openrouter}"},
    pages={"OpenRouter stand-in": "http://{host}:{openrouter}/_standin/"},
)

STORAGE = Part(
    name="storage",
    purpose="Cloud Storage; clients need signed links, as in production",
    ports={"storage": 9199},
    command=(
        "{python}",
        "-m",
        "emulator.storage",
        "--host",
        "{host}",
        "--port",
        "{storage}",
        "--bucket",
        "{project}.firebasestorage.app",
    ),
    ready=(AnswersHttp("http://{host}:{storage}/"),),
    settings={
        "STORAGE_BUCKET": "{project}.firebasestorage.app",
        # firebase-tools sets it for its own emulator only, which does not run here.
        "STORAGE_EMULATOR_HOST": "http://{host}:{storage}",
    },
    pages={"Cloud Storage": "http://{host}:{storage}"},
    grace_seconds=0.0,
)

FIREBASE = Part(
    name="firebase",
    purpose="Hosting, Functions, Auth, Firestore and Pub/Sub emulators",
    ports={
        "hosting": 5000,
        "functions": 5001,
        "auth": 9099,
        "firestore": 8080,
        "pubsub": 8085,
        "hub": 4400,
        "logging": 4500,
        "eventarc": 9299,
        "tasks": 9499,
        "firestore_websocket": 9150,
        # The first of a thousand from which the Functions emulator chooses one for each of its Python processes.
        "workers": 10100,
    },
    environment={"CRAFTPILOT_WORKER_PORTS": "{workers}"},
    command=(
        "{node}",
        "--require",
        "{root}/emulator/firebase_preload.cjs",
        "{firebase_tools}",
        "emulators:start",
        "--project",
        "{project}",
        "--config",
        "{firebase_config}",
        "--only",
        "hosting,functions,auth,firestore,pubsub",
    ),
    # firebase-tools writes its *-debug.log files where it is started.
    cwd="{folder}/firebase",
    ready=(LogSays("All emulators ready"), AnswersHttp("http://{host}:{functions}/backends")),
    fatal_lines=("Failed to load function definition from source",),
    exports={
        "FIREBASE_AUTH_EMULATOR_HOST": "{host}:{auth}",
        "FIRESTORE_EMULATOR_HOST": "{host}:{firestore}",
        "PUBSUB_EMULATOR_HOST": "{host}:{pubsub}",
        "CRAFTPILOT_HOSTING_URL": "http://{host}:{hosting}",
        "CRAFTPILOT_FUNCTIONS_URL": "http://{host}:{functions}/{project}/{region}",
    },
    pages={
        "Web app and API": "http://{host}:{hosting}",
        "Functions (streams)": "http://{host}:{functions}/{project}/{region}",
        "Auth": "http://{host}:{auth}",
        "Firestore": "http://{host}:{firestore}",
        "Pub/Sub": "http://{host}:{pubsub}",
    },
    start_seconds=240.0,
    # A farewell takes seconds, saves nothing, and when the Pub/Sub emulator is slow to end, firebase-tools kills every
    # process of the machine that has "pubsub-emulator" in its command line: those of other suites too.
    grace_seconds=0.0,
)

SCHEDULER = Part(
    name="scheduler",
    purpose="fires the scheduled functions, as Cloud Scheduler does",
    command=("{python}", "-m", "emulator.ticker", "--functions", "http://{host}:{functions}", "--project", "{project}"),
    ready=(LogSays("watching"),),
    needs=("firebase",),
    clock=True,
)

PARTS: tuple[Part, ...] = (REDIS, OPENROUTER, STORAGE, FIREBASE, SCHEDULER)

FIRESTORE_ALONE = Part(
    name="firestore",
    purpose="the Firestore emulator without the rest of Firebase",
    ports={"firestore": 8080},
    command=("{java}", "-jar", "{firestore_jar}", "--host", "{host}", "--port", "{firestore}", "--rules", "{rules}"),
    cwd="{folder}",
    environment={"JAVA_TOOL_OPTIONS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"},
    ready=(AnswersHttp("http://{host}:{firestore}/"),),
    exports={"FIRESTORE_EMULATOR_HOST": "{host}:{firestore}"},
    grace_seconds=0.0,
)

STORE_PARTS: tuple[Part, ...] = (REDIS, FIRESTORE_ALONE, STORAGE)
"""What tests of repositories and security rules need; up in about two seconds."""


def ports_of(parts: Iterable[Part]) -> dict[str, int]:
    """All ports of the dev block by name; two parts may not claim the same name or number."""
    found: dict[str, int] = {}
    for part in parts:
        for name, number in part.ports.items():
            if name in found or number in found.values():
                raise ValueError(f"{part.name}: the port {name} = {number} is taken by another part")
            found[name] = number
    return found


def selected(parts: Iterable[Part], *, clock: bool) -> tuple[Part, ...]:
    return tuple(part for part in parts if clock or not part.clock)
