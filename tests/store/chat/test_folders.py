"""Folders through their routes."""

import threading

import pytest
from google.cloud.firestore_v1.base_query import FieldFilter

from functions.chat.folders import domain, repository, service
from shared import store
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.errors import AppError, InvalidRequest

FOLDERS = "/api/v1/folders"


@pytest.fixture
def ada(poor_user):
    return poor_user


def make(user, name: str, **body):
    return user.request("POST", FOLDERS, {"name": name, **body})


def names(user) -> list[str]:
    return [folder["name"] for folder in user.request("GET", FOLDERS).json["items"]]


def conversation_in(user, folder_id: str | None) -> str:
    return user.request("POST", "/api/v1/conversations", {"folder_id": folder_id} if folder_id else {}).json["id"]


def folder_of(user, conversation_id: str) -> str | None:
    return user.request("GET", f"/api/v1/conversations/{conversation_id}").json["folder_id"]


def test_a_folder_is_made_listed_renamed_moved_and_deleted(ada):
    made = make(ada, "  Work   and play ")
    assert made.status_code == 201
    folder = made.json
    assert folder["name"] == "Work and play"
    assert folder["position"] == 0
    assert make(ada, "Birds").json["position"] == 1
    changed = ada.request("PATCH", f"{FOLDERS}/{folder['id']}", {"position": 7}).json
    assert (changed["name"], changed["position"]) == ("Work and play", 7)
    assert names(ada) == ["Birds", "Work and play"]
    assert ada.request("PATCH", f"{FOLDERS}/{folder['id']}", {"name": "Work"}).json["position"] == 7
    assert ada.request("DELETE", f"{FOLDERS}/{folder['id']}").status_code == 204
    assert names(ada) == ["Birds"]
    for method, body in (("DELETE", None), ("PATCH", {"name": "x"})):
        assert ada.request(method, f"{FOLDERS}/{folder['id']}", body).status_code == 404


@pytest.mark.parametrize("again", ["Birds", "BIRDS", "birds ", "\uff22irds"])
def test_a_name_is_unique_whatever_the_case(ada, again):
    make(ada, "Birds")
    other = make(ada, "Other").json["id"]
    assert make(ada, again).status_code == 409
    assert ada.request("PATCH", f"{FOLDERS}/{other}", {"name": again}).status_code == 409
    assert names(ada) == ["Birds", "Other"]


def test_a_folder_may_change_the_case_of_its_own_name_and_its_old_name_is_free(ada):
    folder = make(ada, "birds").json["id"]
    assert ada.request("PATCH", f"{FOLDERS}/{folder}", {"name": "Birds"}).status_code == 200
    assert ada.request("PATCH", f"{FOLDERS}/{folder}", {"name": "Lakes"}).status_code == 200
    assert make(ada, "Birds").status_code == 201


def test_of_many_requests_for_one_name_one_makes_it(ada):
    outcomes: list[str | int] = []

    def create(number: int) -> None:
        try:
            outcomes.append(service.create(ada.uid, f"fld_{number}", "Birds", None, now=utc_now()).id)
        except AppError as error:
            outcomes.append(error.status)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes))[:3] == ["409"] * 3
    assert names(ada) == ["Birds"]


def test_the_same_request_again_gives_the_same_folder(ada):
    key = {"headers": {"Idempotency-Key": "make-birds"}}
    first = ada.request("POST", FOLDERS, {"name": "Birds"}, **key).json
    again = ada.request("POST", FOLDERS, {"name": "Birds"}, headers={"Idempotency-Key": "make-birds"}).json
    assert first == again
    at = utc_now()
    made = service.create(ada.uid, "fld_1", "Lakes", None, now=at)
    assert service.create(ada.uid, "fld_1", "Lakes", None, now=utc_now()) == made


