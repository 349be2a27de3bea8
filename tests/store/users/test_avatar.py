"""Avatars: put with a signed link, believed only after a look at the file, shown by a signed link."""

import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from functions.users import avatars
from functions.users import holdings as users
from shared import storage
from shared.clock import utc_now
from shared.errors import NotFound, Unavailable
from tests.store.users.support import ME, open_account

PATH = f"{ME}/avatar"
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + bytes(100)
JPEG = b"\xff\xd8\xff\xe0" + bytes(100)
OTHER_ID = "upl_" + "a" * 22


def send(method: str, url: str, body: bytes | None = None, headers=None) -> tuple[int, bytes, dict]:
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), {}


def begin(somebody, content: bytes, content_type: str = "image/png"):
    answer = somebody.request("POST", PATH, {"content_type": content_type, "size_bytes": len(content)})
    assert answer.status_code == 201
    return answer.json


def upload(somebody, content: bytes, content_type: str = "image/png") -> str:
    """The id of an upload whose file is there."""
    begun = begin(somebody, content, content_type)
    assert send(begun["method"], begun["url"], content, begun["headers"])[0] == 200
    return begun["upload_id"]


def give_avatar(somebody, content: bytes = PNG, content_type: str = "image/png"):
    upload_id = upload(somebody, content, content_type)
    answer = somebody.request("PUT", PATH, {"upload_id": upload_id})
    assert answer.status_code == 200
    return answer.json


def files(somebody) -> list[str]:
    folders = [f"avatars/{somebody.uid}/", f"uploads/{somebody.uid}/"]
    return [file.name for folder in folders for file in storage.list_files(folder, limit=20)]


def test_an_uploaded_picture_is_shown_to_whoever_has_the_link(someone):
    profile = give_avatar(someone)

    status, content, headers = send("GET", profile["avatar_url"])

    assert (status, content, headers["Content-type"]) == (200, PNG, "image/png")
    assert someone.request("GET", ME).json["avatar_url"] == profile["avatar_url"]
    assert files(someone) == [f"avatars/{someone.uid}/{someone.document()['avatar']['id']}"]


def test_without_the_signature_nobody_sees_it(someone):
    url = give_avatar(someone)["avatar_url"]

    assert send("GET", url.partition("?")[0])[0] == 403
    assert send("GET", url[:-1] + ("0" if url[-1] != "0" else "1"))[0] == 403
    assert send("GET", url.replace(someone.uid, "somebody-else"))[0] == 403
    assert send("PUT", url, PNG)[0] == 403


def test_a_link_is_for_one_file_of_the_type_and_size_that_was_agreed(someone):
    begun = begin(someone, PNG)
    url, headers = begun["url"], begun["headers"]

    assert send("PUT", url, PNG + b"x", headers)[0] == 400
    assert send("PUT", url, PNG[:-1], headers)[0] == 400
    assert send("PUT", url, PNG, {**headers, "Content-Type": "text/html"})[0] == 403
    assert send("PUT", url, PNG, {**headers, storage.SIZE_LIMIT_HEADER: "0,99999999"})[0] == 403
    assert send("PUT", url.replace(begun["upload_id"], OTHER_ID), PNG, headers)[0] == 403
    assert files(someone) == []


def test_the_newest_upload_is_open_until_it_is_completed_or_its_link_is_over(someone):
    """An erasure waits for that, because nobody can take a link back."""
    assert users.open_upload_ends_at(someone.uid) is None
    first, newest = upload(someone, PNG), begin(someone, PNG)
    ends_at = datetime.fromisoformat(newest["expires_at"])
    assert users.open_upload_ends_at(someone.uid) == ends_at

    assert someone.request("PUT", PATH, {"upload_id": first}).status_code == 200
    assert users.open_upload_ends_at(someone.uid) == ends_at

    assert send("PUT", newest["url"], PNG, newest["headers"])[0] == 200
    assert someone.request("PUT", PATH, {"upload_id": newest["upload_id"]}).status_code == 200
    assert users.open_upload_ends_at(someone.uid) is None


def test_no_link_is_given_for_an_account_that_is_gone(auth, uid):
    with pytest.raises(NotFound):
        avatars.begin(uid, OTHER_ID, content_type="image/png", size_bytes=9, now=utc_now())

    assert users.open_upload_ends_at(uid) is None


