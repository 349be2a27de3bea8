"""The gateway at the real front door: accounts, credentials, limits, repetitions, roles, and what the service says of
itself. What takes half a minute to be felt everywhere is in test_endings.py.
"""

import base64
import json
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie

import pytest

from shared.deployment import FUNCTIONS
from shared.limits.policies import LimitClass, plan_limits
from tests.suite.support import Answer, Suite, User, eventually, give_credits, request, set_account, sign_in, sign_up

ME = "/api/v1/users/me"
KEYS = "/api/v1/api-keys"
SESSIONS = "/api/v1/sessions"
CONVERSATIONS = "/api/v1/conversations"
USERS = "/api/v1/admin/users"
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + bytes(100)
REASON = "Because a test wants it"
KEY = re.compile(r"cp_live_[A-Za-z0-9]{38}")


def appointed(admin: User, role: str) -> User:
    """Somebody new, made an operator by the admin, with a token signed since."""
    somebody = sign_up(admin.suite)
    assert somebody.api("GET", ME).json["role"] == "user"
    answer = admin.api("PUT", f"{USERS}/{somebody.uid}/role", {"role": role, "reason": REASON})
    assert (answer.status, answer.json["role"]) == (200, role)
    return sign_in(admin.suite, somebody.email)


@pytest.fixture(scope="module")
def support(suite) -> User:
    return appointed(sign_in(suite, "admin@craftpilot.dev"), "support")


@pytest.fixture(scope="module")
def moderator(suite) -> User:
    return appointed(sign_in(suite, "admin@craftpilot.dev"), "moderator")


def known(user: User) -> User:
    """Somebody whose account is open."""
    assert user.api("GET", ME).status == 200
    return user


def show(suite: Suite, method: str, path: str, body=None, **headers) -> Answer:
    """A request through Hosting with nothing but these headers."""
    return request(method, suite.hosting + path, body, **headers)


def claims_of(user: User) -> dict:
    payload = user.token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


# Accounts


def test_two_first_requests_at_once_open_one_account_and_its_log_says_so_once(newcomer):
    """By two functions, which know nothing of each other."""
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(newcomer.api, "GET", path) for path in (ME, "/api/v1/credits")]
    assert [answer.result().status for answer in asked] == [200, 200]
    profile = asked[0].result().json
    assert (profile["uid"], profile["email"]) == (newcomer.uid, newcomer.email)
    assert (profile["role"], profile["status"], profile["plan"]) == ("user", "active", "free")
    assert profile["username"].startswith("user_")

    newcomer.api("PATCH", ME, {"display_name": "Ada"})

    def actions():
        items = newcomer.api("GET", "/api/v1/activity").json["items"]
        seen = sorted(entry["action"] for entry in items)
        return seen if "user.profile.updated" in seen else None

    eventually(lambda: "user.registered" in (actions() or []), "both events in the log")
    assert actions() == ["user.profile.updated", "user.registered"]


def test_a_changed_profile_stays_and_a_user_name_belongs_to_one(suite, newcomer):
    name = f"heron.{uuid.uuid4().hex[:12]}"
    changed = newcomer.api("PATCH", ME, {"display_name": "Ada Lovelace", "username": name.upper(), "bio": "Waits."})
    assert changed.status == 200
    profile = newcomer.api("GET", ME).json
    assert (profile["display_name"], profile["username"], profile["bio"]) == ("Ada Lovelace", name, "Waits.")

    other = sign_up(suite)
    taken = other.api("PATCH", ME, {"username": name, "bio": "Not stored."})
    assert (taken.status, taken.json["code"]) == (409, "conflict")
    assert [problem["field"] for problem in taken.json["errors"]] == ["username"]
    assert other.api("GET", ME).json["bio"] is None

    assert newcomer.api("PATCH", ME, {"username": f"{name}2"}).status == 200
    assert other.api("PATCH", ME, {"username": name}).json["username"] == name


def test_preferences_survive_and_a_wrong_one_is_named(newcomer):
    assert newcomer.api("GET", f"{ME}/preferences").json["theme"] == "system"
    chosen = {"theme": "dark", "language": "pt-BR", "time_zone": "Europe/Istanbul", "favourite_models": ["a/b", "c/d"]}
    assert newcomer.api("PUT", f"{ME}/preferences", chosen).status == 200
    wrong = newcomer.api("PUT", f"{ME}/preferences", {**chosen, "time_zone": "Mars/Olympus"})
    assert (wrong.status, [problem["field"] for problem in wrong.json["errors"]]) == (400, ["time_zone"])

    kept = newcomer.api("GET", f"{ME}/preferences").json
    assert {name: kept[name] for name in chosen} == chosen
    bootstrap = newcomer.direct("account_bootstrap", "POST", "", {"data": {}}).json["result"]
    assert bootstrap["preferences"] == kept


