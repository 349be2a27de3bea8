"""What happens before what: who is refused learns nothing of what comes later, and nothing later happens."""

import pytest

from shared import idempotency
from shared.errors import AppError, RateLimited, UpstreamError
from shared.http import pipeline
from shared.http.pipeline import serve
from shared.http.routes import Routes, Stream
from shared.identity.accounts import Standing, Status
from shared.identity.permissions import Permission, Role
from shared.limits.policies import LimitClass
from tests.unit.shared.exchange import NOW, bearer, request
from tests.unit.shared.things import MAX_BODY_BYTES, SECRET, Chunks, Made, Thing, Things

GOOD_BODY = b'{"name": "chair"}'


def ask(things, method, path, body=None, **headers):
    return things.ask(request(method, path, body, headers={**bearer(), **headers}))


def test_a_route_of_nobody_is_not_found_before_anybody_is_asked_who_they_are(doorkeeper):
    assert Things().ask(request("GET", "/nowhere")).status_code == 404
    assert doorkeeper.asked == []


def test_who_may_not_is_told_which_permission_it_takes(doorkeeper):
    things = Things()
    answer = ask(things, "GET", "/people")
    assert answer.status_code == 403
    problem = answer.get_json(force=True)
    assert (problem["code"], problem["permission"]) == ("permission_denied", "users:read")
    assert things.calls == []
    assert doorkeeper.asked == [], "who may not come in takes nothing from the limits"


@pytest.mark.parametrize(("role", "status"), [(Role.USER, 403), (Role.SUPPORT, 200), (Role.ADMIN, 200)])
def test_the_role_decides(standing, role, status):
    standing["user-1"] = Standing(role=role)
    assert ask(Things(), "GET", "/people").status_code == status


def test_a_role_in_the_token_decides_nothing():
    things = Things()
    answer = things.ask(request("GET", "/people", headers=bearer(role="admin")))
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("status", "expected"), [(Status.SUSPENDED, (403, "account_suspended")), (Status.ERASING, (401, "unauthenticated"))]
)
def test_an_account_that_is_shut_gets_nobody_in(standing, status, expected):
    standing["user-1"] = Standing(role=Role.ADMIN, status=status)
    answer = ask(Things(), "POST", "/mine", GOOD_BODY)
    assert (answer.status_code, answer.get_json(force=True)["code"]) == expected