def test_there_are_never_more_folders_than_may_be(ada, monkeypatch):
    monkeypatch.setattr(service, "MAX_FOLDERS", 3)
    for number in range(3):
        assert make(ada, f"Folder {number}").status_code == 201
    assert make(ada, "One more").status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "   "},
        {"name": "x" * 81},
        {"name": "a\u200bb\u202e"},
        {"name": "\ud800"},
        {"name": 7},
        {"name": None},
        {"name": "x", "position": -1},
        {"name": "x", "position": "first"},
        {"name": "x", "colour": "red"},
    ],
)
def test_what_is_no_folder_is_refused(ada, body):
    assert ada.request("POST", FOLDERS, body).status_code == 400
    assert names(ada) == []


def test_a_strangers_folder_is_not_there(ada, chat_client):
    from tests.store.chat.support import User

    folder = make(ada, "Birds").json["id"]
    stranger = User("stranger-of-folders", chat_client)
    for method, body in (("PATCH", {"name": "Mine"}), ("DELETE", None)):
        assert stranger.request(method, f"{FOLDERS}/{folder}", body).status_code == 404
    refused = stranger.request("POST", "/api/v1/conversations", {"folder_id": folder})
    assert refused.status_code == 400
    assert refused.json["errors"][0]["field"] == "folder_id"
    with pytest.raises(InvalidRequest):
        service.require(stranger.uid, folder)
    assert names(ada) == ["Birds"]


def test_conversations_outlive_their_folder(ada, monkeypatch):
    monkeypatch.setattr(repository, "CONVERSATIONS_PER_BATCH", 2)
    folder, other = make(ada, "Birds").json["id"], make(ada, "Lakes").json["id"]
    inside = [conversation_in(ada, folder) for _ in range(5)]
    elsewhere = conversation_in(ada, other)
    before = ada.request("GET", f"/api/v1/conversations/{inside[0]}").json["updated_at"]
    assert ada.request("DELETE", f"{FOLDERS}/{folder}").status_code == 204
    assert [folder_of(ada, each) for each in inside] == [None] * 5
    assert folder_of(ada, elsewhere) == other
    assert ada.request("GET", f"/api/v1/conversations/{inside[0]}").json["updated_at"] == before


def test_a_deletion_that_broke_off_goes_on_when_repeated(ada, monkeypatch):
    monkeypatch.setattr(repository, "CONVERSATIONS_PER_BATCH", 2)
    monkeypatch.setattr(service, "PAGES_AT_ONCE", 1)
    folder = make(ada, "Birds").json["id"]
    inside = [conversation_in(ada, folder) for _ in range(5)]
    answers = [ada.request("DELETE", f"{FOLDERS}/{folder}").status_code for _ in range(3)]
    assert answers == [503, 503, 204]
    assert [folder_of(ada, each) for each in inside] == [None] * 5


def test_nothing_is_put_into_a_folder_that_is_gone_by_then(ada):
    folder = make(ada, "Birds").json["id"]
    conversation = conversation_in(ada, None)
    batch = store.new_batch()
    service.require_into(batch, ada.uid, folder)
    batch.update(firestore_client().document(f"users/{ada.uid}/conversations/{conversation}"), {"folder_id": folder})
    service.delete(ada.uid, folder)
    with pytest.raises(store.StaleWrite):
        store.commit(batch)
    assert folder_of(ada, conversation) is None


def test_the_names_that_are_taken_are_those_of_the_folders(ada):
    for name in ("Birds", "Lakes", "Work"):
        make(ada, name)
    gone = ada.request("GET", FOLDERS).json["items"][1]["id"]
    ada.request("DELETE", f"{FOLDERS}/{gone}")
    taken = repository.read_names(ada.uid).keys
    folders = firestore_client().collection(f"users/{ada.uid}/folders").stream()
    assert taken == {each.id: domain.name_key(each.get("name")) for each in folders}
    conversations = firestore_client().collection(f"users/{ada.uid}/conversations")
    assert list(conversations.where(filter=FieldFilter("folder_id", "==", gone)).stream()) == []
