"""Random documents and random ways of writing them: only what is meant to be written gets in.

A predicate in Python says what is meant; the emulator must agree with it on every example.
"""

import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from tests.rules.access import DEVICE, DEVICES, NOTIFICATIONS, READ_NOW, TABLE
from tests.rules.rest import ALLOWED, REFUSED, SERVER_TIME, Person, delete_of, id_token, person, value_of, write_of

FUZZ = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
MAX_TOKEN = 4096
MAX_VERSION = 40
NEARLY_A_MEBIBYTE = 1_040_000
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
ACCOUNT: Mapping[str, Any] = {"role": "user", "status": "active", "plan": "free", "email": "a@example.com"}


@pytest.fixture(scope="module")
def uid() -> str:
    return f"owner-{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def server(emulator_host: str, uid: str) -> Iterator[Person]:
    with person(emulator_host, "owner") as server:
        server.put(f"users/{uid}", ACCOUNT)
        yield server


@pytest.fixture(scope="module")
def owner(emulator_host: str, uid: str, server: Person) -> Iterator[Person]:
    with person(emulator_host, id_token(uid)) as owner:
        yield owner


# What random documents are made of

times = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # bounds are naive by contract
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    st.binary(max_size=20),
    times,
)
maps = st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), scalars, max_size=3)
anything = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    maps,
    st.recursive(
        maps, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=2), max_leaves=4
    ),
)


