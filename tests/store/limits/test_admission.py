"""Admission with a real Redis: what is counted here is known everywhere."""

import secrets

import pytest

from shared.errors import RateLimited
from shared.identity.caller import Caller, KeyGrant, Proof
from shared.limits import admission
from shared.limits.admission import admit, note_failed_sign_in, refuse_when_suspicious
from shared.limits.policies import FAILED_SIGN_INS, LimitClass


@pytest.fixture(autouse=True)
def become(monkeypatch, new_limiter):
    """Lets this test go on as another process would: with nothing of its own, and the same Redis."""

    def another_process():
        fresh = new_limiter()
        monkeypatch.setattr(admission, "limiter", lambda: fresh)
        monkeypatch.setattr(admission, "_clean", admission._CleanNetworks())

    another_process()
    return another_process


@pytest.fixture
def caller(uid):
    key = KeyGrant(id=f"key_{uid}", budget_id="any", scopes=frozenset(), allowed_models=None, monthly_limit_micro=None)
    return Caller(uid=uid, plan="free", proof=Proof.API_KEY, key=key)


@pytest.fixture
def address():
    """A network that no other test, and no other run, uses."""
    group, other = (secrets.randbelow(0xFFFE) + 1 for _ in range(2))
    return f"2001:db8:{group:x}:{other:x}::1"


def generate(caller, address):
    return admit(limit_class=LimitClass.GENERATE, weight=1, caller=caller, address=address)


def test_a_generation_counts_for_user_key_address_tokens_and_place(caller, address, store):
    admitted = generate(caller, address)
    assert admitted.headers == {
        "RateLimit-Policy": (
            '"generate";q=20;w=60, "generate-key";q=10;w=60, "tokens";q=40000;w=60, '
            '"concurrency";q=2;qu="concurrent-requests"'
        ),
        "RateLimit": '"generate";r=19;t=3, "generate-key";r=9;t=6, "tokens";r=40000;t=0, "concurrency";r=1',
    }
    network = address.removesuffix("1") + "/64"
    tokens, place = (f"limits:{{all}}:{name}:{caller.uid}" for name in ("tokens", "concurrency"))
    keys = [f"limits:{{all}}:generate:{caller.uid}", f"limits:{{all}}:generate-key:{caller.key.id}"]
    keys += [f"limits:{{all}}:generate-address:{network}"]
    assert [store.exists(*keys), store.exists(tokens), store.exists(place)] == [3, 0, 1]
    assert all(0 < store.pttl(key) <= 60_000 for key in [*keys, place])
    admitted.charge_tokens(30_000)
    admitted.release()
    assert [store.exists(*keys), store.exists(tokens), store.exists(place)] == [3, 1, 0]
    assert 0 < store.pttl(tokens) <= 60_000


def test_all_keys_of_one_request_are_on_one_node_of_a_cluster(uid):
    """The node is chosen by what stands in the first braces, whatever a user's id holds."""
    caller = Caller(uid=f"{{{uid}}}")
    tokens, slot = admission._tokens(LimitClass.GENERATE, caller), admission._slot(LimitClass.GENERATE, caller)
    assert tokens
    assert slot
    buckets = [*admission._caller_buckets(LimitClass.GENERATE, 1, caller), tokens]
    keys = [slot.key, *(bucket.key for bucket in buckets)]
    assert {key.partition("{")[2].partition("}")[0] for key in keys} == {"all"}


def test_a_user_has_no_more_places_in_two_processes_than_in_one(caller, address, become):
    generate(caller, address)
    generate(caller, address)
    become()
    with pytest.raises(RateLimited) as caught:
        generate(caller, address)
    assert caught.value.details["reason"] == "concurrency"
    assert caught.value.retry_after_s == 2
    assert '"concurrency";r=0' in caught.value.headers["RateLimit"]
    assert '"generate";r=18' in caught.value.headers["RateLimit"]


def test_a_debt_of_tokens_made_here_is_waited_for_elsewhere(caller, address, become):
    admitted = generate(caller, address)
    admitted.charge_tokens(80_000)
    admitted.release()
    become()
    with pytest.raises(RateLimited) as caught:
        generate(caller, address)
    assert caught.value.details["reason"] == "tokens"
    assert caught.value.retry_after_s is not None
    assert 50 < caught.value.retry_after_s <= 61


def test_a_scan_from_one_address_is_refused_by_every_process(address, become):
    for _ in range(FAILED_SIGN_INS.quota):
        refuse_when_suspicious(address)
        note_failed_sign_in(address)
    with pytest.raises(RateLimited):
        refuse_when_suspicious(address)
    become()
    with pytest.raises(RateLimited) as caught:
        refuse_when_suspicious(address.removesuffix("1") + "ffff")
    assert caught.value.headers["RateLimit-Policy"] == '"failed-sign-ins";q=20;w=600'


def test_an_address_that_is_asked_about_leaves_nothing_in_redis(address, store):
    refuse_when_suspicious(address)
    assert list(store.scan_iter(match=f"*{address.removesuffix('::1')}*")) == []
