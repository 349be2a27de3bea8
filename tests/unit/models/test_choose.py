"""Which models a turn asks, in which order, and what is refused before anything is held."""

import pytest

from functions.models import service
from functions.models.domain import FOR_ANYONE, Defaults, Policy
from shared.errors import InvalidRequest, PermissionDenied, Unavailable, UpstreamBusy
from tests.unit.models.entries import stored

MINI, FLASH = FOR_ANYONE
SONNET, SPARE = "anthropic/claude-sonnet-4.5", "acme/spare"


def chosen(slug=None, **options):
    return [model.slug for model in service.choose(slug, **{"plan": "free", **options})]


@pytest.fixture(autouse=True)
def _catalogue_in_memory(database):
    """Every test here has one."""


def test_who_names_a_model_gets_that_one_alone():
    assert chosen(SPARE) == [SPARE]


@pytest.mark.parametrize(
    "name", ["anthropic/claude-4.5-sonnet-20250929", "anthropic/claude-sonnet-4-5", "anthropic/claude-sonnet-4.5"]
)
def test_a_model_answers_to_its_dated_name_and_to_dashes_for_dots(name):
    assert chosen(name, plan="pro") == [SONNET]


@pytest.mark.parametrize("name", ["acme/none", "acme", "", ".", "..", "__x__", "a b/c", "x" * 300, "ş/ş", "~defaults"])
def test_an_unknown_model_is_refused_by_name(name, database):
    with pytest.raises(InvalidRequest) as refused:
        chosen(name)
    assert [problem.field for problem in refused.value.fields] == ["model"]
    assert "GET /api/v1/models" in refused.value.fields[0].message


def test_what_cannot_be_a_name_is_never_looked_for(database):
    with pytest.raises(InvalidRequest):
        chosen("../../users/somebody")
    assert database.asked == [[]], "the defaults alone"


@pytest.mark.parametrize("plan", ["free", "platinum"])
def test_a_model_above_the_plan_is_refused_with_the_plan_it_takes(plan):
    with pytest.raises(PermissionDenied) as refused:
        chosen(SONNET, plan=plan)
    assert refused.value.details == {"reason": "plan", "plan": "pro", "model": SONNET}
    assert refused.value.fields[0].field == "model"


def test_a_disabled_model_is_as_if_it_were_not_there(database):
    database.add(stored(SPARE, Policy(enabled=False)))
    with pytest.raises(InvalidRequest):
        chosen(SPARE, plan="enterprise")


def test_fallbacks_follow_in_their_order_each_once():
    assert chosen(SPARE, fallbacks=[FLASH, SPARE, MINI, FLASH]) == [SPARE, FLASH, MINI]


def test_who_names_no_fallbacks_gets_those_of_the_operators(database):
    database.add(stored(SPARE, Policy(fallbacks=(FLASH, "acme/gone", SONNET, SPARE))))
    assert chosen(SPARE) == [SPARE, FLASH], "what is gone, or takes a larger plan, is left out"
    assert chosen(SPARE, fallbacks=[MINI]) == [SPARE, MINI]


def test_an_unknown_fallback_is_refused_by_its_place():
    with pytest.raises(InvalidRequest) as refused:
        chosen(MINI, fallbacks=[SPARE, "acme/none"])
    assert refused.value.fields[0].field == "fallbacks[1]"
    with pytest.raises(InvalidRequest) as refused:
        chosen(None, fallbacks=["acme/none"])
    assert refused.value.fields[0].field == "fallbacks[0]"


def test_a_fallback_above_the_plan_is_refused_too():
    with pytest.raises(PermissionDenied) as refused:
        chosen(MINI, fallbacks=[SONNET])
    assert refused.value.fields[0].field == "fallbacks[0]"


def test_who_names_nothing_gets_the_default_and_its_stand_ins():
    assert chosen() == [MINI, FLASH]


def test_fallbacks_stand_between_the_default_and_its_stand_ins():
    assert chosen(fallbacks=[SPARE]) == [MINI, SPARE, FLASH]
    assert chosen(fallbacks=[FLASH]) == [MINI, FLASH]


def test_each_plan_has_the_default_that_operators_gave_it(database):
    database.defaults = Defaults(default_models={"pro": SONNET}, stand_ins=(SPARE,))
    assert chosen(plan="pro") == [SONNET, SPARE]
    assert chosen(plan="free") == [MINI, SPARE]


