"""Bodies of the operators' routes."""

import json

import pytest
from pydantic import ValidationError

from functions.admin.schemas import RoleChange, SuspensionRequest, UserSearch


def parse(model, body):
    return model.model_validate_json(json.dumps(body), strict=True)


@pytest.mark.parametrize("body", [{}, {"email": "a@b.c", "username": "ada"}])
def test_a_search_is_by_exactly_one_thing(body):
    with pytest.raises(ValidationError, match="either an email or a username"):
        parse(UserSearch, body)


def test_a_user_name_is_searched_for_in_its_one_spelling():
    assert parse(UserSearch, {"username": "ADA"}).username == "ada"


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (RoleChange, {"role": "admin"}),
        (RoleChange, {"role": "admin", "reason": "  "}),
        (RoleChange, {"role": "root", "reason": "because"}),
        (RoleChange, {"role": "admin", "reason": "because", "uid": "me"}),
        (SuspensionRequest, {}),
        (SuspensionRequest, {"reason": "x" * 501}),
        (SuspensionRequest, {"reason": "because", "by": "somebody else"}),
    ],
)
def test_a_change_needs_a_reason_and_nothing_that_the_server_knows(model, body):
    with pytest.raises(ValidationError):
        parse(model, body)
