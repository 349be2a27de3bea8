"""The operators' routes, from the request to what it changed."""

import pytest

from shared.identity.permissions import Role
from tests.store.users.support import ME, fresh_name, open_account

USERS = "/api/v1/admin/users"
CHANGES = [
    ("PUT", "role", {"role": "admin", "reason": "because"}),
    ("POST", "suspend", {"reason": "because"}),
    ("POST", "reinstate", None),
    ("POST", "sign-out", None),
]
LEAST = {"role": Role.ADMIN, "suspend": Role.MODERATOR, "reinstate": Role.MODERATOR, "sign-out": Role.MODERATOR}
ORDER = [Role.USER, Role.SUPPORT, Role.MODERATOR, Role.ADMIN]


@pytest.mark.parametrize("role", ORDER)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change[1])
def test_each_change_needs_its_role(someone, operator, role, change):
    method, action, body = change
    answer = operator(role).request(method, f"{USERS}/{someone.uid}/{action}", body)

    allowed = ORDER.index(role) >= ORDER.index(LEAST[action])
    assert answer.status_code == (200 if allowed else 403)
    if not allowed:
        assert someone.event_types() == []


@pytest.mark.parametrize("role", ORDER)
def test_looking_needs_an_operator(someone, operator, role):
    asker = operator(role)
    expected = 200 if role is not Role.USER else 403

    assert asker.request("GET", USERS).status_code == expected
    assert asker.request("GET", f"{USERS}/{someone.uid}").status_code == expected
    assert asker.request("POST", f"{USERS}/search", {"username": "ada"}).status_code == expected


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change[1])
def test_an_operator_whose_sign_in_was_revoked_changes_nothing(someone, operator, auth, change):
    method, action, body = change
    admin = operator(Role.ADMIN)
    auth.records[admin.uid].disabled = True

    answer = admin.request(method, f"{USERS}/{someone.uid}/{action}", body)

    assert (answer.status_code, answer.json["reason"]) == (401, "revoked_token")
    assert someone.event_types() == []


def test_a_suspended_user_is_cut_off_by_the_next_request_and_back_after(someone, operator):
    moderator = operator(Role.MODERATOR)
    assert someone.request("GET", ME).status_code == 200

    suspended = moderator.request("POST", f"{USERS}/{someone.uid}/suspend", {"reason": "spam"})
    refused = someone.request("GET", ME)
    moderator.request("POST", f"{USERS}/{someone.uid}/reinstate")

    assert suspended.json["suspension"]["by"] == moderator.uid
    assert (refused.status_code, refused.json["code"]) == (403, "account_suspended")
    assert someone.request("GET", ME).status_code == 200


def test_a_role_that_was_given_counts_at_once(someone, operator):
    assert someone.request("GET", USERS).status_code == 403

    operator(Role.ADMIN).request("PUT", f"{USERS}/{someone.uid}/role", {"role": "support", "reason": "hired"})

    assert someone.request("GET", USERS).status_code == 200


def test_a_role_in_the_token_counts_for_nothing(someone):
    from tests.store.chat.support import id_token

    token = id_token(someone.uid, role="admin", admin=True)

    assert someone.request("GET", USERS, Authorization=f"Bearer {token}").status_code == 403


def test_users_come_newest_first_in_pages(operator):
    support = operator(Role.SUPPORT)
    made = [open_account(Role.MODERATOR) for _ in range(3)]

    first = support.request("GET", f"{USERS}?role=moderator&limit=2").json
    second = support.request("GET", f"{USERS}?role=moderator&limit=2&cursor={first['next_cursor']}").json

    listed = [item["uid"] for item in first["items"] + second["items"]]
    assert listed[:3] == [one.uid for one in reversed(made)]
    assert all(item["role"] == "moderator" for item in first["items"])


def test_users_are_listed_by_status_and_role_together(someone, operator):
    admin = operator(Role.ADMIN)
    admin.request("POST", f"{USERS}/{someone.uid}/suspend", {"reason": "spam"})

    listed = admin.request("GET", f"{USERS}?status=suspended&role=user&limit=100").json["items"]

    assert someone.uid in [item["uid"] for item in listed]
    assert {(item["status"], item["role"]) for item in listed} == {("suspended", "user")}


@pytest.mark.parametrize("query", ["role=root", "status=gone", "limit=0", "limit=101", "cursor=!"])
def test_a_list_of_another_kind_is_refused_by_name(operator, query):
    answer = operator(Role.SUPPORT).request("GET", f"{USERS}?{query}")

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json["errors"]] == [query.partition("=")[0]]


def test_a_user_is_found_by_address_or_name_and_nobody_is_an_empty_page(someone, operator):
    support, name = operator(Role.SUPPORT), fresh_name()
    someone.request("PATCH", ME, {"username": name})

    def search(body):
        return [item["uid"] for item in support.request("POST", f"{USERS}/search", body).json["items"]]

    assert search({"username": name.upper()}) == [someone.uid]
    assert search({"email": "ada@example.com"}) == [someone.uid]
    assert search({"email": "nobody@example.com"}) == []


def test_what_operators_see_holds_nothing_of_what_the_user_wrote_or_keeps(someone, operator):
    someone.request("PATCH", ME, {"bio": "a secret diary"})
    someone.request("PUT", f"{ME}/preferences", {"theme": "dark"})

    seen = operator(Role.SUPPORT).request("GET", f"{USERS}/{someone.uid}")

    assert "diary" not in seen.get_data(as_text=True)
    assert "preferences" not in seen.json


def test_nobody_is_not_found(operator, uid):
    admin = operator(Role.ADMIN)

    assert admin.request("GET", f"{USERS}/{uid}").status_code == 404
    for method, action, body in CHANGES:
        assert admin.request(method, f"{USERS}/{uid}/{action}", body).status_code == 404


def test_the_callers_own_account_is_not_theirs_to_judge(operator):
    admin = operator(Role.ADMIN)

    for action, body in (("role", {"role": "user", "reason": "because"}), ("suspend", {"reason": "because"})):
        method = "PUT" if action == "role" else "POST"
        answer = admin.request(method, f"{USERS}/{admin.uid}/{action}", body)
        assert (answer.status_code, answer.json["reason"]) == (403, "own_account")
