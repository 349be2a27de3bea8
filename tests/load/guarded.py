"""Two functions to compare: one that does nothing, and the same behind the whole pipeline.

The second checks a signed ID token, the account's standing, the permission and the limits, as every route does. The
certificates come from a file instead of Google's address, because a benchmark has no network.
"""

import json
import os
from pathlib import Path
from typing import Any

from flask import Request, Response
from pydantic import BaseModel

from shared import startup

startup.prepare()

from shared.http.pipeline import serve  # noqa: E402  # the process is known to be safe now
from shared.http.routes import Call, Routes  # noqa: E402
from shared.identity.permissions import Permission  # noqa: E402

_BODY = '{"status":"ok"}'

routes = Routes("guarded")


class Answer(BaseModel):
    status: str


@routes.get("/guarded", who=Permission.PROFILE_READ, answer=Answer)
def guarded_route(call: Call[Any, Any]) -> Answer:
    """Do nothing, for somebody who may ask for it."""
    return Answer(status="ok")


def empty(request: Request) -> Response:
    return Response(_BODY, content_type="application/json")


guarded = serve(routes)


def _use_local_certificates() -> None:
    from google.oauth2 import id_token

    certificates = json.loads(Path(os.environ["LOCAL_CERTIFICATES"]).read_text())
    id_token._fetch_certs = lambda *_: certificates


_use_local_certificates()
