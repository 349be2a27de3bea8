"""What the security rules promise, one sentence each."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.rules.access import DEVICE, READ_NOW, TABLE, names
from tests.rules.rest import ALLOWED, REFUSED, SERVER_TIME, id_token, write_of


@pytest.fixture
def conversation(server, uid):
    """An owner's conversation with one message; its path."""
    path = f"users/{uid}/conversations/c_1"
    server.put(path, {"title": "Plans"})
    server.put(f"{path}/messages/m_1", {"role": "user", "status": "completed"})
    return path


@pytest.fixture
def account(server, uid):
    """An owner's credit account with one ledger entry; its path."""
    path = f"credit_accounts/{uid}"
    server.put(path, {"available_micro": 5})
    server.put(f"{path}/entries/e_1", {"kind": "grant"})
    return path


@pytest.fixture
def usage(server, uid):
    """One usage record of the owner and one of somebody else; the path of the owner's."""
    other = uuid.uuid4().hex
    server.put(f"usage_records/{other}", {"uid": f"other-{other}"})
    path = f"usage_records/{uuid.uuid4().hex}"
    server.put(path, {"uid": uid})
    return path


@pytest.fixture
def shard(server):
    path = f"analytics_daily/{uuid.uuid4().hex}/shards/0"
    server.put(path, {"messages": 1})
    return path


# Owners


def test_owner_reads_the_conversation(owner, conversation):
    assert owner.get(conversation) == ALLOWED


def test_owner_lists_conversations_and_messages(owner, conversation, uid):
    assert owner.list(f"users/{uid}/conversations") == ALLOWED
    assert owner.query(f"{conversation}/messages") == ALLOWED


def test_owner_reads_the_balance_and_the_ledger_entries(owner, account):
    assert owner.read(account) == {"available_micro": {"integerValue": "5"}}
    assert owner.list(f"{account}/entries") == ALLOWED


def test_owner_finds_out_that_the_own_account_is_not_there_yet(owner, uid):
    """A listener attached before the first credits must not end with a refusal."""
    assert "NOT_FOUND" in owner.get(f"credit_accounts/{uid}")


def test_owner_reads_the_activity_log_and_the_end_of_its_chain(owner, server, uid):
    server.put(f"activity/{uid}", {"n": 1})
    server.put(f"activity/{uid}/entries/000000000001", {"n": 1})
    assert owner.get(f"activity/{uid}") == ALLOWED
    assert owner.list(f"activity/{uid}/entries") == ALLOWED


def test_owner_reads_and_lists_the_own_usage_records(owner, usage, uid):
    assert owner.get(usage) == ALLOWED
    assert owner.query("usage_records", uid=uid) == ALLOWED


# Others


@pytest.mark.parametrize("who", ["stranger", "anonymous", "admin"])
def test_nobody_else_reads_the_conversation_or_the_money(who, request, conversation, account):
    somebody = request.getfixturevalue(who)
    for path in (conversation, f"{conversation}/messages/m_1", account, f"{account}/entries/e_1"):
        assert somebody.get(path) == REFUSED, path
    assert somebody.query(f"{conversation}/messages") == REFUSED
    assert somebody.list(f"{account}/entries") == REFUSED


@pytest.mark.parametrize("who", ["owner", "stranger", "anonymous", "admin"])
def test_a_list_over_the_usage_records_of_all_users_is_refused(who, request, usage):
    somebody = request.getfixturevalue(who)
    assert somebody.list("usage_records") == REFUSED
    assert somebody.query("usage_records") == REFUSED
    assert somebody.count("usage_records") == REFUSED


def test_a_stranger_cannot_list_usage_by_somebody_elses_uid(stranger, usage, uid):
    assert stranger.query("usage_records", uid=uid) == REFUSED
    assert stranger.get(usage) == REFUSED


