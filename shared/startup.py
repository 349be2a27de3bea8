"""What must hold before this process may serve: called first by `main.py`, before anything else is imported."""

import ctypes
import os
import signal
import sys

from gunicorn.config import GracefulTimeout, Keepalive

KEEP_ALIVE_S = 620
"""Longer than any proxy in front keeps a connection it may use again: Node 5 s, Google's load balancers 600 s
(https://cloud.google.com/load-balancing/docs/https#timeouts_and_retries)."""
STOPS_WITHIN_S = 8
"""Cloud Run kills what is left ten seconds after it asked a process to end
(https://cloud.google.com/run/docs/container-contract#instance-shutdown)."""
_PR_SET_PDEATHSIG = 1
_ORPHAN_PARENT = 1


def prepare() -> None:
    _refuse_emulator_variables_when_deployed()
    if os.environ.get("FUNCTIONS_EMULATOR") == "true" and "K_SERVICE" in os.environ:
        _end_with_parent()
    _leave_idle_connections_open()


def _refuse_emulator_variables_when_deployed() -> None:
    """Stop a deployed process that would believe unsigned tokens or talk to an emulator.

    Cloud Run sets K_CONFIGURATION; the Functions emulator sets FUNCTIONS_EMULATOR and never K_CONFIGURATION.
    """
    in_emulator = os.environ.get("FUNCTIONS_EMULATOR") == "true"
    deployed = "K_CONFIGURATION" in os.environ
    found = sorted(name for name in os.environ if name.endswith("_EMULATOR_HOST"))
    if in_emulator and deployed:
        sys.exit("Refusing to start: FUNCTIONS_EMULATOR is set in a deployed process. Unset it.")
    if found and not in_emulator:
        sys.exit(f"Refusing to start: {', '.join(found)} is set, but this process does not run in the emulator.")


def _end_with_parent() -> None:
    """Have the kernel stop this worker when the emulator's shell around it goes.

    firebase-tools ends only that shell and leaves the Python process behind (firebase/firebase-tools#11069).
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == _ORPHAN_PARENT:
        os.kill(os.getpid(), signal.SIGTERM)


def _leave_idle_connections_open() -> None:
    """Let the proxy be the one who closes: a request that crosses a close of ours would end in its 500 or 502.

    The framework starts gunicorn without this setting, and nothing of the environment reaches it.
    """
    Keepalive.default = KEEP_ALIVE_S
    # A connection that never said anything is waited for as long, also by a process that ends.
    GracefulTimeout.default = STOPS_WITHIN_S
