"""The command line of the local suite: `python3 -m emulator --help`."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from emulator import ports, toolchain
from emulator.block import ROOT, Block, running
from emulator.console import SuiteError, complain, done, heading, note, say, table
from emulator.parts import PARTS, STORE_PARTS, ports_of, selected
from emulator.suite import Interrupted, Suite, interruptible

if TYPE_CHECKING:
    from collections.abc import Callable

PASSWORD = "craftpilot"  # noqa: S105 - of the seeded accounts, which live in an emulator only
ACCOUNTS = tuple(f"{name}@craftpilot.dev" for name in ("free", "pro", "enterprise", "admin"))
SIGNALLED = 128
DESCRIPTION = """\
The whole product on this machine: emulators, stand-ins, seed data, a clock.
Set-up happens by itself; nothing needs to be installed but Python 3.11 or newer."""
EXAMPLES = """\
examples:
  python3 -m emulator dev                              start everything, stay until Ctrl-C
  python3 -m emulator run --block test -- pytest tests/suite
  python3 -m emulator firestore -- pytest tests/store tests/rules
  python3 -m emulator attach -- curl -s http://127.0.0.1:5000/api/v1/health
  eval "$(python3 -m emulator env)"                    the suite's environment in this shell"""


def main(argv: list[str]) -> int:
    options = build_parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        with interruptible():
            return command(options)
    except SuiteError as error:
        complain(error)
        return 1
    except Interrupted as interruption:
        note(f"stopped by {signal.Signals(interruption.signum).name}")
        return SIGNALLED + interruption.signum


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m emulator",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    dev = commands.add_parser("dev", help="set up, start everything, seed, stay in the foreground until Ctrl-C")
    add_block(dev, "dev")
    dev.add_argument("--no-clock", action="store_true", help="do not fire the scheduled functions")
    dev.add_argument("--no-seed", action="store_true", help="start with empty emulators")
    dev.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another value for a setting of the product, e.g. OPENROUTER_BASE_URL (secrets: edit .secret.local)",
    )
    dev.set_defaults(run=run_dev)

    setup = commands.add_parser("setup", help="only the set-up")
    setup.set_defaults(run=run_setup)

    run = commands.add_parser("run", help="start the suite, run a command in its environment, stop everything")
    add_block(run, "test")
    run.add_argument("--clock", action="store_true", help="fire the scheduled functions")
    run.add_argument("--no-seed", action="store_true", help="start with empty emulators")
    add_command(run)
    run.set_defaults(run=run_run)

    firestore = commands.add_parser(
        "firestore", help="run a command with only the Firestore emulator and Redis, on free ports (two seconds)"
    )
    add_command(firestore)
    firestore.set_defaults(run=run_firestore)

    attach = commands.add_parser("attach", help="run a command in the environment of a suite that runs")
    add_block(attach, "dev")
    add_command(attach)
    attach.set_defaults(run=run_attach)

    env = commands.add_parser("env", help="print the environment of a block for a shell")
    add_block(env, "dev")
    env.set_defaults(run=run_env)

    doctor = commands.add_parser("doctor", help="what was found where; installs nothing")
    add_block(doctor, "dev")
    doctor.set_defaults(run=run_doctor)
    return parser