def test_a_query_across_all_collections_of_a_name_is_refused_for_every_name(owner, admin):
    """It would cross all users; a rule for one place must not be taken for one of them all."""
    for name in sorted(set().union(*map(names, TABLE))):
        assert owner.query(name, everywhere=True) == REFUSED, name
        assert admin.query(name, everywhere=True) == REFUSED, name


def test_a_refusal_does_not_tell_whether_the_document_is_there(stranger):
    assert stranger.get(f"credit_accounts/{uuid.uuid4().hex}") == REFUSED
    assert stranger.get(f"usage_records/{uuid.uuid4().hex}") == REFUSED


# Staff


def test_staff_read_the_sums_of_a_day(admin, shard):
    assert admin.get(shard) == ALLOWED
    assert admin.list(shard.removesuffix("/0")) == ALLOWED


@pytest.mark.parametrize(
    "claims",
    [
        {"firebase": {"sign_in_provider": "custom", "role": "admin"}},
        {"claims": {"role": "admin"}},
        {"roles": ["admin"]},
        {"role": ["admin"]},
        {"role": {"name": "admin"}},
        {"role": "Admin"},
        {"role": "admin "},
        {"role": True},
        {"role": None},
        {"admin": True},
        {"name": "admin", "email": "admin@craftpilot.dev"},
        {},
    ],
    ids=str,
)
def test_a_role_that_is_not_the_claim_itself_does_not_help(claims, anybody, shard):
    assert anybody(id_token("forger", **claims)).get(shard) == REFUSED


@pytest.mark.parametrize("role", ["user", "support", "moderator", None])
def test_a_claim_that_is_left_over_from_a_role_does_not_help(anybody, server, uid, shard, role):
    """As when nobody told Firebase Auth of the change: each new sign-in would bring the old role back."""
    server.put(f"users/{uid}", {"status": "active", **({"role": role} if role else {})})
    assert anybody(id_token(uid, role="admin")).get(shard) == REFUSED


def test_a_claim_whose_account_was_erased_does_not_help(anybody, uid, shard):
    assert anybody(id_token(uid, role="admin")).get(shard) == REFUSED


def test_a_role_in_the_profile_does_not_help(owner, server, uid, shard):
    server.put(f"users/{uid}", {"role": "admin", "status": "active"})
    assert owner.get(f"users/{uid}") == ALLOWED
    assert owner.get(shard) == REFUSED


# Standing


@pytest.fixture
def account_document(server, uid):
    """Puts the owner's account into a state; a conversation of the owner shows what it opens."""
    server.put(f"users/{uid}/conversations/c_1", {"title": "Plans"})
    return lambda **state: server.put(f"users/{uid}", {"role": "user", **state})


def test_a_suspension_is_felt_at_once_and_so_is_its_end(owner, account_document, uid):
    """The token is the same all the time: it is signed for an hour."""
    seen = []
    for status in ("active", "suspended", "active"):
        account_document(status=status)
        seen.append((owner.get(f"users/{uid}/conversations/c_1"), owner.create(_new_device(uid), DEVICE)))
    assert seen == [(ALLOWED, ALLOWED), (REFUSED, REFUSED), (ALLOWED, ALLOWED)]


@pytest.mark.parametrize("claim", [True, "false", 0, None, {}], ids=str)
def test_a_claim_of_suspension_that_is_not_plainly_false_cuts_off(claim, anybody, account_document, uid):
    account_document(status="active")
    assert anybody(id_token(uid, suspended=claim)).get(f"users/{uid}") == REFUSED
    assert anybody(id_token(uid, suspended=False)).get(f"users/{uid}") == ALLOWED


def test_a_sign_out_everywhere_ends_older_tokens_at_once_and_leaves_newer_ones(anybody, account_document, uid):
    moment = datetime.now(UTC).replace(microsecond=0)
    account_document(status="active", valid_since=moment)
    at = int(moment.timestamp())
    verdicts = [anybody(id_token(uid, auth_time=at + seconds)).get(f"users/{uid}") for seconds in (-3600, -1, 0, 1)]
    assert verdicts == [REFUSED, REFUSED, ALLOWED, ALLOWED]