def test_an_avatar_goes_up_by_its_link_and_is_seen_by_another(newcomer):
    begun = newcomer.api("POST", f"{ME}/avatar", {"content_type": "image/png", "size_bytes": len(PNG)}).json
    assert request("PUT", begun["url"], PNG + b"more", **begun["headers"]).status == 400
    assert request("PUT", begun["url"], PNG, **begun["headers"]).status == 200
    completed = newcomer.api("PUT", f"{ME}/avatar", {"upload_id": begun["upload_id"]})
    assert completed.status == 200, completed.body

    link = newcomer.api("GET", ME).json["avatar_url"]
    shown = request("GET", link)
    assert (shown.status, shown.headers["Content-Type"], shown.body) == (200, "image/png", PNG)
    assert request("GET", link.partition("?")[0]).status == 403, "without the signature there is nothing to see"
    assert newcomer.api("DELETE", f"{ME}/avatar").json["avatar_url"] is None
    assert request("GET", link).status == 404


# API keys


def make_key(user: User, *scopes: str) -> dict:
    answer = user.api("POST", KEYS, {"name": "A program", "scopes": list(scopes)})
    assert answer.status == 201, answer.body
    return answer.json


def test_a_key_is_shown_once_and_works_by_either_header(suite, newcomer):
    made = make_key(newcomer, "profile:read")
    assert KEY.fullmatch(made["key"])
    for path in (KEYS, f"{KEYS}/{made['id']}"):
        listed = newcomer.api("GET", path)
        assert made["id"] in listed.body.decode()
        assert made["key"] not in listed.body.decode()
    for headers in ({"Authorization": f"Bearer {made['key']}"}, {"X-API-Key": made["key"]}):
        assert show(suite, "GET", ME, **headers).json["uid"] == newcomer.uid


def test_a_key_does_what_its_scopes_say_and_nothing_else(suite, newcomer):
    key = {"X-API-Key": make_key(newcomer, "profile:read", "chat:read")["key"]}
    assert show(suite, "GET", CONVERSATIONS, **key).status == 200
    refused = {
        ("PATCH", ME): "profile:write",
        ("POST", CONVERSATIONS): "chat:write",
        ("GET", "/api/v1/credits"): "credits:read",
        ("POST", KEYS): "keys:manage",
        ("POST", f"{SESSIONS}/revoke-all"): "sessions:manage",
        ("DELETE", ME): "account:delete",
        ("GET", USERS): "users:read",
    }
    for (method, path), permission in refused.items():
        answer = show(suite, method, path, {} if method in {"POST", "PATCH"} else None, **key)
        assert (answer.status, answer.json.get("permission")) == (403, permission), (method, path)
    wish = {"name": "Too much", "scopes": ["keys:manage"]}
    assert newcomer.api("POST", KEYS, wish).status == 400


def test_a_rotated_key_has_a_successor_and_a_revoked_one_has_none(suite, newcomer):
    old = make_key(newcomer, "chat:read")
    rotated = newcomer.api("POST", f"{KEYS}/{old['id']}/rotate", {})
    assert rotated.status == 201
    new = rotated.json
    assert (new["rotated_from"], new["scopes"]) == (old["id"], ["chat:read"])
    assert new["key"] != old["key"]
    assert show(suite, "GET", CONVERSATIONS, **{"X-API-Key": new["key"]}).status == 200
    dead = show(suite, "GET", CONVERSATIONS, **{"X-API-Key": old["key"]})
    assert (dead.status, dead.json["reason"]) == (401, "revoked_key")

    assert newcomer.api("DELETE", f"{KEYS}/{new['id']}").status == 204
    assert newcomer.api("GET", f"{KEYS}/{new['id']}").json["state"] == "revoked"
    assert newcomer.api("GET", KEYS).json["items"] == []
    assert newcomer.api("POST", f"{KEYS}/{new['id']}/rotate", {}).status == 409


def test_a_key_of_somebody_else_is_not_there(newcomer, suite):
    made = make_key(newcomer, "profile:read")
    stranger = sign_up(suite)
    assert stranger.api("GET", f"{KEYS}/{made['id']}").status == 404
    assert stranger.api("DELETE", f"{KEYS}/{made['id']}").status == 404
    assert newcomer.api("GET", f"{KEYS}/{made['id']}").json["state"] == "live"


# Sessions


