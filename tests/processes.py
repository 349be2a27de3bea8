"""Functions as Cloud Run runs them: `functions-framework` in a process of its own, on real sockets."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE_S = 40


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tell(config, text: str) -> None:
    """Show a figure in the output of a test run that passes."""
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{text}")


class FunctionProcess:
    """One function, in a process group that can be killed without warning."""

    def __init__(self, target: str, log: Path, *, source: str = "main.py", **environment: str) -> None:
        self.port = free_port()
        framework = str(Path(sys.executable).with_name("functions-framework"))
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [framework, "--source", source, "--target", target, *address],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "FUNCTION_TARGET": target, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_it_answers()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def _wait_until_it_answers(self) -> None:
        give_up_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_at:
            connection = self.connect()
            try:
                connection.request("GET", "/__/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.1)
            finally:
                connection.close()
        self.kill()
        raise AssertionError(f"the function's process does not answer:\n{self.log()}")

    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        """Without warning, and it does no harm when the process has ended already."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=10)
