"""Several processes share one limit, and one that is killed does not keep what it held."""

import signal
import time

from tests.store.limits.support import new_key, new_slot, python_process, wait_until

HITS, PROCESSES, THREADS = 800, 4, 8

HIT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from tests.store.limits.support import hundred, limiter_on, patient_link

key, hits, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
limiter = limiter_on(patient_link())
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(lambda _: limiter.admit([hundred(key, 0)]), range(threads)))
    print("ready", flush=True)
    sys.stdin.readline()
    passed = sum(pool.map(lambda _: limiter.admit([hundred(key)]).admitted, range(hits)))
print(passed, "shared" if limiter._reachability.may_ask() else "local", flush=True)
"""

HOLD = """
import sys, time
from tests.store.limits.support import limiter_on, new_slot, patient_link

limiter = limiter_on(patient_link(), lease_s=1.0, renew_every_s=0.2)
assert limiter.admit([], new_slot(sys.argv[1])).admitted
assert limiter.admit([], new_slot(sys.argv[1])).admitted
print("held", flush=True)
time.sleep(100)
"""

FORK = """
import os, sys
from shared.limits.limiter import limiter
from tests.store.limits.support import new_slot

parents = limiter()
slot = new_slot(sys.argv[1])
assert parents.admit([], slot).admitted
child = os.fork()
if child == 0:
    mine = limiter()
    assert mine is not parents
    mine.end(None, slot)
    assert mine.admit([], new_slot(sys.argv[1])).admitted
    assert not mine.admit([], new_slot(sys.argv[1])).admitted
    assert mine.held._thread.is_alive()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert slot in parents.held
print("done", flush=True)
"""


def test_eight_hundred_concurrent_hits_of_four_processes_on_a_limit_of_hundred_pass_hundred(key, capsys):
    with (
        python_process(HIT, key, HITS // PROCESSES, THREADS) as first,
        python_process(HIT, key, HITS // PROCESSES, THREADS) as second,
        python_process(HIT, key, HITS // PROCESSES, THREADS) as third,
        python_process(HIT, key, HITS // PROCESSES, THREADS) as fourth,
    ):
        processes = (first, second, third, fourth)
        for process in processes:
            assert process.stdout.readline().strip() == "ready"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [process.stdout.readline().split() for process in processes]
    passed = [int(answer[0]) for answer in answers]
    with capsys.disabled():
        print(f"\n{HITS} hits, {PROCESSES} processes of {THREADS} threads, limit 100: {passed} = {sum(passed)} passed")
    assert [answer[1] for answer in answers] == ["shared"] * PROCESSES
    assert sum(passed) == 100


def test_slots_of_a_killed_process_are_free_one_lease_later_and_not_before_it_dies(new_limiter):
    slots = new_key()
    limiter = new_limiter()
    with python_process(HOLD, slots) as process:
        assert process.stdout.readline().strip() == "held"
        # Longer than three leases: the process renews them.
        for _ in range(15):
            assert not limiter.admit([], new_slot(slots)).admitted
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        late = new_slot(slots)
        wait_until(lambda: limiter.admit([], late).admitted)
    limiter.end(None, late)


def test_a_forked_process_limits_for_itself_and_leaves_its_parents_slots_alone():
    with python_process(FORK, new_key()) as process:
        assert process.stdout.readline().strip() == "done"
