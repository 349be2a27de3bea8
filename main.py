"""What Firebase deploys: the functions of `shared.deployment.FUNCTIONS`.

An instance serves one function, named by FUNCTION_TARGET, and imports only that one's module: half of a cold start is
imports. Without FUNCTION_TARGET (discovery, tests) everything is imported.
"""

import os
from importlib import import_module

from shared import startup

startup.prepare()

from shared.deployment import FUNCTIONS  # noqa: E402  # nothing is imported before the process is known to be safe
from shared.presence import serve_as  # noqa: E402

_target = os.environ.get("FUNCTION_TARGET", "")
if _target in FUNCTIONS:
    # The framework reads THREADS after this import; fewer threads than admitted requests would let them queue.
    os.environ.setdefault("THREADS", str(FUNCTIONS[_target].options.concurrency))
    serve_as(_target)

_deployed = [name for name, function in FUNCTIONS.items() if not function.only_with or function.only_with in os.environ]

for _name in [_target] if _target in FUNCTIONS else _deployed:
    globals()[_name] = getattr(import_module(FUNCTIONS[_name].module), _name)