class Browser:
    """It knows the cookie that Hosting set, and what a page has read of its session."""

    def __init__(self, user: User) -> None:
        self.suite = user.suite
        opened = user.api("POST", SESSIONS, {})
        assert opened.status == 201, opened.body
        self.set_cookie = opened.headers["Set-Cookie"]
        self.id, self.csrf_token = opened.json["id"], opened.json["csrf_token"]
        self.cookie = SimpleCookie(self.set_cookie)["__session"]

    def ask(self, method: str, path: str, body=None, **headers) -> Answer:
        return show(self.suite, method, path, body, Cookie=f"__session={self.cookie.value}", **headers)

    def change(self, method: str, path: str, body=None, **headers) -> Answer:
        return self.ask(method, path, body, **{"X-CSRF-Token": self.csrf_token, **headers})


def test_a_session_cookie_is_kept_from_scripts_and_reads_alone(newcomer):
    browser = Browser(newcomer)
    assert browser.cookie["httponly"]
    assert (browser.cookie["samesite"], browser.cookie["path"]) == ("Lax", "/")
    assert browser.cookie["max-age"] == str(14 * 24 * 3600)
    assert not browser.cookie["domain"], "no other site of the domain gets it"
    assert browser.ask("GET", ME).json["uid"] == newcomer.uid
    current = browser.ask("GET", f"{SESSIONS}/current").json
    assert (current["id"], current["csrf_token"]) == (browser.id, browser.csrf_token)


def test_a_session_changes_something_only_for_a_page_that_is_ours(newcomer):
    browser = Browser(newcomer)
    change = ("PATCH", ME, {"display_name": "By a browser"})
    bare = browser.ask(*change)
    assert (bare.status, bare.json["reason"]) == (403, "csrf")
    assert browser.ask(*change, **{"X-CSRF-Token": "0" * 64}).status == 403
    assert browser.change(*change, Origin="https://evil.example").json["reason"] == "csrf"
    assert browser.change(*change, **{"Sec-Fetch-Site": "cross-site"}).status == 403
    assert browser.ask("GET", ME).json["display_name"] is None
    assert browser.change(*change, Origin=newcomer.suite.hosting).json["display_name"] == "By a browser"


def test_a_session_is_listed_and_once_ended_lets_nobody_in(newcomer):
    one, other = Browser(newcomer), Browser(newcomer)
    listed = one.ask("GET", SESSIONS).json["items"]
    assert {session["id"]: session["current"] for session in listed} == {one.id: True, other.id: False}
    assert one.change("DELETE", f"{SESSIONS}/{other.id}").status == 204
    gone = other.ask("GET", ME)
    assert (gone.status, gone.json["reason"]) == (401, "revoked_session")
    ended = one.change("DELETE", f"{SESSIONS}/current")
    assert (ended.status, SimpleCookie(ended.headers["Set-Cookie"])["__session"].value) == (204, "")
    assert one.ask("GET", ME).status == 401


def test_signing_out_everywhere_ends_sessions_and_tokens_but_no_keys(suite, newcomer):
    browser = Browser(newcomer)
    key = make_key(newcomer, "chat:read")["key"]
    everywhere = newcomer.api("POST", f"{SESSIONS}/revoke-all", {})
    assert (everywhere.status, everywhere.json["sessions_ended"]) == (200, 1)
    # By functions that have not met this user yet: the others may believe for half a minute what they know.
    assert newcomer.api("GET", ME).json["reason"] == "revoked_token"
    assert browser.ask("GET", ME).json["reason"] == "revoked_session"
    assert newcomer.document(f"users/{newcomer.uid}").status == 403
    assert show(suite, "GET", CONVERSATIONS, **{"X-API-Key": key}).status == 200

    time.sleep(1)  # a sign-in says its time in whole seconds
    back = sign_in(suite, newcomer.email)
    assert back.api("GET", ME).status == 200
    assert back.document(f"users/{newcomer.uid}").status == 200


# Limits


def remaining(answer: Answer) -> int:
    """What is left of the caller's sign-ins."""
    left = re.search(r'"sign_in";r=(\d+)', answer.headers["RateLimit"])
    assert left, answer.headers
    return int(left[1])


