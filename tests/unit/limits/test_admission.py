"""What is counted for whom, and what the caller hears, with the limits of one process."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.errors import RateLimited
from shared.identity.caller import Caller, KeyGrant, Proof
from shared.limits import admission
from shared.limits.admission import admit, note_failed_sign_in, refuse_when_suspicious
from shared.limits.gcra import Bucket
from shared.limits.limiter import limiter
from shared.limits.policies import FAILED_SIGN_INS, LimitClass, address_policy, plan_limits

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADDRESS = "203.0.113.7"
FREE = plan_limits("free")


def caller(uid="ada", plan="free", key_id=None):
    key = None
    if key_id:
        key = KeyGrant(id=key_id, budget_id=key_id, scopes=frozenset(), allowed_models=None, monthly_limit_micro=None)
    return Caller(uid=uid, plan=plan, proof=Proof.API_KEY if key else Proof.ID_TOKEN, key=key)


def ask(limit_class=LimitClass.WRITE, who=None, *, weight=1, address="", now=NOW):
    return admit(limit_class=limit_class, weight=weight, caller=who, address=address, now=now)


def refusal(*args, **kwargs):
    with pytest.raises(RateLimited) as caught:
        ask(*args, **kwargs)
    return caught.value


def use_up(limit_class, who, **kwargs):
    """How many requests pass before one does not."""
    for passed in range(100_000):
        try:
            ask(limit_class, who, **kwargs).release()
        except RateLimited:
            return passed
    raise AssertionError("There is no limit.")


@pytest.mark.parametrize("limit_class", [LimitClass.READ, LimitClass.WRITE, LimitClass.GENERATE, LimitClass.SIGN_IN])
@pytest.mark.parametrize("plan", ["free", "pro", "enterprise"])
def test_a_user_gets_exactly_the_quota_of_their_plan(plan, limit_class):
    assert use_up(limit_class, caller(plan=plan)) == plan_limits(plan).by_user[limit_class].quota


def test_a_plan_that_is_not_known_gets_what_the_free_one_gets():
    assert use_up(LimitClass.WRITE, caller(plan="platinum")) == FREE.by_user[LimitClass.WRITE].quota


def test_one_user_takes_nothing_from_another():
    use_up(LimitClass.WRITE, caller("ada"))
    ask(who=caller("bob"))


def test_one_class_takes_nothing_from_another():
    use_up(LimitClass.WRITE, caller())
    ask(LimitClass.READ, caller())


def test_a_key_is_used_up_before_its_owner():
    assert use_up(LimitClass.WRITE, caller(key_id="key_1")) == FREE.by_key[LimitClass.WRITE].quota
    assert refusal(who=caller(key_id="key_1")).details["reason"] == "write-key"
    ask(who=caller(key_id="key_2"))
    ask(who=caller())


def test_the_keys_of_a_user_together_get_no_more_than_the_user():
    passed = sum(use_up(LimitClass.WRITE, caller(key_id=f"key_{number}")) for number in range(5))
    assert passed == FREE.by_user[LimitClass.WRITE].quota


def test_a_refused_request_takes_nothing_anywhere():
    use_up(LimitClass.WRITE, caller(key_id="key_1"))
    before = ask(who=caller()).headers["RateLimit"]
    for _ in range(10):
        refusal(who=caller(key_id="key_1"))
    after = ask(who=caller()).headers["RateLimit"]
    assert (before, after) == ('"write";r=29;t=31', '"write";r=28;t=32')


def test_many_accounts_of_one_address_get_what_the_address_gets():
    quota = address_policy(LimitClass.GENERATE, signed_in=True).quota
    per_user = FREE.by_user[LimitClass.GENERATE].quota
    passed = sum(
        use_up(LimitClass.GENERATE, caller(f"user-{number}"), address=ADDRESS)
        for number in range(quota // per_user + 2)
    )
    assert passed == quota
    error = refusal(LimitClass.GENERATE, caller("one-more"), address=ADDRESS)
    assert error.details["reason"] == "generate-address"
    assert '"generate-address";q=1200;w=60' in error.headers["RateLimit-Policy"]


def test_a_caller_does_not_hear_of_an_address_that_others_share():
    headers = ask(who=caller(), address=ADDRESS).headers
    assert headers == {"RateLimit-Policy": '"write";q=60;w=60', "RateLimit": '"write";r=59;t=1'}


def test_who_is_not_signed_in_is_counted_by_address_alone():
    quota = address_policy(LimitClass.PUBLIC, signed_in=False).quota
    assert use_up(LimitClass.READ, None, address=ADDRESS) == quota
    assert refusal(LimitClass.PUBLIC, address=ADDRESS).details["reason"] == "public-address"
    ask(LimitClass.PUBLIC, address="203.0.113.8")


def test_neighbours_in_one_ipv6_network_count_together():
    use_up(LimitClass.PUBLIC, None, address="2001:db8:1:2::1")
    refusal(LimitClass.PUBLIC, address="2001:db8:1:2:ffff::9")
    ask(LimitClass.PUBLIC, address="2001:db8:1:3::1")


def test_without_caller_and_address_nothing_is_counted_and_nothing_told():
    for _ in range(500):
        assert ask(LimitClass.PUBLIC, address="127.0.0.1").headers == {}


def test_waiting_as_long_as_told_passes_and_one_second_less_does_not():
    use_up(LimitClass.GENERATE, caller())
    wait_s = refusal(LimitClass.GENERATE, caller()).retry_after_s
    assert wait_s == 3
    refusal(LimitClass.GENERATE, caller(), now=NOW + timedelta(seconds=wait_s - 1))
    ask(LimitClass.GENERATE, caller(), now=NOW + timedelta(seconds=wait_s)).release()


def test_a_heavy_request_counts_for_its_weight_and_waits_for_all_of_it():
    for _ in range(6):
        ask(who=caller(), weight=10)
    wait_s = refusal(who=caller(), weight=10).retry_after_s
    assert wait_s == 10
    refusal(who=caller(), weight=10, now=NOW + timedelta(seconds=wait_s - 1))
    ask(who=caller(), weight=10, now=NOW + timedelta(seconds=wait_s))


def test_a_request_heavier_than_the_quota_takes_all_of_it_and_can_pass():
    ask(LimitClass.SIGN_IN, caller(), weight=1000)
    refusal(LimitClass.SIGN_IN, caller())


def test_a_refusal_tells_when_to_come_back_and_where_the_caller_stands():
    use_up(LimitClass.WRITE, caller())
    error = refusal(who=caller())
    assert (error.status, error.retry_after_s) == (429, 1)
    assert error.headers == {"RateLimit-Policy": '"write";q=60;w=60', "RateLimit": '"write";r=0;t=1'}
    assert error.message == "The limit 'write' is 60 in 60 s. Try again in 1 s."


def test_a_generation_tells_of_requests_tokens_and_places():
    admitted = ask(LimitClass.GENERATE, caller())
    assert admitted.headers == {
        "RateLimit-Policy": ('"generate";q=20;w=60, "tokens";q=40000;w=60, "concurrency";q=2;qu="concurrent-requests"'),
        "RateLimit": '"generate";r=19;t=3, "tokens";r=40000;t=0, "concurrency";r=1',
    }
    admitted.release()


def test_only_so_many_generations_of_one_user_run_at_the_same_time():
    running = [ask(LimitClass.GENERATE, caller()) for _ in range(2)]
    error = refusal(LimitClass.GENERATE, caller())
    assert error.details["reason"] == "concurrency"
    assert error.message.startswith("At most 2 of these may run at the same time.")
    ask(LimitClass.GENERATE, caller("bob")).release()
    running[0].release()
    running[0].release()
    third = ask(LimitClass.GENERATE, caller())
    refusal(LimitClass.GENERATE, caller())
    running[1].release()
    third.release()


def test_only_so_many_of_one_user_follow_at_the_same_time():
    following = [ask(LimitClass.FOLLOW, caller()) for _ in range(FREE.followers.slots)]
    assert refusal(LimitClass.FOLLOW, caller()).details["reason"] == "followers"
    ask(LimitClass.GENERATE, caller()).release()
    following[0].release()
    ask(LimitClass.FOLLOW, caller()).release()
    assert "tokens" not in following[1].headers["RateLimit"]


def test_reading_and_writing_take_no_place_of_generations():
    admitted = [ask(LimitClass.WRITE, caller()) for _ in range(5)]
    assert "concurrency" not in admitted[-1].headers["RateLimit"]


@pytest.fixture
def at_noon(monkeypatch):
    """Tokens are charged when the answer has ended: the limiter's own time."""
    monkeypatch.setattr("shared.limits.limiter._now_us", lambda: round(NOW.timestamp() * 1_000_000))


