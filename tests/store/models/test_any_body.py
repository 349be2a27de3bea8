"""The operators' routes, asked with what their schemas allow and more: nothing breaks, and what holds can be read."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.identity.permissions import Role
from tests.store.models.support import ADMIN_MODELS, DEFAULTS, FLASH, MINI, SONNET, SPARE

SLUGS = st.sampled_from([MINI, FLASH, SONNET, SPARE, "acme/none", "", "~defaults", "a/b/c", "\x00/\ud83d"])
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.just([]), st.just({})
)
PLANS = st.sampled_from(["free", "pro", "enterprise", "gold"])
NUMBERS = st.integers(-1, 2000) | ODD
PRICES = st.sampled_from(["0", "5", "0.000001", "999999", "1e3", "-1", "NaN", "5."]) | NUMBERS


def bodies(**fields):
    return st.fixed_dictionaries({}, optional={name: value | ODD for name, value in fields.items()})


POLICIES = bodies(
    model=SLUGS,
    enabled=st.booleans(),
    min_plan=PLANS,
    markup_percent=NUMBERS,
    max_answer_tokens=NUMBERS,
    default_answer_tokens=NUMBERS,
    default_parameters=st.dictionaries(st.sampled_from(["temperature", "top_p", "reasoning", "x"]), NUMBERS),
    fallbacks=st.lists(SLUGS, max_size=6),
    unknown=ODD,
)
DEFAULT_BODIES = bodies(
    default_models=st.dictionaries(PLANS, SLUGS),
    stand_ins=st.lists(SLUGS, max_size=6),
    markup_percent=NUMBERS,
    highest_usd_per_million=st.dictionaries(PLANS, PRICES),
    unknown=ODD,
)


@pytest.mark.parametrize(("path", "bodies_of"), [(ADMIN_MODELS, POLICIES), (DEFAULTS, DEFAULT_BODIES)])
def test_no_decision_breaks_a_route_and_what_is_stored_can_be_read(operator, ask, path, bodies_of):
    admin = operator(Role.ADMIN)

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
    @given(bodies_of)
    def decide(body):
        answer = admin.request("PUT", path, body)
        assert answer.status_code in (200, 400), (json.dumps(body), answer.get_data(as_text=True))
        if answer.status_code == 400:
            assert answer.json["errors"]
            return
        assert admin.request("GET", ADMIN_MODELS).status_code == 200
        assert ask().status_code == 200

    decide()