def test_a_refreshed_token_of_an_older_sign_in_stays_ended(anybody, account_document, uid):
    """A refresh renews `iat`, not `auth_time`: the password was shown before the sign-out."""
    now = int(time.time())
    account_document(status="active", valid_since=datetime.now(UTC) - timedelta(minutes=5))
    assert anybody(id_token(uid, iat=now, auth_time=now - 3600)).get(f"users/{uid}") == REFUSED


@pytest.mark.parametrize(
    "state", [{}, {"status": None}, {"status": "Active"}, {"status": "active", "valid_since": "yesterday"}], ids=str
)
def test_an_account_that_cannot_be_understood_opens_nothing(state, owner, account_document, uid):
    account_document(**state)
    assert owner.get(f"users/{uid}/conversations/c_1") == REFUSED
    assert owner.create(_new_device(uid), DEVICE) == REFUSED


def test_whoever_has_just_signed_in_may_listen_before_the_account_exists(owner, uid):
    assert "NOT_FOUND" in owner.get(f"users/{uid}")
    assert owner.list(f"users/{uid}/notifications") == ALLOWED
    assert owner.list("models") == ALLOWED


def test_a_token_that_outlived_its_account_leaves_nothing_behind(owner, server, account_document, uid):
    account_document(status="active")
    server.put(f"users/{uid}/notifications/n_1", {"title": "Hello"})
    server.delete(f"users/{uid}")
    assert owner.create(_new_device(uid), DEVICE) == REFUSED
    assert owner.update(f"users/{uid}/notifications/n_1", READ_NOW) == REFUSED


def test_the_standing_of_somebody_else_does_not_count(stranger, owner, account_document, server, uid):
    account_document(status="suspended")
    server.put("users/stranger", {"status": "active"})
    assert stranger.get("users/stranger") == ALLOWED
    assert stranger.get(f"users/{uid}") == REFUSED
    assert owner.get(f"users/{uid}") == REFUSED


# Devices and notifications


def test_owner_registers_renews_lists_and_removes_a_device(owner, server, uid):
    server.put(f"users/{uid}", {"status": "active"})
    path = _new_device(uid)
    assert owner.create(path, DEVICE) == ALLOWED
    assert owner.update(path, {"token": "another", "updated_at": SERVER_TIME}) == ALLOWED
    assert server.read(path)["token"] == {"stringValue": "another"}
    assert owner.list(f"users/{uid}/devices") == ALLOWED
    assert owner.delete(path) == ALLOWED
    assert server.read(path) is None


def test_owner_marks_a_notification_as_read_once(owner, server, uid):
    server.put(f"users/{uid}", {"status": "active"})
    path = f"users/{uid}/notifications/n_1"
    server.put(path, {"title": "Credits are running low", "read_at": None})
    assert owner.update(path, READ_NOW) == ALLOWED
    first = server.read(path)
    assert owner.update(path, READ_NOW) == REFUSED
    assert server.read(path) == first
    assert set(first) == {"title", "read_at"}


def test_owner_cannot_remove_or_invent_notifications(owner, server, uid):
    server.put(f"users/{uid}", {"status": "active"})
    server.put(f"users/{uid}/notifications/n_1", {"title": "Credits are running low"})
    assert owner.delete(f"users/{uid}/notifications/n_1") == REFUSED
    assert owner.create(f"users/{uid}/notifications/n_2", READ_NOW) == REFUSED
    assert owner.replace(f"users/{uid}/notifications/n_2", READ_NOW) == REFUSED