@pytest.mark.usefixtures("at_noon")
def test_tokens_are_counted_when_they_are_known_and_a_debt_makes_the_next_request_wait():
    first = ask(LimitClass.GENERATE, caller())
    first.charge_tokens(30_000)
    first.release()
    second = ask(LimitClass.GENERATE, caller())
    assert '"tokens";r=10000;t=45' in second.headers["RateLimit"]
    second.charge_tokens(50_000)
    second.release()
    error = refusal(LimitClass.GENERATE, caller())
    assert (error.details["reason"], error.retry_after_s) == ("tokens", 61)
    refusal(LimitClass.GENERATE, caller(), now=NOW + timedelta(seconds=60))
    ask(LimitClass.GENERATE, caller(), now=NOW + timedelta(seconds=61)).release()


@pytest.mark.usefixtures("at_noon")
def test_one_answer_of_any_size_makes_nobody_wait_for_hours():
    admitted = ask(LimitClass.GENERATE, caller())
    admitted.charge_tokens(10**15)
    admitted.release()
    wait_s = refusal(LimitClass.GENERATE, caller()).retry_after_s
    assert wait_s is not None
    assert 240 < wait_s <= 300


@pytest.mark.usefixtures("at_noon")
@pytest.mark.parametrize("tokens", [0, -5])
def test_an_answer_without_tokens_charges_nothing(tokens):
    admitted = ask(LimitClass.GENERATE, caller())
    admitted.charge_tokens(tokens)
    admitted.release()
    assert '"tokens";r=40000;t=0' in ask(LimitClass.GENERATE, caller()).headers["RateLimit"]