def test_a_default_that_was_disabled_gives_way_to_a_stand_in(database):
    database.add(stored(MINI, Policy(enabled=False)))
    assert chosen() == [FLASH]


def test_without_any_model_for_anyone_it_is_our_fault(database):
    database.entries.clear()
    with pytest.raises(Unavailable):
        chosen()


def test_a_named_model_that_fails_is_refused_with_the_time_to_come_back(fail):
    fail(SPARE)
    with pytest.raises(UpstreamBusy) as busy:
        chosen(SPARE)
    assert busy.value.details["circuit"] == f"model:{SPARE}"
    assert (busy.value.retry_after_s or 0) >= 1


def test_the_first_fallback_that_does_not_fail_is_asked(fail):
    fail(SPARE, FLASH)
    assert chosen(SPARE, fallbacks=[FLASH, MINI]) == [MINI]


def test_a_chain_is_busy_only_when_all_of_it_fails(fail):
    fail(SPARE, FLASH)
    with pytest.raises(UpstreamBusy):
        chosen(SPARE, fallbacks=[FLASH])


def test_what_fails_is_passed_over_for_those_who_name_nothing(fail):
    fail(MINI)
    assert chosen() == [FLASH]
    assert not service.all_for_anyone_fail()


def test_while_all_fail_those_who_name_nothing_are_answered_all_the_same(fail):
    fail(MINI, FLASH)
    assert chosen() == [MINI, FLASH]
    assert service.all_for_anyone_fail()
    assert chosen(fallbacks=[SPARE]) == [SPARE]


def test_while_the_provider_itself_fails_nobody_is_asked_but_mistakes_are_told_first(fail):
    fail(None)
    for slug in (None, MINI):
        with pytest.raises(UpstreamBusy) as busy:
            chosen(slug)
        assert busy.value.details["circuit"] == "openrouter"
    with pytest.raises(InvalidRequest):
        chosen("acme/none")


def test_a_chain_takes_one_round_trip_and_none_within_the_minute(database):
    chosen(SPARE, fallbacks=[FLASH])
    assert database.asked == [[SPARE, FLASH]]
    chosen(SPARE, fallbacks=[FLASH])
    assert len(database.asked) == 1


def test_naming_nothing_takes_one_round_trip(database):
    chosen(fallbacks=[SPARE])
    assert database.asked == [[SPARE, MINI, FLASH]]


@pytest.mark.parametrize(
    ("said", "slug"),
    [
        ("anthropic/claude-4.5-sonnet-20250929", SONNET),
        (SONNET, SONNET),
        ("openai/gpt-4o-mini-20250929", MINI),
        ("acme/unheard-of-2027", "acme/unheard-of-2027"),
        ("", ""),
        ("what/ever\n", "what/ever\n"),
    ],
)
def test_an_answers_own_name_leads_to_the_catalogues(said, slug):
    assert service.slug_of(said) == slug


def test_a_free_variant_never_stands_for_the_paid_model(database):
    database.add(stored("acme/m2:free", canonical_slug="acme/m2"), stored("acme/m2", canonical_slug="acme/m2"))
    assert service.slug_of("acme/m2") == "acme/m2"
    assert service.slug_of("acme/m2:free") == "acme/m2:free"


def test_a_name_is_not_worth_an_answer_when_the_database_is_away(database):
    database.away = True
    assert service.slug_of("anthropic/claude-4.5-sonnet-20250929") == "anthropic/claude-4.5-sonnet-20250929"


def test_a_model_is_found_whoever_may_ask_it(database):
    database.add(stored("acme/old", Policy(enabled=False, markup_percent=50)))
    found = service.find("acme/old")
    assert found is not None
    assert found.markup_percent == 50
    assert service.find("acme/none") is None


def test_a_list_tells_what_the_plan_may_and_leaves_out_what_nobody_may(database):
    database.add(stored(SPARE, Policy(enabled=False)))

    listed = {each.offer.slug: (each.available, each.needs_plan) for each in service.list_for("free")}

    assert listed == {SONNET: (False, "pro"), FLASH: (True, "free"), MINI: (True, "free")}
    assert all(each.available for each in service.list_for("pro"))


def test_the_default_of_a_list_is_what_a_turn_would_ask(database):
    assert service.default_for("free") == MINI
    assert service.default_for("free", SPARE) == SPARE
    assert service.default_for("free", SONNET) == MINI
    assert service.default_for("pro", SONNET) == SONNET