def test_over_the_limit_the_body_is_not_even_read(doorkeeper):
    doorkeeper.refusal = RateLimited("Slow down.", retry_after_s=3, headers={"RateLimit": '"requests";r=0;t=3'})
    things = Things()
    answer = ask(things, "POST", "/mine", b"x" * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 429
    assert (answer.headers["Retry-After"], answer.headers["RateLimit"]) == ("3", '"requests";r=0;t=3')
    assert things.calls == []


def test_the_limits_learn_what_the_route_declares(doorkeeper):
    assert ask(Things(), "POST", "/heavy", **{"X-Forwarded-For": "6.6.6.6, 198.51.100.9"}).status_code == 200
    [asked] = doorkeeper.asked
    assert (asked["limit_class"], asked["weight"], asked["caller"].uid) == ("generate", 5, "user-1")
    assert asked["address"] == "198.51.100.9", "only what the trusted proxy appended counts"


@pytest.mark.parametrize("path", ["/mine", "/broken", "/nowhere", "/people", "/heavy"])
def test_what_was_taken_from_the_limits_is_given_back_once(doorkeeper, path):
    ask(Things(), "GET" if path in {"/broken", "/people"} else "POST", path, GOOD_BODY)
    assert doorkeeper.released == len(doorkeeper.asked)


def test_a_stream_holds_its_place_until_it_ends(doorkeeper):
    answer = ask(Things(), "GET", "/stream")
    assert answer.headers["RateLimit"] == doorkeeper.headers["RateLimit"]
    assert doorkeeper.released == 0
    answer.close()
    assert doorkeeper.released == 1


@pytest.mark.parametrize("path", ["/mine", "/open"])
def test_every_answer_behind_the_limits_says_what_is_left(doorkeeper, path):
    good, bad = ask(Things(), "POST", path, GOOD_BODY), ask(Things(), "POST", path, b"{}")
    assert (good.status_code // 100, bad.status_code) == (2, 400)
    for answer in (good, bad):
        assert answer.headers["RateLimit-Policy"] == doorkeeper.headers["RateLimit-Policy"]


def test_an_answer_may_carry_headers_of_its_own():
    assert ask(Things(), "POST", "/heavy").headers["X-Lifted"] == "yes"


def test_a_body_where_none_is_wanted_is_not_read_and_not_endless():
    assert ask(Things(), "POST", "/heavy", b"ignored").status_code == 200
    assert ask(Things(), "POST", "/heavy", b"x" * (1024 * 1024 + 1)).status_code == 413


class Claims:
    """Stands in for the store of idempotency keys."""

    def __init__(self) -> None:
        self.begun: list[dict] = []
        self.finished: list[idempotency.Recorded] = []
        self.reasons: list[AppError | None] = []
        self.seed = "seed-1"
        self.recorded: idempotency.Recorded | None = None

    def begin(self, **question):
        self.begun.append(question)
        return self.recorded or self

    def finish(self, recorded, **_):
        self.finished.append(recorded)

    def abandon(self, error=None):
        self.reasons.append(error)

    @property
    def abandoned(self):
        return len(self.reasons)


@pytest.fixture
def claims(monkeypatch):
    store = Claims()
    monkeypatch.setattr(idempotency, "begin", store.begin)
    return store


KEY = {"Idempotency-Key": "k-1"}


def test_without_a_key_nothing_is_claimed(claims):
    ask(Things(), "POST", "/mine", GOOD_BODY)
    assert claims.begun == []


def test_a_key_is_claimed_once_the_request_is_known_to_be_good(claims):
    things = Things()
    assert ask(things, "POST", "/mine", b"{}", **KEY).status_code == 400
    assert claims.begun == []
    assert ask(things, "POST", "/mine", GOOD_BODY, **KEY).status_code == 201
    [begun] = claims.begun
    assert (begun["uid"], begun["key"], begun["operation"]) == ("user-1", "k-1", "things: POST /mine")
    assert things.calls[0].seed == "seed-1"
    [recorded] = claims.finished
    assert (recorded.status, recorded.body) == (201, b'{"name":"chair","by":"user-1"}')


def test_a_repetition_gets_the_first_answer_and_does_nothing(claims):
    claims.recorded = idempotency.Recorded(201, "application/json", {"X-Lifted": "yes"}, b'{"first":true}')
    things = Things()
    answer = ask(things, "POST", "/mine", GOOD_BODY, **KEY)
    assert (answer.status_code, answer.get_data(), answer.headers["X-Lifted"]) == (201, b'{"first":true}', "yes")
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert things.calls == []


def test_a_request_that_only_reads_needs_no_key(claims):
    assert ask(Things(), "GET", "/stream", **KEY).status_code == 200
    assert claims.begun == []


def test_the_ids_of_what_a_request_makes_follow_from_its_key(claims):
    things = Things()
    for _ in range(2):
        ask(things, "POST", "/mine", GOOD_BODY, **KEY)
    first, second = (call.new_id("msg") for call in things.calls)
    assert first == second
    assert first != things.calls[0].new_id("conv").replace("conv", "msg")


def test_the_same_path_of_another_function_is_another_operation(claims):
    asked = []
    for capability in ("send", "bootstrap"):
        routes = Routes(capability)

        @routes.post("/", who=Permission.CHAT_WRITE, body=Thing, answer=Made)
        def answer(call):
            """Callables all answer at the root."""
            return Made(name=call.body.name, by=call.caller.uid)

        serve(routes, clock=lambda: NOW)(request("POST", "/", GOOD_BODY, headers={**bearer(), **KEY}))
        asked.append(claims.begun[-1]["operation"])
    assert asked[0] != asked[1], "else the one would be answered with what the other said"


def test_an_answer_that_cannot_be_written_down_is_a_clean_error_and_gives_its_place_back(claims, doorkeeper, logged):
    routes = Routes("things")

    @routes.post("/mine", who=Permission.CHAT_WRITE, answer=Made)
    def make(_):
        """Answer with half a surrogate pair."""
        return Made(name="\ud800", by=None)

    answer = serve(routes, clock=lambda: NOW)(request("POST", "/mine", headers={**bearer(), **KEY}))
    assert (answer.status_code, answer.get_json(force=True)["code"]) == (500, "internal")
    assert doorkeeper.released == 1
    assert (claims.abandoned, claims.finished) == (1, [])
    assert [record["message"] for record in logged()] == ["unexpected error", "request"]


def streaming(chunks, failure=lambda: None):
    routes = Routes("things")

    @routes.post("/talk", who=Permission.CHAT_WRITE, streams="Words.", limit=LimitClass.GENERATE)
    def talk(_):
        """Talk."""
        return Stream(chunks, failure=failure, tokens=lambda: 7)

    return serve(routes, clock=lambda: NOW)(request("POST", "/talk", headers={**bearer(), **KEY}))


def test_a_client_that_goes_away_before_the_first_chunk_still_leaves_an_answer_to_repeat(claims, doorkeeper):
    streaming(Chunks(b"one", b"two")).close()
    assert [recorded.body for recorded in claims.finished] == [b"onetwo"]
    assert (doorkeeper.released, doorkeeper.tokens) == (1, [7])


def broken_off():
    yield b"one"
    raise ValueError(SECRET)


def test_a_stream_that_broke_lets_the_next_one_try_at_once_and_gives_its_place_back(claims, doorkeeper):
    answer = streaming(broken_off())
    with pytest.raises(ValueError, match=SECRET):
        answer.get_data()
    answer.close()
    assert (claims.finished, claims.abandoned, doorkeeper.released) == ([], 1, 1)


def test_a_stream_too_long_to_keep_is_not_kept_in_memory_and_its_claim_is_no_new_request(claims, monkeypatch):
    monkeypatch.setattr(pipeline, "_MAX_KEPT_BYTES", 10)
    answer = streaming(Chunks(*[b"12345"] * 4), failure=UpstreamError)
    kept = answer.response._kept
    assert len(b"".join(answer.response)) == 20
    assert answer.response._kept is None
    assert len(kept) <= 3
    answer.close()
    assert (claims.finished, claims.abandoned, claims.reasons) == ([], 1, [None])


def test_a_place_is_given_back_also_when_the_end_of_a_stream_breaks(claims, doorkeeper, monkeypatch, logged):
    def refuse(*_, **__):
        raise RuntimeError("nobody is there")

    monkeypatch.setattr(claims, "finish", refuse)
    answer = streaming(Chunks(b"one"))
    with pytest.raises(RuntimeError, match="nobody is there"):
        answer.close()
    assert doorkeeper.released == 1
    assert [record["message"] for record in logged()] == ["request"]