def test_what_is_no_generation_has_no_tokens_to_charge():
    admitted = ask(LimitClass.WRITE, caller())
    admitted.charge_tokens(10**9)
    admitted.release()
    ask(LimitClass.GENERATE, caller()).release()


def fail(times, address=ADDRESS):
    for _ in range(times):
        note_failed_sign_in(address)


def test_an_address_is_refused_after_so_many_failed_sign_ins_and_not_before():
    fail(FAILED_SIGN_INS.quota - 1)
    refuse_when_suspicious(ADDRESS)
    fail(1)
    with pytest.raises(RateLimited) as caught:
        refuse_when_suspicious(ADDRESS)
    assert caught.value.details["reason"] == "failed-sign-ins"
    assert caught.value.retry_after_s == 30
    refuse_when_suspicious("203.0.113.8")


def test_asking_whether_an_address_is_suspicious_takes_nothing():
    fail(FAILED_SIGN_INS.quota - 1)
    for _ in range(100):
        refuse_when_suspicious(ADDRESS)


def test_an_address_that_was_believed_is_asked_about_again_after_it_failed():
    refuse_when_suspicious(ADDRESS)
    fail(FAILED_SIGN_INS.quota)
    with pytest.raises(RateLimited):
        refuse_when_suspicious(ADDRESS)


def test_this_machine_is_never_suspicious():
    fail(1000, "127.0.0.1")
    refuse_when_suspicious("127.0.0.1")


def test_believed_addresses_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(admission, "_MAX_CLEAN", 10)
    for number in range(100):
        refuse_when_suspicious(f"198.51.100.{number}")
    assert len(admission._clean._until) == 10


def test_an_address_is_believed_for_seconds_only(monkeypatch):
    """Failures that other processes have seen count here as soon as it is asked about again."""
    now = [100.0]
    monkeypatch.setattr(admission, "_clean", admission._CleanNetworks(monotonic=lambda: now[0]))
    refuse_when_suspicious(ADDRESS)
    failures = Bucket(f"limits:{{all}}:{FAILED_SIGN_INS.name}:{ADDRESS}", FAILED_SIGN_INS, FAILED_SIGN_INS.quota)
    limiter().charge(failures)
    refuse_when_suspicious(ADDRESS)
    now[0] += admission._CLEAN_FOR_S
    with pytest.raises(RateLimited):
        refuse_when_suspicious(ADDRESS)
