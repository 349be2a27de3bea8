"""What operators may do to whom; that one admin always stays; that Firebase Auth follows."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest

from functions.users import appoint, service
from shared.clock import utc_now
from shared.errors import AccountSuspended, Conflict, NotFound, PermissionDenied, Unauthenticated, Unavailable
from shared.identity import accounts
from shared.identity.caller import Caller
from shared.identity.permissions import Role
from tests.store.users.support import fresh_name, open_account

BOSS = Caller(uid="boss", role=Role.ADMIN)
MODERATOR = Caller(uid="moderator", role=Role.MODERATOR)


def set_role(by, somebody, role):
    return service.set_role(by, somebody.uid, role, reason="because", now=utc_now())


def suspend(by, somebody):
    return service.suspend(by, somebody.uid, reason="spam", now=utc_now())


def admit(somebody, proved_at=None):
    accounts.get_standing(somebody.uid, now=utc_now()).admit(proved_at=proved_at)


def test_a_role_is_given_with_its_claim_and_told_of(someone, auth):
    user = set_role(BOSS, someone, Role.SUPPORT)

    assert user.role is Role.SUPPORT
    assert auth.records[someone.uid].custom_claims == {"role": "support"}
    assert accounts.get_standing(someone.uid, now=utc_now()).role is Role.SUPPORT
    told = someone.events()[-1]
    assert (told["type"], told["topic"]) == ("user.role.changed", "user-events")
    assert told["data"] == {"old_role": "user", "new_role": "support", "by": "boss"}
    assert someone.document()["role_change"]["reason"] == "because"


def test_a_promotion_lets_sign_ins_stand_and_a_demotion_ends_them(someone, auth):
    proved_at = utc_now() - timedelta(seconds=1)
    set_role(BOSS, someone, Role.MODERATOR)
    admit(someone, proved_at)
    assert "revoked" not in auth.changes

    set_role(BOSS, someone, Role.USER)

    with pytest.raises(Unauthenticated):
        admit(someone, proved_at)
    assert "revoked" in auth.changes
    assert auth.records[someone.uid].custom_claims is None


def test_the_same_role_again_changes_and_tells_nothing(someone):
    set_role(BOSS, someone, Role.SUPPORT)
    before = someone.document()

    set_role(BOSS, someone, Role.SUPPORT)

    assert someone.document() == before
    assert someone.event_types() == ["user.role.changed"]


def test_when_firebase_auth_is_away_the_same_request_completes_it_later(someone, auth):
    auth.down = True
    with pytest.raises(Unavailable):
        set_role(BOSS, someone, Role.SUPPORT)
    assert accounts.get_standing(someone.uid, now=utc_now()).role is Role.SUPPORT

    auth.down = False
    set_role(BOSS, someone, Role.SUPPORT)

    assert auth.records[someone.uid].custom_claims == {"role": "support"}
    assert someone.event_types() == ["user.role.changed"]


def test_nobody_changes_their_own_role(operator):
    admin = operator(Role.ADMIN)

    with pytest.raises(PermissionDenied, match="own role"):
        set_role(admin.as_caller(), admin, Role.USER)

    assert admin.document()["role"] == "admin"


def test_the_last_admin_is_neither_demoted_nor_suspended(operator, only_admins):
    admin = operator(Role.ADMIN)
    only_admins(admin)

    with pytest.raises(Conflict, match="last admin"):
        set_role(BOSS, admin, Role.USER)
    with pytest.raises(Conflict, match="last admin"):
        suspend(BOSS, admin)

    assert (admin.document()["role"], admin.document()["status"]) == ("admin", "active")


def test_a_suspended_admin_does_not_count_as_one_who_could_take_over(operator, only_admins):
    active, suspended = operator(Role.ADMIN), operator(Role.ADMIN)
    only_admins(active, suspended)
    suspend(BOSS, suspended)

    with pytest.raises(Conflict, match="last admin"):
        set_role(BOSS, active, Role.USER)


@pytest.mark.parametrize("action", [lambda by, one: set_role(by, one, Role.USER), suspend], ids=["demote", "suspend"])
def test_admins_who_turn_on_each_other_at_once_leave_one(operator, only_admins, action):
    admins = [operator(Role.ADMIN) for _ in range(3)]
    only_admins(*admins)
    barrier = Barrier(len(admins))

    def turn(index: int) -> None:
        by, on = admins[index], admins[(index + 1) % len(admins)]
        barrier.wait()
        try:
            action(Caller(uid=by.uid, role=Role.ADMIN), on)
        except (Conflict, Unavailable):
            return

    with ThreadPoolExecutor(len(admins)) as pool:
        list(pool.map(turn, range(len(admins))))

    left = [one.document() for one in admins]
    assert any((one["role"], one["status"]) == ("admin", "active") for one in left)


def test_a_suspension_cuts_off_and_says_so(someone, auth):
    user = suspend(MODERATOR, someone)

    assert user.suspension is not None
    assert (user.status, user.suspension.reason, user.suspension.by) == ("suspended", "spam", "moderator")
    with pytest.raises(AccountSuspended):
        admit(someone)
    assert auth.records[someone.uid].disabled
    assert someone.events()[-1]["data"] == {"by": "moderator"}
    assert "spam" not in str(someone.events())


def test_suspending_again_keeps_the_first_reason(someone):
    suspend(MODERATOR, someone)

    again = service.suspend(BOSS, someone.uid, reason="other", now=utc_now())

    assert again.suspension is not None
    assert again.suspension.reason == "spam"
    assert someone.event_types() == ["user.suspended"]


def test_a_reinstated_user_is_as_before(someone, auth):
    suspend(MODERATOR, someone)

    user = service.reinstate(MODERATOR, someone.uid, now=utc_now())
    service.reinstate(MODERATOR, someone.uid, now=utc_now())

    assert (user.status, user.suspension) == ("active", None)
    admit(someone)
    assert not auth.records[someone.uid].disabled
    assert someone.event_types() == ["user.suspended", "user.reinstated"]


@pytest.mark.parametrize("target", [Role.SUPPORT, Role.MODERATOR, Role.ADMIN])
def test_a_moderator_does_not_act_on_other_operators(operator, target):
    other = operator(target)
    for action in (
        lambda: suspend(MODERATOR, other),
        lambda: service.reinstate(MODERATOR, other.uid, now=utc_now()),
        lambda: service.sign_out_everywhere(MODERATOR, other.uid, now=utc_now()),
    ):
        with pytest.raises(PermissionDenied, match="Only an admin"):
            action()
    assert other.event_types() == []


def test_nobody_suspends_themselves(operator):
    moderator = operator(Role.MODERATOR)

    with pytest.raises(PermissionDenied):
        suspend(moderator.as_caller(), moderator)


def test_a_sign_out_ends_what_was_proved_before_and_nothing_after(someone, auth):
    now = utc_now()
    service.sign_out_everywhere(MODERATOR, someone.uid, now=now)

    with pytest.raises(Unauthenticated):
        admit(someone, now - timedelta(seconds=1))
    admit(someone, now + timedelta(seconds=1))
    assert auth.changes == ["revoked"]
    assert someone.event_types() == ["user.signed_out"]


def test_nothing_is_done_to_an_account_that_is_being_erased(someone):
    someone.set(status="erasing")

    for action in (lambda: set_role(BOSS, someone, Role.ADMIN), lambda: suspend(BOSS, someone)):
        with pytest.raises(Conflict, match="erased"):
            action()
    with pytest.raises(Conflict, match="erased"):
        service.reinstate(BOSS, someone.uid, now=utc_now())
    assert someone.document()["status"] == "erasing"


def test_nobody_who_is_not_there_is_changed(uid):
    with pytest.raises(NotFound):
        service.suspend(BOSS, uid, reason="spam", now=utc_now())
    with pytest.raises(NotFound):
        service.set_role(BOSS, uid, Role.ADMIN, reason="because", now=utc_now())


def test_users_are_found_by_exactly_what_they_are_called(someone):
    name = fresh_name()
    service.change_profile(someone.uid, {"username": name}, now=utc_now())

    found = [service.find_by_username(name), service.find_by_email("ada@example.com")]

    assert [user.uid for user in found if user] == [someone.uid] * 2
    assert service.find_by_username(name[:-1]) is None
    assert service.find_by_email("nobody@example.com") is None


def test_a_default_name_finds_its_user_too():
    somebody = open_account()

    found = service.find_by_username(accounts.default_username(somebody.uid))

    assert found is not None
    assert found.uid == somebody.uid


def test_a_plan_is_kept_with_the_account(someone):
    service.set_plan(someone.uid, "pro", now=utc_now())

    assert accounts.get_standing(someone.uid, now=utc_now()).plan == "pro"


def test_the_first_admin_is_appointed_from_the_command_line(someone, only_admins, auth, capsys):
    only_admins()

    assert appoint.main(["ada@example.com"]) == 0

    assert someone.document()["role"] == "admin"
    assert auth.records[someone.uid].custom_claims == {"role": "admin"}
    assert someone.events()[-1]["data"]["by"] == "command-line"
    assert someone.uid in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["a@b.c", "d@e.f"], ["nobody@example.com"]])
def test_a_wrong_call_appoints_nobody_and_says_why(auth, arguments, capsys):
    assert appoint.main(arguments) != 0
    assert capsys.readouterr().err