def test_a_limit_counts_down_refuses_and_keeps_its_word_on_when_to_come_back(newcomer, admin):
    quota = plan_limits("free").by_user[LimitClass.SIGN_IN]

    def make_no_key():
        return newcomer.api("POST", KEYS, {})

    answers = [make_no_key()]
    while answers[-1].status != 429 and len(answers) < 2 * quota.quota:
        answers.append(make_no_key())
    *passed, refused = answers
    assert refused.status == 429
    assert len(passed) >= quota.quota
    assert {answer.status for answer in passed} == {400}, "a refused body counts too"
    told = [remaining(answer) for answer in passed]
    assert (told[0], told[-1]) == (quota.quota - 1, 0)
    assert told == sorted(told, reverse=True)
    assert refused.headers["RateLimit-Policy"] == f'"sign_in";q={quota.quota};w={quota.window_s}'
    assert (refused.json["code"], refused.json["reason"], remaining(refused)) == ("rate_limited", "sign_in", 0)
    wait_s = int(refused.headers["Retry-After"])
    assert 1 <= wait_s <= quota.window_s / quota.quota

    assert newcomer.api("GET", KEYS).status == 200, "reads have a limit of their own"
    time.sleep(wait_s)
    assert make_no_key().status == 400
    counted = 'rate_limited_total{policy="sign_in"}'
    assert eventually(lambda: counted in admin.api("GET", "/api/v1/metrics").body.decode(), "the refusal's counter")


# Repetitions


def test_a_repeated_request_gets_the_first_answer_and_another_one_under_its_key_is_refused(newcomer):
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = newcomer.api("POST", CONVERSATIONS, {"title": "Herons"}, **key)
    again = newcomer.api("POST", CONVERSATIONS, {"title": "Herons"}, **key)
    assert (first.status, first.headers["Idempotency-Replayed"]) == (again.status, None)
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")
    other = newcomer.api("POST", CONVERSATIONS, {"title": "Storks"}, **key)
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")
    assert [item["id"] for item in newcomer.api("GET", CONVERSATIONS).json["items"]] == [first.json["id"]]


def test_a_key_of_one_user_is_nobody_elses(suite, newcomer):
    key = {"Idempotency-Key": uuid.uuid4().hex}
    mine = newcomer.api("POST", CONVERSATIONS, {}, **key).json["id"]
    assert sign_up(suite).api("POST", CONVERSATIONS, {}, **key).json["id"] != mine


def test_a_repeated_turn_is_answered_once_and_charged_once(newcomer):
    give_credits(known(newcomer), 100)
    messages = f"{CONVERSATIONS}/{newcomer.conversation()}/messages"
    question = {"content": "How long can a heron stand still?", "stream": False}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first, again = (newcomer.api("POST", messages, question, **key) for _ in range(2))
    assert first.status == 200, first.body
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")
    entries = newcomer.api("GET", "/api/v1/credits/entries").json["items"]
    assert [entry["kind"] for entry in entries] == ["settle", "hold", "grant"]
    assert len(newcomer.api("GET", messages).json["items"]) == 2


def test_a_key_that_was_made_twice_by_accident_is_one_key(newcomer):
    key = {"Idempotency-Key": uuid.uuid4().hex}
    wish = {"name": "A program", "scopes": ["chat:read"]}
    first, again = (newcomer.api("POST", KEYS, wish, **key) for _ in range(2))
    assert (first.status, again.json["key"]) == (201, first.json["key"])
    assert len(newcomer.api("GET", KEYS).json["items"]) == 1
    stored = request("GET", f"{newcomer.suite.firestore}/idempotency", Authorization="Bearer owner")
    assert first.json["id"] not in stored.body.decode()


# Roles


def test_support_sees_users_and_does_nothing_to_them(support, newcomer):
    known(newcomer)
    assert support.api("GET", f"{USERS}/{newcomer.uid}").json["email"] == newcomer.email
    found = support.api("POST", f"{USERS}/search", {"email": newcomer.email}).json["items"]
    assert [user["uid"] for user in found] == [newcomer.uid]
    assert newcomer.uid in [user["uid"] for user in support.api("GET", USERS).json["items"]]
    refused = support.api("POST", f"{USERS}/{newcomer.uid}/suspend", {"reason": REASON})
    assert (refused.status, refused.json["permission"]) == (403, "users:suspend")
    assert support.document(f"users/{newcomer.uid}").status == 403, "operators look through the API, which records it"


def test_a_moderator_acts_on_users_only(moderator, support, admin):
    for operator in (support, admin):
        refused = moderator.api("POST", f"{USERS}/{operator.uid}/suspend", {"reason": REASON})
        assert (refused.status, refused.json["reason"]) == (403, "operator_account")
    itself = moderator.api("POST", f"{USERS}/{moderator.uid}/suspend", {"reason": REASON})
    assert (itself.status, itself.json["reason"]) == (403, "own_account")


def test_a_role_stands_in_the_account_and_in_the_next_token(support, moderator):
    assert (claims_of(support)["role"], claims_of(moderator)["role"]) == ("support", "moderator")
    assert eventually(lambda: support.api("GET", ME).json["role"] == "support", "the profile's role")


