"""What a chat turn costs, with keys, limits and the ledger on: the project's budgets, measured on this machine.

    python3 -m emulator firestore -- venv/bin/python -m tests.load.turns

Starts the functions the way Cloud Run does and puts a provider behind them that answers everybody the same
(`tests.load.upstream`). All subjects take turns in every round, so that whatever else the machine does meets them all.

    PEERS=1      also measures LiteLLM's proxy and Portkey's gateway, installed from the registries on first use
    PROFILE=1    instead of measuring, says where the function's processor time goes
    ROUNDS=5     more rounds than three
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from functions.credits import service as credits
from shared.deployment import FUNCTIONS
from tests.load import clients, cold_start, peers, profiling, seeding, subjects, upstream
from tests.load.firestore_proxy import FirestoreProxy, longest_chain
from tests.load.subjects import PACED, PLAIN, STREAM, Shape, Subject
from tests.load.table import Row, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.load.firestore_proxy import FirestoreCall

ROUNDS = int(os.environ.get("ROUNDS", "3"))
ROUND_S = 4.0
CLIENTS = 32
USERS = 128
"""Enough that none of them meets a limit in a minute of every round there is."""
CROWD = 400
CROWD_ROUNDS = 2
FIRST_WORDS = 25
COLD_STARTS = 5
LONG_MESSAGES = 2000
LONG_PAIRS = 20
FIRESTORE_DELAY_S = 0.040
"""Far more than anything else in a turn takes: calls that are under way together cannot look like a chain."""
WATCHED_TURNS = 5

BARE_RELAY = "bare relay"
CPU_BUDGET_MS = {PLAIN.name: 4.0, STREAM.name: 7.0}
PEER_FACTOR = {PLAIN.name: 5.0, STREAM.name: 15.0}
FIRST_WORD_BUDGET_MS = 10.0
CROWD_BUDGET_PER_S = 100.0
COLD_BUDGET_S = 1.0
MEMORY_BUDGET_MIB = 130.0
LONG_BUDGET = 1.10


@dataclass(frozen=True)
class Function:
    """One of ours, and how it is asked."""

    target: str
    name: str
    requests_of: Callable[[list[seeding.User]], Callable[[Shape], Iterator[bytes]]]


OURS = [
    function
    for function in (
        Function("openai_api", "/v1/chat/completions", subjects.completions_of),
        Function("chat", "/api/v1/conversations/…/messages", subjects.messages_of),
    )
    if function.target in FUNCTIONS
]


@dataclass
class Bench:
    """What all measurements share."""

    folder: Path
    provider: Subject
    users: list[seeding.User]

    @contextlib.contextmanager
    def running(self, **environment: str) -> Iterator[list[Subject]]:
        """Our functions, then the bare relay, each in a process of its own."""
        with contextlib.ExitStack() as stack:
            started = [self._started(stack, each, **environment) for each in OURS]
            yield [*started, self._relay(stack, **environment)]

    def _started(self, stack: contextlib.ExitStack, function: Function, **environment: str) -> Subject:
        requests = function.requests_of(self.users)
        subject = subjects.start_function(
            function.target, function.name, requests, self.folder, warm_up=USERS, environment=environment
        )
        stack.callback(subject.stop)
        return subject

    def _relay(self, stack: contextlib.ExitStack, **environment: str) -> Subject:
        threads = {"THREADS": str(FUNCTIONS["chat"].options.concurrency), **environment}
        requests = subjects.completions("/")
        subject = subjects.start_function(
            "relay", BARE_RELAY, requests, self.folder, source="tests/load/relay.py", environment=threads
        )
        stack.callback(subject.stop)
        return subject


def main() -> None:
    began, (busy, _, _) = time.monotonic(), os.getloadavg()
    rows: list[Row] = []
    provider = subjects.start_upstream()
    try:
        os.environ["OPENROUTER_BASE_URL"] = f"http://127.0.0.1:{provider.port}/api/v1"
        os.environ["OPENROUTER_API_KEY"] = "sk-or-v1-benchmark"
        seeding.seed_catalogue()
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), provider, seeding.make_users(USERS))
            if os.environ.get("PROFILE") == "1":
                _profile(bench)
            else:
                _measure(bench, rows)
    finally:
        provider.stop()
        if rows:  # what was measured until something broke is shown all the same
            print(show(rows))
            took_s = time.monotonic() - began
            print(f"\n{ROUNDS} rounds on {os.cpu_count()} cores in {took_s:.0f} s; load average before: {busy:.1f}")


def _measure(bench: Bench, rows: list[Row]) -> None:
    with bench.running() as ours, peers.running(bench.provider.port) as others:
        _say(f"{CLIENTS} clients")
        rows += throughput(ours, others)
        _say("one client")
        rows += first_words(bench.provider, [each for each in [*ours, *others] if STREAM in each.shapes])
        rows += [_memory_row(subject) for subject in [*ours, *others]]
        _say("long conversations")
        rows += long_conversations(_chat_of(ours))
    _say("new processes")
    rows += cold_starts(bench)
    _say("waiting for Firestore")
    rows += round_trips(bench)
    _say(f"{CROWD} clients")
    with bench.running(THREADS=str(CROWD)) as ours:
        rows += crowds(ours)
    _check_ledger(bench.users[:4])


# --- 32 clients ------------------------------------------------------------------------------------------------------


def throughput(ours: list[Subject], others: list[Subject]) -> list[Row]:
    """Requests a second of 32 clients, and what each costs the processes of the server."""
    rates, cpu_ms = defaultdict[tuple[str, str], list[float]](list), defaultdict[tuple[str, str], list[float]](list)
    speeds_ms = []
    asked = [(subject, shape) for shape in (PLAIN, STREAM) for subject in [*ours, *others] if shape in subject.shapes]
    for _, (subject, shape) in itertools.product(range(ROUNDS), asked):
        speeds_ms.append(_million_additions_ms())
        rate, cost = _round(subject, shape)
        rates[subject.name, shape.name].append(rate)
        cpu_ms[subject.name, shape.name].append(cost)
    rows = [Row("this machine: a million additions in Python", speeds_ms, "ms", digits=0)]
    for subject, shape in asked:
        what = f"{subject.name}, {shape.name}, {CLIENTS} clients"
        place, is_product = (subject.name, shape.name), _is_product(subject)
        rows.append(Row(what, rates[place], "/s"))
        if is_product:
            rows += _beside_peers(rates[place], shape, {name: rates.get((name, shape.name)) for name in peers.NAMES})
        budget = CPU_BUDGET_MS[shape.name] if is_product else None
        rows.append(Row("  processor time of one", cpu_ms[place], "ms", at_most=budget, digits=2))
        if is_product:
            ratios = [one / bare for one, bare in zip(cpu_ms[place], cpu_ms[BARE_RELAY, shape.name], strict=True)]
            rows.append(Row(f"  times the {BARE_RELAY}'s", ratios, "", digits=1))
    return rows


def _million_additions_ms() -> float:
    """How fast one core is at this moment: on shared machines that differs by a factor of two within seconds."""
    began, total = time.thread_time(), 0
    for number in range(1_000_000):
        total += number
    return (time.thread_time() - began) * 1000


def _beside_peers(ours: list[float], shape: Shape, theirs: dict[str, list[float] | None]) -> list[Row]:
    """How many times as much as the peers that took part, round by round."""
    rows = []
    for name, rates in theirs.items():
        if rates:
            ratios = [one / other for one, other in zip(ours, rates, strict=True)]
            budget = PEER_FACTOR[shape.name] if name == peers.LITELLM else None
            rows.append(Row(f"  times the {name}'s", ratios, "", at_least=budget))
    return rows


def _round(subject: Subject, shape: Shape) -> tuple[float, float]:
    """Requests a second, and milliseconds of processor time for each."""
    requests = subject.requests(shape)
    warm = _run(subject, shape, requests, CLIENTS, subject.warm_up)
    total = max(2 * CLIENTS, round(warm.per_second * ROUND_S))
    used_s = subject.cpu_s()
    result = _run(subject, shape, requests, CLIENTS, total)
    return result.per_second, (subject.cpu_s() - used_s) / total * 1000


def _run(
    subject: Subject, shape: Shape, requests: Iterator[bytes], number_of_clients: int, total: int
) -> clients.Result:
    result = _tried(subject, shape, requests, number_of_clients, total)
    if result.errors:
        shown = result.errors[0].decode(errors="replace")
        sys.exit(f"{subject.name}, {shape.name}: {len(result.errors)} of {total} went wrong, the first:\n{shown}")
    return result


def _tried(
    subject: Subject, shape: Shape, requests: Iterator[bytes], number_of_clients: int, total: int
) -> clients.Result:
    return clients.run(
        subject.port,
        requests,
        clients=number_of_clients,
        total=total,
        holds=shape.holds,
        first_word=upstream.FIRST_WORD,
    )


# --- one client ------------------------------------------------------------------------------------------------------


def first_words(provider: Subject, everybody: list[Subject]) -> list[Row]:
    """What stands between the provider's first word and the client's."""
    added_ms = defaultdict[str, list[float]](list)
    for _ in range(ROUNDS):
        direct_ms = _first_word_ms(provider)
        for subject in everybody:
            added_ms[subject.name].append(_first_word_ms(subject) - direct_ms)
    return [
        Row(
            f"{subject.name}, added before the first word, 1 client",
            added_ms[subject.name],
            "ms",
            at_most=FIRST_WORD_BUDGET_MS if _is_product(subject) else None,
        )
        for subject in everybody
    ]


def _first_word_ms(subject: Subject) -> float:
    requests = subject.requests(STREAM)
    _run(subject, STREAM, requests, CLIENTS, subject.warm_up)
    return statistics.median(_run(subject, STREAM, requests, 1, FIRST_WORDS).first_word) * 1000


def _memory_row(subject: Subject) -> Row:
    budget = MEMORY_BUDGET_MIB if _is_product(subject) else None
    return Row(f"{subject.name}, memory after this", [subject.memory_mib()], "MiB", at_most=budget, digits=0)


def long_conversations(chat: Subject) -> list[Row]:
    """The first word in a conversation of 2,000 messages, and in one that begins, one after the other."""
    (user,) = seeding.make_users(1)
    long = subjects.message(user, seeding.make_long_conversation(user.uid, LONG_MESSAGES), STREAM)
    new_ms, long_ms = [], []
    for _ in range(ROUNDS):
        new = [subjects.message(user, each, STREAM) for each in seeding.make_conversations([user] * LONG_PAIRS)]
        asked = iter([long, *itertools.chain.from_iterable((each, long) for each in new)])
        took = _run(chat, STREAM, asked, 1, 1 + 2 * LONG_PAIRS).first_word
        new_ms.append(statistics.median(took[1::2]) * 1000)
        long_ms.append(statistics.median(took[2::2]) * 1000)
    ratios = [slow / quick for slow, quick in zip(long_ms, new_ms, strict=True)]
    return [
        Row("first word in a new conversation, 1 client", new_ms, "ms"),
        Row(f"first word after {LONG_MESSAGES:,} messages, 1 client", long_ms, "ms"),
        Row("  their ratio", ratios, "", at_most=LONG_BUDGET, digits=2),
    ]


# --- 400 clients -----------------------------------------------------------------------------------------------------


def crowds(ours: list[Subject]) -> list[Row]:
    """400 streams of two seconds at the same time, each followed by another one, in one process."""
    rates, took, errors = (defaultdict[str, list[float]](list) for _ in range(3))
    prepared = [(subject, subject.requests(PACED)) for _ in range(CROWD_ROUNDS) for subject in ours]
    for subject in ours:
        _run(subject, STREAM, subject.requests(STREAM), CLIENTS, subject.warm_up)
    for subject, requests in prepared:
        result = _tried(subject, PACED, requests, CROWD, 2 * CROWD)
        subject.settle()
        rates[subject.name].append(result.per_second)
        took[subject.name].append(statistics.median(result.whole) if result.whole else math.inf)
        errors[subject.name].append(len(result.errors))
        if result.errors:
            _say(result.errors[0].decode(errors="replace"))
    rows = []
    for subject in ours:
        is_product = _is_product(subject)
        what = f"{subject.name}, {CROWD} two-second streams at once"
        rows.append(Row(what, rates[subject.name], "/s", at_least=CROWD_BUDGET_PER_S if is_product else None))
        rows.append(Row("  until such a stream has ended", took[subject.name], "s", digits=2))
        rows.append(Row("  errors", errors[subject.name], "", at_most=0 if is_product else None, digits=0))
    return rows


# --- a new process ---------------------------------------------------------------------------------------------------


def cold_starts(bench: Bench) -> list[Row]:
    """From the start of the process to the whole answer of a turn: key, account, limits, ledger, provider."""
    took = defaultdict[str, list[cold_start.Took]](list)
    relayed = next(subjects.completions("/")(PLAIN))
    for _ in range(COLD_STARTS):
        for function in OURS:
            request = next(function.requests_of(bench.users[:1])(PLAIN))
            took[function.name].append(cold_start.measure(function.target, bench.folder, request))
        relay = cold_start.measure("relay", bench.folder, relayed, source="tests/load/relay.py", THREADS="80")
        took[BARE_RELAY].append(relay)
    rows = []
    for name, measured in took.items():
        budget = None if name == BARE_RELAY else COLD_BUDGET_S
        walls, cpus = [each.wall_s for each in measured], [each.cpu_s for each in measured]
        rows.append(Row(f"{name}, cold start to the end of a first turn", walls, "s", at_most=budget, digits=2))
        rows.append(Row("  processor time of it", cpus, "s", digits=2))
    return rows


# --- round trips -----------------------------------------------------------------------------------------------------


def round_trips(bench: Bench) -> list[Row]:
    """How often a turn waits for Firestore before and after the provider, counted on the wire."""
    limited = seeding.make_users(1, monthly_limit=True)
    rows = []
    for function, (users, about) in itertools.product(
        OURS, ((bench.users[:1], ""), (limited, ", key with a monthly limit"))
    ):
        with FirestoreProxy(os.environ["FIRESTORE_EMULATOR_HOST"], delay_s=FIRESTORE_DELAY_S) as proxy:
            subject = subjects.start_function(
                function.target,
                function.name,
                function.requests_of(users),
                bench.folder,
                environment={"FIRESTORE_EMULATOR_HOST": proxy.address},
            )
            try:
                before, after = _watched_turns(subject, bench.provider, proxy)
            finally:
                subject.stop()
        rows.append(Row(f"{function.name}{about}, Firestore awaited before asking", before, "", at_most=1, digits=0))
        rows.append(Row("  and after the answer", after, "", at_most=1, digits=0))
    return rows


def _watched_turns(subject: Subject, provider: Subject, proxy: FirestoreProxy) -> tuple[list[float], list[float]]:
    requests = subject.requests(PLAIN)
    for _ in range(3):
        subjects.ask(subject.port, next(requests))
    before, after = [], []
    for turn in range(WATCHED_TURNS):
        time.sleep(0.2)  # what the turn before left behind is done by now
        _provider_times(provider)
        proxy.calls.clear()
        sent_at = time.monotonic()
        answer = subjects.ask(subject.port, next(requests))
        ended_at = time.monotonic()
        assert answer.status == 200, answer.body.decode()
        ((asked_at, answered_at),) = _provider_times(provider)
        calls = list(proxy.calls)
        if turn == 0:
            _say(_described(calls, sent_at, asked_at, answered_at, ended_at))
        before.append(float(longest_chain(_within(calls, sent_at, asked_at))))
        after.append(float(longest_chain(_within(calls, asked_at, ended_at))))
    return before, after


def _within(calls: Iterable[FirestoreCall], since: float, until: float) -> list[FirestoreCall]:
    """The calls that had their answer in this time; only those can have been waited for."""
    return [call for call in calls if call.ended_at is not None and since <= call.ended_at <= until]


def _described(calls: list[FirestoreCall], sent_at: float, *moments: float) -> str:
    asked, answered, ended = ((moment - sent_at) * 1000 for moment in moments)
    shown = ", ".join(
        f"{call.method} {(call.began_at - sent_at) * 1000:.0f}…"
        f"{(call.ended_at - sent_at) * 1000 if call.ended_at else float('nan'):.0f}"
        for call in calls
    )
    return f"{shown} ms; provider {asked:.0f}…{answered:.0f} ms; answer {ended:.0f} ms"


def _provider_times(provider: Subject) -> list[tuple[float, float]]:
    told = subjects.ask(provider.port, b"GET /times HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return [(asked, answered) for asked, answered in json.loads(told.body)]


# --- what they have in common ----------------------------------------------------------------------------------------


def _profile(bench: Bench) -> None:
    profiled = profiling.WARM_UP + profiling.PROFILED
    with bench.running() as ours:
        for (function, subject), shape in itertools.product(zip(OURS, ours, strict=False), (PLAIN, STREAM)):
            rate, cost_ms = _round(subject, shape)
            requests = itertools.islice(subject.requests(shape), profiled)
            print(f"\n{subject.name}, {shape.name}: {rate:.0f}/s, {cost_ms:.2f} ms each")
            print(profiling.shown(function.target, requests, cost_ms))


def _check_ledger(users: list[seeding.User]) -> None:
    """After all this every account agrees with its entries; figures of turns that were not paid would be worthless."""
    for user in users:
        problems = credits.verify_account(user.uid)
        assert not problems, problems


def _is_product(subject: Subject) -> bool:
    return subject.name in {function.name for function in OURS}


def _chat_of(ours: list[Subject]) -> Subject:
    (chat,) = (subject for subject in ours if subject.name == OURS[-1].name)
    return chat


def _say(text: str) -> None:
    print(f"… {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
