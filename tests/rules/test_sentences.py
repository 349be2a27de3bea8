"""What the security rules promise, one sentence each."""

import uuid

import pytest

from tests.rules.rest import ALLOWED, DOCUMENTS, REFUSED, fields_of, id_token


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


@pytest.mark.parametrize("name", ["messages", "conversations", "generations", "entries", "holds", "shards"])
def test_a_query_across_all_collections_of_a_name_is_refused(name, owner, admin):
    assert owner.query(name, everywhere=True) == REFUSED
    assert admin.query(name, everywhere=True) == REFUSED


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


def test_a_role_in_the_profile_does_not_help(owner, server, uid, shard):
    server.put(f"users/{uid}", {"role": "admin"})
    assert owner.get(shard) == REFUSED


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
        assert somebody.create(collection, f"forged-{uuid.uuid4().hex}", {"uid": uid}) == REFUSED, collection
    assert server.read(account) == {"available_micro": {"integerValue": "5"}}


def test_owner_cannot_raise_the_balance_by_a_transform(owner, server, account):
    """An increment is a write of its own kind: it names no value the rules could compare."""
    increment = {"fieldPath": "available_micro", "increment": {"integerValue": "1000"}}
    write = {"update": {"name": f"{DOCUMENTS}/{account}"}, "updateMask": {}, "updateTransforms": [increment]}
    assert owner.commit(write) == REFUSED
    assert server.read(account) == {"available_micro": {"integerValue": "5"}}


def test_owner_cannot_become_admin(owner, server, uid):
    server.put(f"users/{uid}", {"role": "user"})
    assert owner.update(f"users/{uid}", {"role": "admin"}) == REFUSED
    assert server.read(f"users/{uid}") == {"role": {"stringValue": "user"}}


def test_owner_cannot_put_words_into_a_conversation(owner, conversation):
    """Functions write conversations, together with what they cost."""
    assert owner.create(f"{conversation}/messages", "m_2", {"role": "assistant"}) == REFUSED
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
        assert somebody.create(path.rpartition("/")[0], "d_2", {"uid": uid}) == REFUSED, path
        assert somebody.delete(path) == REFUSED, path


def test_one_refused_write_refuses_the_whole_batch(owner, server, uid, account):
    def write(path):
        return {"update": {"name": f"{DOCUMENTS}/{path}", **fields_of({"available_micro": 9})}}

    assert owner.commit(write(account), write(f"users/{uid}")) == REFUSED
    assert server.read(account) == {"available_micro": {"integerValue": "5"}}