def add_block(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--block", default=default, help=f"the block of ports: dev, test (default: {default})")
    parser.add_argument("--port-offset", type=int, metavar="N", help="move every port of the dev block by N")


def add_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD…", help="what to run")


def command_of(options: argparse.Namespace) -> list[str]:
    words: list[str] = options.command
    if words[:1] == ["--"]:
        words = words[1:]
    if not words:
        raise SuiteError("No command was given. Write it after two dashes:  … -- pytest tests/suite")
    return words


def block_of(options: argparse.Namespace) -> Block:
    return Block.named(options.block, options.port_offset)


def timed_set_up() -> tuple[toolchain.Toolchain, float]:
    began = time.monotonic()
    warn_of_dotted_path(ROOT)
    return toolchain.set_up(), time.monotonic() - began


def report(tools: toolchain.Toolchain) -> None:
    done(f"python     {tools.python}")
    done(f"node       {tools.node}")
    done(f"java       {tools.java}")
    done(f"redis      {tools.redis}")
    done(f"emulators  {tools.emulators.origin}")


def warn_of_dotted_path(root: Path) -> None:
    dotted = [part for part in root.parts if part.startswith(".")]
    if dotted:
        note(f"{root} lies below {dotted[0]!r}: firebase-tools reloads nothing below a folder with a leading dot")


# Commands


def run_setup(_options: argparse.Namespace) -> int:
    heading("CraftPilot — set-up")
    tools, seconds = timed_set_up()
    report(tools)
    done("everything is there", seconds)
    return 0


def change_settings(block: Block, assignments: list[str]) -> None:
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or name not in block.settings:
            raise SuiteError(f"--set takes NAME=VALUE with one of: {', '.join(sorted(block.settings))}")
        block.settings[name] = value


def run_dev(options: argparse.Namespace) -> int:
    block = block_of(options)
    change_settings(block, options.set)
    heading(f"CraftPilot — {block.name} suite")
    tools, set_up_seconds = timed_set_up()
    report(tools)
    with Suite(block, selected(PARTS, clock=not options.no_clock), tools) as suite:
        suite.configure_firebase()
        start_seconds = suite.start()
        if not options.no_seed:
            start_seconds += suite.seed("emulator.seed")
        welcome(block, demo_command(options), set_up_seconds, start_seconds)
        try:
            suite.watch()
        except Interrupted as interruption:
            say()
            note("stopping …")
            if interruption.signum != signal.SIGINT:
                raise
    done("stopped; no process is left")
    return 0


def run_run(options: argparse.Namespace) -> int:
    command = command_of(options)
    block = block_of(options)
    heading(f"CraftPilot — {block.name} suite for: {shlex.join(command)}")
    tools, set_up_seconds = timed_set_up()
    with Suite(block, selected(PARTS, clock=options.clock), tools) as suite:
        suite.configure_firebase()
        start_seconds = suite.start()
        if not options.no_seed:
            start_seconds += suite.seed("emulator.seed")
        say(f"Set-up took {set_up_seconds:.1f} s, start took {start_seconds:.1f} s. Logs: {shown(block.logs)}/")
        return suite.run("the command", command, log=None, cwd=Path.cwd())


def run_firestore(options: argparse.Namespace) -> int:
    command = command_of(options)
    tools = toolchain.set_up_store()
    names = list(ports_of(STORE_PARTS))
    numbers = dict(zip(names, ports.free_ports(len(names)), strict=True))
    block = Block(f"firestore-{os.getpid()}", numbers, STORE_PARTS)
    try:
        with Suite(block, STORE_PARTS, tools) as suite:
            suite.start()
            code = suite.run("the command", command, log=None, cwd=Path.cwd())
    except Interrupted:
        shutil.rmtree(block.folder)
        raise
    shutil.rmtree(block.folder)  # kept when a part failed: its log is in it
    return code


def run_attach(options: argparse.Namespace) -> int:
    command = command_of(options)
    block = block_of(options)
    facts = running(block)
    if facts is None:
        raise SuiteError(f"No suite runs in the block {block.name!r}. Start it with:  make dev")
    venv = ROOT / "venv" / "bin"
    path = os.pathsep.join([str(venv), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, **facts["environment"], "PATH": path}
    sys.stdout.flush()
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise SuiteError(f"{command[0]}: {error.strerror}") from error


def run_env(options: argparse.Namespace) -> int:
    for name, value in sorted(block_of(options).environment.items()):
        say(f"export {name}={shlex.quote(value)}")
    return 0


def run_doctor(options: argparse.Namespace) -> int:
    block = block_of(options)
    heading("CraftPilot — what is here")
    venv, node, java, redis = (
        toolchain.find_venv(ROOT),
        toolchain.find_node(),
        toolchain.find_java(),
        toolchain.find_redis(ROOT),
    )
    jars = toolchain.find_sdk_jars()
    rows = [
        ("system", f"{platform.system()} {platform.machine()}"),
        ("launcher", f"{platform.python_version()}  {sys.executable}"),
        ("venv", str(venv or "will be made")),
        ("node", str(node or f"none >= {toolchain.OLDEST_NODE}: {toolchain.TOOL_PACKAGES['node']} will be installed")),
        ("java", str(java or f"none >= {toolchain.OLDEST_JAVA}: {toolchain.TOOL_PACKAGES['java']} will be installed")),
        ("redis", str(redis or f"none: {toolchain.TOOL_PACKAGES['redis']} will be installed")),
        ("firestore", str(jars[0]) if jars else "firebase-tools will download it"),
        ("pubsub", str(jars[1]) if jars else "firebase-tools will download it"),
        ("firebase", "installed" if toolchain.firebase_tools(ROOT).exists() else "npm ci will install it"),
    ]
    for line in table(rows):
        say(f"  {line}")
    warn_of_dotted_path(ROOT)
    facts = running(block)
    say()
    heading(f"Ports of the block {block.name!r}" + (f" (its suite runs: process {facts['pid']})" if facts else ""))
    busy = ports.taken(block.numbers)
    for line in table(
        [
            (name, str(number), ports.holder(number) if name in busy else "free")
            for name, number in block.numbers.items()
        ]
    ):
        say(f"  {line}")
    return 0


# What is shown


def shown(path: Path) -> str:
    """A path as a person in this folder would type it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def demo_command(options: argparse.Namespace) -> str:
    if options.block == "dev" and not options.port_offset:
        return "make demo"
    offset = "" if options.port_offset is None else f" --port-offset {options.port_offset}"
    return f"python3 -m emulator attach --block {options.block}{offset} -- venv/bin/python -m emulator.demo"


def welcome(block: Block, demo: str, set_up_seconds: float, start_seconds: float) -> None:
    pages = [(title, block.fill(address)) for part in PARTS for title, address in part.pages.items()]
    say()
    heading(f"CraftPilot runs. Set-up took {set_up_seconds:.1f} s, start took {start_seconds:.1f} s.")
    say()
    for line in table(pages):
        say(f"  {line}")
    say()
    say(f"  Accounts, password {PASSWORD}:  {'  '.join(ACCOUNTS)}")
    say()
    say("  Try next, in another terminal:")
    say(f"    {demo}")
    say(f"    curl -s http://127.0.0.1:{block.numbers['hosting']}/api/v1/health")
    say()
    say(f"  Logs: {shown(block.logs)}/     Stop: Ctrl-C (what was stored is gone then)")