def test_nobody_promotes_themselves(newcomer, moderator, admin):
    for somebody in (known(newcomer), moderator):
        wish = {"role": "admin", "reason": REASON}
        answer = somebody.api("PUT", f"{USERS}/{somebody.uid}/role", wish)
        assert (answer.status, answer.json["permission"]) == (403, "users:manage")
    answer = admin.api("PUT", f"{USERS}/{admin.uid}/role", {"role": "user", "reason": REASON})
    assert (answer.status, answer.json["reason"]) == (403, "own_account")
    fields = {"fields": {"role": {"stringValue": "admin"}}}
    path = f"{newcomer.suite.firestore}/users/{newcomer.uid}?updateMask.fieldPaths=role"
    assert newcomer.open("PATCH", path, fields).status == 403
    assert newcomer.api("GET", ME).json["role"] == "user"


def test_a_role_that_a_token_claims_is_worth_nothing(suite):
    """The account says what somebody is; Firebase Auth holds only a copy."""
    somebody = known(sign_up(suite))
    claims = {"localId": somebody.uid, "customAttributes": json.dumps({"role": "admin"})}
    assert request("POST", f"{suite.auth}/accounts:update", claims, Authorization="Bearer owner").status == 200
    bold = sign_in(suite, somebody.email)
    assert claims_of(bold)["role"] == "admin"
    assert bold.api("GET", USERS).status == 403


def test_a_garbage_app_check_token_is_refused_by_name(suite, newcomer):
    garbage = {"X-Firebase-AppCheck": "no.such.token"}
    refused = newcomer.api("GET", ME, **garbage)
    assert (refused.status, refused.json["reason"]) == (401, "invalid_app_check")
    key = make_key(newcomer, "profile:read")["key"]
    assert show(suite, "GET", ME, **{"X-API-Key": key}, **garbage).status == 200, "programs are no apps"


# What the service says of itself


def test_everything_the_service_depends_on_is_up(suite):
    def ready():
        answer = show(suite, "GET", "/api/v1/health/ready")
        return answer.json if answer.status == 200 and answer.json["status"] == "ready" else None

    # The first look of a process loads four client libraries, which can take longer than it waits for an answer.
    dependencies = {one["name"]: one for one in eventually(ready, "all of them")["dependencies"]}
    assert dependencies.keys() == {"firestore", "redis", "pubsub", "storage"}
    assert {name: one["state"] for name, one in dependencies.items()} == dict.fromkeys(dependencies, "up")
    assert all(0 < one["latency_ms"] < 2000 for one in dependencies.values())


def test_the_registry_lists_what_is_deployed_and_knows_who_serves(admin):
    admin.api("GET", ME)

    def listed():
        items = admin.api("GET", "/api/v1/health/services").json["items"]
        states = {service["name"]: service["state"] for service in items}
        return items if {states["users"], states["system"]} == {"serving"} else None

    items = eventually(listed, "the functions just used to say that they serve")
    everywhere = [name for name, function in FUNCTIONS.items() if not function.only_with]
    assert [service["name"] for service in items] == everywhere
    services = {service["name"]: service for service in items}
    assert {"method": "GET", "path": ME} in services["users"]["routes"]
    assert services["users"]["instances"] >= 1
    assert services["users"]["requests"] >= 1
    assert services["on_event_created"]["trigger"].endswith("events/{event_id}")
    assert {(one["kind"], one["routes"] == []) for one in items if one["kind"] != "http"} == {
        ("callable", True),
        ("event", True),
        ("schedule", True),
    }


@pytest.mark.parametrize("path", ["/api/v1/metrics", "/api/v1/health/services"])
def test_only_admins_look_inside(newcomer, support, path):
    for somebody in (newcomer, support):
        assert somebody.api("GET", path).json["permission"] == "system:read"


def test_metrics_are_text_that_prometheus_reads(admin):
    answer = admin.api("GET", "/api/v1/metrics")
    assert (answer.status, answer.headers.get_content_type()) == (200, "text/plain")
    line = re.compile(
        r'# (TYPE|HELP) [a-z_]+_total .+|[a-z_]+_total(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [0-9.e+]+'
    )
    assert [text for text in answer.body.decode().splitlines() if not line.fullmatch(text)] == []


def test_a_plan_decides_how_much_somebody_may_ask(newcomer):
    set_account(newcomer, plan="pro")
    quota = plan_limits("pro").by_user[LimitClass.READ].quota
    # By a function that has not met this user yet.
    assert f'"read";q={quota};' in newcomer.api("GET", "/api/v1/credits").headers["RateLimit-Policy"]
