"""What Firebase deploys: the name of each function and the module that holds it.

An instance serves one function, named by FUNCTION_TARGET, and imports only that one's module: half of a cold start is
imports. Without FUNCTION_TARGET (discovery, tests) everything is imported.
"""

import os
from importlib import import_module

from shared import startup

startup.prepare()

from shared.options import OPTIONS  # noqa: E402  # nothing is imported before the process is known to be safe

MODULES = {
    "system": "functions.system.http",
    "chat": "functions.chat.http",
    "chat_send": "functions.chat.callable",
    "credits": "functions.credits.http",
    "activity": "functions.activity.http",
    "on_event_created": "triggers.firestore",
    "on_chat_event": "triggers.pubsub",
    "sweep": "triggers.scheduler",
    "sync_models": "triggers.scheduler",
}

_target = os.environ.get("FUNCTION_TARGET", "")
if _target in MODULES:
    # The framework reads THREADS after this import; fewer threads than admitted requests would let them queue.
    os.environ.setdefault("THREADS", str(OPTIONS[_target].concurrency))

for _name in [_target] if _target in MODULES else MODULES:
    globals()[_name] = getattr(import_module(MODULES[_name]), _name)