def test_a_link_that_is_over_is_worth_nothing(someone, monkeypatch):
    monkeypatch.setattr(avatars, "UPLOAD_LIFETIME", timedelta(seconds=0))
    begun = begin(someone, PNG)

    assert send("PUT", begun["url"], PNG, begun["headers"])[0] == 400


@pytest.mark.parametrize(
    ("content", "content_type"),
    [(b"<html><script>alert(1)</script>", "image/png"), (JPEG, "image/png"), (PNG, "image/webp"), (b"x", "image/jpeg")],
    ids=["a page", "another image", "webp that is png", "one byte"],
)
def test_what_is_not_the_image_it_was_said_to_be_is_refused_and_not_kept(someone, content, content_type):
    upload_id = upload(someone, content, content_type)

    answer = someone.request("PUT", PATH, {"upload_id": upload_id})

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json["errors"]] == ["upload_id"]
    assert files(someone) == []
    assert "avatar" not in someone.document()


def test_a_new_avatar_replaces_the_old_file(someone):
    old = give_avatar(someone)["avatar_url"]

    new = give_avatar(someone, JPEG, "image/jpeg")["avatar_url"]

    assert send("GET", new)[1] == JPEG
    assert send("GET", old)[0] == 404
    assert len(files(someone)) == 1


def test_completing_again_changes_nothing(someone):
    upload_id = upload(someone, PNG)
    first = someone.request("PUT", PATH, {"upload_id": upload_id})

    again = someone.request("PUT", PATH, {"upload_id": upload_id})

    assert (again.status_code, again.json) == (200, first.json)
    assert someone.event_types() == ["user.profile.updated"]


def test_putting_something_else_after_the_check_changes_nothing(someone):
    begun = begin(someone, PNG)
    send("PUT", begun["url"], PNG, begun["headers"])
    shown = someone.request("PUT", PATH, {"upload_id": begun["upload_id"]}).json["avatar_url"]

    evil = b"<script>" + bytes(len(PNG) - 8)
    assert send("PUT", begun["url"], evil, begun["headers"])[0] == 200

    assert send("GET", shown)[1] == PNG


@pytest.mark.parametrize("step", ["read_start", "copy"])
def test_an_upload_that_is_taken_away_while_it_is_looked_at_is_to_be_tried_again(someone, monkeypatch, step):
    """As when the same picture is completed twice at once: who comes second finds the avatar on the next try."""
    upload_id = upload(someone, PNG)
    really = getattr(storage, step)

    def too_late(file, *rest):
        storage.delete(file.name)
        return really(file, *rest)

    monkeypatch.setattr(storage, step, too_late)

    answer = someone.request("PUT", PATH, {"upload_id": upload_id})

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert files(someone) == []
    assert "avatar" not in someone.document()


def test_an_upload_that_never_came_is_not_found(someone):
    assert someone.request("PUT", PATH, {"upload_id": begin(someone, PNG)["upload_id"]}).status_code == 404


def test_somebody_elses_upload_is_not_found(someone):
    upload_id = upload(someone, PNG)

    answer = open_account().request("PUT", PATH, {"upload_id": upload_id})

    assert answer.status_code == 404


def test_an_avatar_is_removed_and_removing_again_changes_nothing(someone):
    give_avatar(someone)

    removed = [someone.request("DELETE", PATH) for _ in range(2)]

    assert [(answer.status_code, answer.json["avatar_url"]) for answer in removed] == [(200, None), (200, None)]
    assert files(someone) == []
    assert someone.event_types() == ["user.profile.updated"] * 2


def test_two_who_complete_at_once_leave_one_file_that_is_there(someone):
    ids = [upload(someone, PNG), upload(someone, JPEG, "image/jpeg")]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: avatars.complete(someone.uid, one, now=utc_now()), ids))

    assert files(someone) == [f"avatars/{someone.uid}/{someone.document()['avatar']['id']}"]


def test_a_profile_is_shown_without_its_picture_when_nothing_can_be_signed(someone, monkeypatch):
    give_avatar(someone)
    avatars._links.clear()

    def away(name, **_):
        raise Unavailable

    monkeypatch.setattr(storage, "sign_download", away)

    answer = someone.request("GET", ME)

    assert (answer.status_code, answer.json["avatar_url"]) == (200, None)