def mostly(good: st.SearchStrategy[Any], *bad: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Nine in ten good: documents with several fields must come out right often enough to be of use."""
    return st.integers(0, 9).flatmap(lambda dice: st.one_of(*bad) if dice == 0 else good)


def letters(size: int) -> str:
    return "t" * size


tokens = mostly(
    st.text(PRINTABLE, min_size=1, max_size=60) | st.integers(MAX_TOKEN - 2, MAX_TOKEN).map(letters),
    st.sampled_from([MAX_TOKEN + 1, 2 * MAX_TOKEN, NEARLY_A_MEBIBYTE]).map(letters),
    st.sampled_from(["", "tok\nen", "tokén", "token\x7f", "\ttoken", "🔔"]),
    anything,
)
platforms = mostly(
    st.sampled_from(["ios", "android", "web"]), st.sampled_from(["iOS", "", "windows", "web "]), anything
)
versions = mostly(
    st.text(PRINTABLE, min_size=1, max_size=MAX_VERSION) | st.just("v" * MAX_VERSION),
    st.integers(MAX_VERSION + 1, NEARLY_A_MEBIBYTE).map(letters),
    st.sampled_from(["", "2.4\n", "2\uff0e4"]),
    anything,
)
moments = mostly(st.just(SERVER_TIME), times, st.just(datetime.now(UTC)), anything)
extra_names = st.sampled_from(["uid", "role", "Token", "token_", "created_at", "platforms", "a"])
extras = mostly(st.just({}), st.dictionaries(extra_names, anything, min_size=1, max_size=2))
left_out = mostly(st.just(frozenset[str]()), st.frozensets(st.sampled_from(sorted(DEVICE)), min_size=1))


@st.composite
def devices(draw: st.DrawFn) -> dict[str, Any]:
    document = {
        "token": draw(tokens),
        "platform": draw(platforms),
        "app_version": draw(versions),
        "updated_at": draw(moments),
    }
    if draw(st.booleans()):
        del document["app_version"]
    missing = draw(left_out)
    return {name: value for name, value in document.items() if name not in missing} | draw(extras)


def is_device(document: Mapping[str, Any]) -> bool:
    """What firestore.rules calls a device."""
    return (
        {"token", "platform", "updated_at"} <= set(document) <= set(DEVICE)
        and is_text(document["token"], MAX_TOKEN)
        and document["platform"] in ("ios", "android", "web")
        and ("app_version" not in document or is_text(document["app_version"], MAX_VERSION))
        and document["updated_at"] is SERVER_TIME
    )


def is_text(value: Any, max_length: int) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= max_length and set(value) <= set(PRINTABLE)


def verdict_for(*, proper: bool) -> str:
    """The verdict that is due; what was tried is counted in Hypothesis' statistics."""
    verdict = ALLOWED if proper else REFUSED
    event(verdict)
    return verdict


def new_path(uid: str, collection: str) -> str:
    return f"users/{uid}/{collection}/{uuid.uuid4().hex}"


# Devices


@FUZZ
@given(document=devices())
@example(document=dict(DEVICE))
@example(document={**DEVICE, "token": letters(MAX_TOKEN)})
@example(document={**DEVICE, "token": letters(MAX_TOKEN + 1)})
@example(document={**DEVICE, "token": letters(NEARLY_A_MEBIBYTE)})
@example(document={**DEVICE, "app_version": ""})
@example(document={**DEVICE, "app_version": None})
@example(document={**DEVICE, "updated_at": LONG_AGO})
@example(document={})
def test_a_device_is_registered_only_in_its_exact_shape(owner, uid, document):
    assert owner.create(new_path(uid, "devices"), document) == verdict_for(proper=is_device(document))


@FUZZ
@given(document=devices(), named=st.frozensets(st.sampled_from(sorted(DEVICE)), max_size=4))
@example(document=dict(DEVICE), named=frozenset({"app_version"}))
@example(document={}, named=frozenset({"app_version"}))
@example(document={"updated_at": SERVER_TIME}, named=frozenset({"app_version"}))
@example(document={"updated_at": SERVER_TIME}, named=frozenset({"token"}))
def test_a_device_that_is_changed_in_part_keeps_its_shape(owner, server, uid, document, named):
    """The mask names what changes; a field that is named and not given is deleted."""
    path = new_path(uid, "devices")
    server.put(path, DEVICE)
    before = {**DEVICE, "updated_at": LONG_AGO}
    plain = {name: value for name, value in document.items() if value is not SERVER_TIME}
    moved = {name: value for name, value in document.items() if value is SERVER_TIME}
    mask = sorted(named | set(plain) - set(moved))
    after = {name: value for name, value in before.items() if name not in mask} | plain | moved
    write = write_of(path, document, exists=True, mask=mask)
    assert owner.commit(write) == verdict_for(proper=is_device(after))


@pytest.mark.parametrize("name", ["d", "d" * 64, "A-z_0-9"])
def test_a_device_may_have_a_plain_name(owner, uid, name):
    assert owner.replace(f"users/{uid}/devices/{name}", DEVICE) == ALLOWED


@pytest.mark.parametrize("name", ["d" * 65, "d.1", "d 1", "d:1", "dé", "d\n", "d" * 1400, "🔔"])
def test_a_device_may_not_have_a_strange_name(owner, uid, name):
    assert owner.replace(f"users/{uid}/devices/{name}", DEVICE) == REFUSED


transforms = st.one_of(
    st.just({"setToServerValue": "REQUEST_TIME"}),
    st.builds(
        lambda how, number: {how: value_of(number)},
        st.sampled_from(["increment", "maximum", "minimum"]),
        st.integers(-9, 9),
    ),
    st.builds(
        lambda how, values: {how: {"values": [value_of(value) for value in values]}},
        st.sampled_from(["appendMissingElements", "removeAllFromArray"]),
        st.lists(st.text(PRINTABLE, max_size=5), max_size=2),
    ),
)
transformed = st.dictionaries(
    st.sampled_from(["token", "platform", "app_version", "credits", "role"]), transforms, max_size=2
)


@FUZZ
@given(more=transformed)
@example(more={})
def test_a_transform_gets_nothing_into_a_device_that_a_value_would_not(owner, uid, more):
    """A transform makes a time, a number or a list: no field of a device but `updated_at` is one."""
    write = write_of(new_path(uid, "devices"), DEVICE, transforms=more)
    assert owner.commit(write) == verdict_for(proper=not more)


@given(how=transforms)
@settings(FUZZ, max_examples=30)
def test_the_time_of_a_device_comes_from_the_server_only(owner, uid, how):
    document = {name: value for name, value in DEVICE.items() if name != "updated_at"}
    write = write_of(new_path(uid, "devices"), document, transforms={"updated_at": how})
    assert owner.commit(write) == verdict_for(proper="setToServerValue" in how)


# Notifications

NOTIFICATION: Mapping[str, Any] = {"title": "Credits are running low", "kind": "credits", "data": {"left": 5}}
unread = st.sampled_from([{}, {"read_at": None}])
was_read = st.sampled_from([{"read_at": LONG_AGO}, {"read_at": "yes"}, {"read_at": False}])


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """What a client may want to say about a notification: the same again, or something else."""
    other = st.fixed_dictionaries(
        {},
        optional={
            "title": st.sampled_from([NOTIFICATION["title"], "Another"]),
            "data": st.sampled_from([NOTIFICATION["data"], {"left": 5, "more": 1}, {}]),
            "deleted": st.booleans(),
        },
    )
    moment = draw(mostly(st.just({"read_at": SERVER_TIME}), times.map(lambda at: {"read_at": at}), st.just({})))
    return draw(mostly(st.just({}), other)) | draw(
        mostly(st.just(moment), anything.map(lambda value: {"read_at": value}))
    )


@FUZZ
@given(
    state=mostly(unread, was_read),
    change=changes(),
    dropped=mostly(st.just([]), st.just(["kind"]), st.just(["read_at"])),
)
@example(state={}, change={"read_at": SERVER_TIME}, dropped=[])
@example(state={"read_at": None}, change={"read_at": SERVER_TIME}, dropped=[])
@example(state={"read_at": LONG_AGO}, change={"read_at": SERVER_TIME}, dropped=[])
@example(state={"read_at": LONG_AGO}, change={"read_at": None}, dropped=[])
@example(state={}, change={"read_at": SERVER_TIME, "title": NOTIFICATION["title"]}, dropped=[])
@example(state={}, change={"read_at": SERVER_TIME, "title": "Another"}, dropped=[])
def test_of_a_notification_only_that_it_was_read_can_be_said(  # noqa: PLR0917  # fixtures and examples
    owner, server, uid, state, change, dropped
):
    path = new_path(uid, "notifications")
    server.put(path, {**NOTIFICATION, **state})
    mask = [name for name, value in change.items() if value is not SERVER_TIME]
    mask += [name for name in dropped if name not in change]
    after = {name: value for name, value in {**NOTIFICATION, **state}.items() if name not in mask} | change
    proper = state.get("read_at") is None and after == {**NOTIFICATION, "read_at": SERVER_TIME}
    assert owner.commit(write_of(path, change, exists=True, mask=mask)) == verdict_for(proper=proper)


@pytest.mark.parametrize("field", ["data.left", "data.more", "title.below"])
def test_a_field_inside_a_field_is_no_way_into_a_notification(owner, server, uid, field):
    path = new_path(uid, "notifications")
    server.put(path, NOTIFICATION)
    outer, _, inner = field.partition(".")
    write = write_of(path, {outer: {inner: 6}, "read_at": SERVER_TIME}, exists=True, mask=[field])
    assert owner.commit(write) == REFUSED
    assert owner.commit(write_of(path, READ_NOW, mask=[], transforms={field: {"increment": value_of(1)}})) == REFUSED


# Everything else

account_fields = st.dictionaries(
    st.sampled_from(
        ["role", "status", "plan", "credits_micro", "username", "email", "valid_since", "preferences", "read_at"]
    ),
    st.one_of(anything, st.sampled_from(["admin", "active", "enterprise", SERVER_TIME, 10**12])),
    max_size=4,
)
ways = st.sampled_from(["create", "replace", "update", "mask", "patch", "transform", "delete", "with a proper write"])


def write_by(way: str, owner: Person, uid: str, path: str, document: Mapping[str, Any]) -> str:
    match way:
        case "create" | "replace" | "update" | "patch":
            verdict: str = getattr(owner, way)(path, document)
            return verdict
        case "mask":
            plain = {name: value for name, value in document.items() if value is not SERVER_TIME}
            return owner.commit(write_of(path, plain, mask=sorted({*plain, "role"})))
        case "transform":
            more = {name: {"increment": value_of(1)} for name in document} or {"role": {"increment": value_of(1)}}
            return owner.commit(write_of(path, {}, mask=[], transforms=more))
        case "delete":
            return owner.delete(path)
        case _:
            return owner.commit(write_of(new_path(uid, "devices"), DEVICE), write_of(path, document))


@FUZZ
@given(way=ways, document=account_fields)
@example(way="update", document={"role": "admin"})
@example(way="update", document={"status": "active"})
@example(way="patch", document={"plan": "enterprise"})
@example(way="update", document={})
@example(way="replace", document=dict(ACCOUNT))
def test_nothing_of_an_account_can_be_written_by_its_owner(owner, server, uid, way, document):
    before = server.read(f"users/{uid}")
    assert write_by(way, owner, uid, f"users/{uid}", document) == REFUSED
    assert server.read(f"users/{uid}") == before


closed_places = st.sampled_from(sorted(TABLE.keys() - {DEVICES, NOTIFICATIONS}))


@FUZZ
@given(
    place=closed_places, way=ways, document=st.one_of(st.just(dict(DEVICE)), st.just(dict(READ_NOW)), account_fields)
)
def test_nothing_else_can_be_written_in_any_way(  # noqa: PLR0917  # fixtures and examples
    owner, server, uid, place, way, document
):
    path = "/".join(uid if part == "{uid}" else part.strip("{}") for part in place.split("/"))
    if place != "users/{uid}" and way in ("update", "delete"):
        server.put(path, {"uid": uid})
    assert write_by(way, owner, uid, path, document) == REFUSED


def test_independent_writes_are_judged_one_by_one(owner, server, uid):
    """A batch write applies what it may: it must not let the second through for the sake of the first."""
    device = new_path(uid, "devices")
    before = server.read(f"users/{uid}")
    owner.batch_write(write_of(device, DEVICE), write_of(f"users/{uid}", {"role": "admin"}), delete_of(f"users/{uid}"))
    assert server.read(f"users/{uid}") == before