def test_many_devices_register_at_once_while_the_account_changes(anybody, server, uid):
    """Each write reads the account; the database must not lock one user's writes out of each other."""
    server.put(f"users/{uid}", {"status": "active"})
    people = [anybody(id_token(uid)) for _ in range(4)]

    def register(number):
        return {people[number].replace(f"users/{uid}/devices/d_{number}", DEVICE) for _ in range(5)}

    with ThreadPoolExecutor(max_workers=len(people)) as pool:
        verdicts = [pool.submit(register, number) for number in range(len(people))]
        for number in range(5):
            server.put(f"users/{uid}", {"status": "active", "seen": number})
    assert set().union(*(verdict.result() for verdict in verdicts)) == {ALLOWED}


def _new_device(uid):
    return f"users/{uid}/devices/d-{uuid.uuid4().hex}"


# Writes


@pytest.mark.parametrize("who", ["owner", "stranger", "anonymous", "admin"])
def test_nobody_writes_money_usage_events_or_activity(who, request, account, usage, uid):
    somebody, server = request.getfixturevalue(who), request.getfixturevalue("server")
    server.put(f"activity/{uid}", {"n": 1})
    for path in (account, f"{account}/entries/e_1", usage, f"activity/{uid}"):
        assert somebody.update(path, {"available_micro": 10**12}) == REFUSED, path
        assert somebody.delete(path) == REFUSED, path
    new_places = (f"{account}/grants", f"{account}/entries", "usage_records", "events", f"activity/{uid}/entries")
    for collection in new_places:
        assert somebody.create(f"{collection}/forged-{uuid.uuid4().hex}", {"uid": uid}) == REFUSED, collection
    assert server.read(account) == {"available_micro": {"integerValue": "5"}}


def test_owner_cannot_raise_the_balance_by_a_transform(owner, server, account):
    """An increment is a write of its own kind: it names no value the rules could compare."""
    increment = {"increment": {"integerValue": "1000"}}
    assert owner.commit(write_of(account, {}, mask=[], transforms={"available_micro": increment})) == REFUSED
    assert server.read(account) == {"available_micro": {"integerValue": "5"}}


def test_owner_cannot_become_admin(owner, server, uid):
    server.put(f"users/{uid}", {"role": "user", "status": "active"})
    assert owner.update(f"users/{uid}", {"role": "admin"}) == REFUSED
    assert owner.patch(f"users/{uid}", {"role": "admin"}) == REFUSED
    assert server.read(f"users/{uid}")["role"] == {"stringValue": "user"}


def test_owner_cannot_put_words_into_a_conversation(owner, conversation):
    """Functions write conversations, together with what they cost."""
    assert owner.create(f"{conversation}/messages/m_2", {"role": "assistant"}) == REFUSED
    assert owner.update(conversation, {"title": "Mine"}) == REFUSED
    assert owner.delete(conversation) == REFUSED


def test_owner_cannot_take_over_a_usage_record_by_claiming_it(owner, server, uid):
    path = f"usage_records/{uuid.uuid4().hex}"
    server.put(path, {"uid": "somebody-else"})
    assert owner.update(path, {"uid": uid}) == REFUSED
    assert owner.get(path) == REFUSED


# Everything else


@pytest.mark.parametrize("who", ["owner", "stranger", "anonymous", "admin"])
def test_a_path_that_no_rule_names_is_refused(who, request, server, uid):
    somebody = request.getfixturevalue(who)
    for path in ("nowhere/d_1", f"users/{uid}/nowhere/d_1", f"users/{uid}/conversations/c_1/messages/m_1/below/d_1"):
        server.put(path, {"uid": uid})
        assert somebody.get(path) == REFUSED, path
        assert somebody.create(f"{path}-new", {"uid": uid}) == REFUSED, path
        assert somebody.delete(path) == REFUSED, path


def test_one_refused_write_refuses_the_whole_batch(owner, server, uid, account):
    server.put(f"users/{uid}", {"status": "active"})
    proper = write_of(f"users/{uid}/devices/d_1", DEVICE)
    assert owner.commit(proper, write_of(account, {"available_micro": 9})) == REFUSED
    assert server.read(account) == {"available_micro": {"integerValue": "5"}}
    assert server.read(f"users/{uid}/devices/d_1") is None
