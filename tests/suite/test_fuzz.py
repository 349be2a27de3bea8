"""Every route of the API document, asked with what a schema-driven fuzzer thinks of: right, wrong and absurd.

Nothing may end in an error of ours, and no answer may be one that the document does not describe. `make test` asks the
same questions every time; `FUZZ_EXAMPLES=1000 make fuzz` asks new ones.
"""

import os
from typing import Any
from urllib.parse import unquote

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from functions.api import document
from tests.processes import tell
from tests.suite.support import Suite, User, set_account, sign_up

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

schema = schemathesis.openapi.from_dict(document())


class Askers:
    """A user of its own for each operation, because some of them end sessions and accounts."""

    def __init__(self) -> None:
        self._suite = Suite()
        self._users: dict[str, User] = {}
        self.asked = 0
        self.operations: set[str] = set()

    def url(self) -> str:
        return self._suite.hosting

    def of(self, operation: str) -> User:
        if operation not in self._users:
            self._users[operation] = self._someone(operation)
        return self._users[operation]

    def _someone(self, operation: str) -> User:
        """With a plan that allows much; an operator of its own, so that no other test meets the limits of this one."""
        user = sign_up(self._suite)
        # What operators decide about models holds for every other test too; it has a fuzzer of its own.
        concerns_all = operation.startswith("PUT /api/v1/admin/models")
        role = "admin" if "/admin/" in operation and not concerns_all else "user"
        set_account(user, plan="enterprise", role=role)
        return user


@pytest.fixture(scope="module")
def askers(pytestconfig):
    askers = Askers()
    yield askers
    tell(pytestconfig, f"fuzzing: {askers.asked} requests to {len(askers.operations)} operations")


@pytest.mark.timeout(600)
@schema.parametrize()
@settings(
    max_examples=EXAMPLES or 20,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_no_request_breaks_a_route_and_every_answer_is_in_the_document(case: Any, askers: Askers):
    # A path with control characters, or with a name that begins with a dot, which Hosting's globs pass over, is
    # answered by the servers in front, in HTML, and never reaches a function.
    named = [unquote(str(value)) for value in (case.path_parameters or {}).values()]
    if any(name.startswith(".") or any(character < " " for character in name) for name in named):
        return
    # It belongs to one connection, so the servers in front answer for it too.
    for name in [name for name in case.headers or {} if name.lower() == "transfer-encoding"]:
        del case.headers[name]
    user = askers.of(case.operation.label)
    askers.asked += 1
    askers.operations.add(case.operation.label)
    response = case.call(base_url=askers.url(), headers={"Authorization": f"Bearer {user.token}"})
    case.validate_response(response, checks=CHECKS)
