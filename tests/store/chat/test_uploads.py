"""Attachments: put with a signed link, believed only after a look at the file, shown to people and to models."""

import io
import json
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from functions.chat import holdings as chat
from functions.chat.uploads import domain, repository, service
from functions.chat.uploads.http import routes
from functions.models.domain import MOST_IMAGE_TOKENS
from functions.users import avatars
from shared import storage, store
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.errors import InvalidRequest, NotFound, Unavailable
from shared.ids import new_id
from tests.store.chat.support import User, wsgi_client

PATH = "/api/v1/uploads"
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + bytes(100)
JPEG = b"\xff\xd8\xff\xe0" + bytes(100)
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 " + bytes(100)
GIF = b"GIF89a" + bytes(100)
PDF = b"%PDF-1.7\n" + bytes(100)
TEXT = "Geçmiş olsun, güle güle.\n".encode()
PAGE = b"<html><script>alert(1)</script></html>"


@pytest.fixture(autouse=True)
def _tokens_of_the_emulator(monkeypatch):
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", "127.0.0.1:9")


@pytest.fixture(scope="session")
def uploads_client(firestore_emulator):
    return wsgi_client(routes)


@pytest.fixture
def somebody(uploads_client, uid, no_limits):
    return User(uid, uploads_client)


@pytest.fixture
def stranger(uploads_client, no_limits):
    return User(f"user-{uuid.uuid4().hex}", uploads_client)


def send(method: str, url: str, body: bytes | None = None, headers=None) -> tuple[int, bytes, dict]:
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), {}


def begin(user: User, content: bytes, content_type: str = "image/png", name: str = "a file", **options):
    body = {"name": name, "content_type": content_type, "size_bytes": len(content)}
    answer = user.request("POST", PATH, body, **options)
    assert answer.status_code == 201, answer.get_data(as_text=True)
    return answer.json


def put(user: User, content: bytes, content_type: str = "image/png", name: str = "a file") -> str:
    """The id of an upload whose file is there."""
    begun = begin(user, content, content_type, name)
    assert send(begun["method"], begun["url"], content, begun["headers"])[0] == 200
    return begun["upload_id"]


def adopt(user: User, *upload_ids: str, conversation_id: str = "conv_1") -> list[domain.Attachment]:
    return service.adopt(user.uid, conversation_id, upload_ids, now=utc_now())


def parts(user: User, attachments) -> list[dict]:
    return service.upstream_parts(user.uid, attachments, now=utc_now())


def refused(user: User, *upload_ids: str) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as error:
        adopt(user, *upload_ids)
    return {problem.field: problem.message for problem in error.value.fields}


def files(user: User) -> list[str]:
    folders = [f"attachments/{user.uid}/", f"uploads/{user.uid}/"]
    return [file.name for folder in folders for file in storage.list_files(folder, limit=50)]


def place(name: str, content: bytes) -> None:
    """Put a file past every link."""
    storage.upload(name, io.BytesIO(content), content_type="image/png")


def record(user: User, upload_id: str):
    return firestore_client().document(f"users/{user.uid}/attachments/{upload_id}").get().to_dict()


# Putting a file


def test_a_link_is_for_one_file_of_the_type_and_size_that_was_agreed(somebody):
    begun = begin(somebody, PNG)
    url, headers = begun["url"], begun["headers"]
    other_id = new_id("upl")

    assert send("PUT", url, PNG + b"x", headers)[0] == 400
    assert send("PUT", url, PNG[:-1], headers)[0] == 400
    assert send("PUT", url, b"", headers)[0] == 400
    assert send("PUT", url, PNG, {**headers, "Content-Type": "text/html"})[0] == 403
    assert send("PUT", url, PNG, {**headers, storage.SIZE_LIMIT_HEADER: "0,99999999"})[0] == 403
    assert send("PUT", url.replace(begun["upload_id"], other_id), PNG, headers)[0] == 403
    assert send("GET", url)[0] == 403
    assert files(somebody) == []


def test_a_repeated_request_gets_the_same_link(somebody):
    key = {"Idempotency-Key": uuid.uuid4().hex}

    first, again = begin(somebody, PNG, headers=key), begin(somebody, PNG, headers=key)

    assert again == first
    body = {"name": "another", "content_type": "image/png", "size_bytes": 7}
    assert somebody.request("POST", PATH, body, headers=key).status_code == 422


def test_a_request_that_died_after_its_record_gets_another_link_to_the_same(somebody):
    upload_id, now = new_id("upl"), utc_now()

    def begin_at(moment):
        return service.begin(
            somebody.uid, upload_id, name="a", content_type="image/png", size_bytes=len(PNG), now=moment
        )

    begin_at(now - timedelta(minutes=5))
    again = begin_at(now)

    assert send("PUT", again.url, PNG, dict(again.headers))[0] == 200
    assert chat.open_upload_ends_at(somebody.uid) == now + timedelta(minutes=10)
    assert [each.id for each in adopt(somebody, upload_id)] == [upload_id]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"size_bytes": 0}, "size_bytes"),
        ({"size_bytes": 11 * 1024**2}, "size_bytes"),
        ({"content_type": "image/svg+xml"}, "content_type"),
        ({"name": "../secret"}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"upload_id": "upl_mine"}, "upload_id"),
    ],
    ids=str,
)
def test_what_cannot_be_uploaded_is_refused_by_its_field(somebody, body, field):
    asked = {"name": "a.png", "content_type": "image/png", "size_bytes": 100, **body}

    answer = somebody.request("POST", PATH, asked)

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json["errors"]] == [field]


@pytest.mark.parametrize(("method", "path"), [("POST", PATH), ("GET", f"{PATH}/upl_1"), ("DELETE", f"{PATH}/upl_1")])
def test_nobody_gets_in_without_signing_in(somebody, method, path):
    assert somebody.client.open(path, method=method, data="{}").status_code == 401


def test_too_many_uploads_that_no_message_used_are_refused_until_some_are_used_or_removed(somebody, monkeypatch):
    monkeypatch.setattr(service, "MAX_OPEN", 3)
    waiting = [put(somebody, PNG) for _ in range(3)]
    body = {"name": "a", "content_type": "image/png", "size_bytes": 5}

    answer = somebody.request("POST", PATH, body)
    assert (answer.status_code, answer.json["reason"]) == (409, "too_many_uploads")

    adopt(somebody, waiting[0])
    begin(somebody, PNG)
    assert somebody.request("POST", PATH, body).status_code == 409


def test_an_upload_that_is_removed_counts_until_its_link_is_over(somebody, monkeypatch):
    """Or its owner could begin, remove and put without end."""
    monkeypatch.setattr(service, "MAX_OPEN", 1)
    upload_id = put(somebody, PNG)
    now = utc_now()

    service.remove(somebody.uid, upload_id, now=now)

    assert repository.count_open(somebody.uid, now) == 1
    assert repository.count_open(somebody.uid, now + timedelta(minutes=10)) == 0


def test_links_are_open_until_they_are_over_or_their_file_was_used(somebody):
    """An erasure waits for that, because nobody can take a link back."""
    assert chat.open_upload_ends_at(somebody.uid) is None
    used, removed = put(somebody, PNG), put(somebody, PNG)
    ends_at = record(somebody, removed)["link_ends_at"]

    adopt(somebody, used)
    service.remove(somebody.uid, removed, now=utc_now())
    assert chat.open_upload_ends_at(somebody.uid) == ends_at

    service.remove(somebody.uid, put(somebody, PNG), now=utc_now() + timedelta(minutes=11))
    assert chat.open_upload_ends_at(somebody.uid) == ends_at


# The first use


@pytest.mark.parametrize(
    ("content", "content_type", "kind"),
    [
        (PNG, "image/png", "image"),
        (JPEG, "image/jpeg", "image"),
        (WEBP, "image/webp", "image"),
        (GIF, "image/gif", "image"),
        (PDF, "application/pdf", "file"),
        (TEXT, "text/plain", "file"),
        (b"print('hello')", "text/x-python", "file"),
        (b'{"a": [1]}', "application/json", "file"),
    ],
    ids=["png", "jpeg", "webp", "gif", "pdf", "text", "python", "json"],
)
def test_a_file_becomes_an_attachment_at_its_first_use(somebody, content, content_type, kind):
    upload_id = put(somebody, content, content_type, name="my file")

    [attachment] = adopt(somebody, upload_id)

    assert attachment == domain.Attachment(upload_id, "my file", content_type, len(content), kind, "conv_1")
    assert files(somebody) == [f"attachments/{somebody.uid}/{upload_id}"]
    kept = record(somebody, upload_id)
    assert (kept["state"], kept["conversation_id"]) == ("kept", "conv_1")
    assert "expires_at" not in kept


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (PAGE, "image/png"),
        (JPEG, "image/png"),
        (PNG, "image/webp"),
        (b"x", "image/jpeg"),
        (PAGE, "application/pdf"),
        (b"\n" + PDF, "application/pdf"),
        (PNG, "application/pdf"),
        (PNG, "text/plain"),
        (b"%PDF-1.4 all of it plain", "text/html"),
        (b"GIF89a=1;alert(1)", "text/javascript"),
        (b"caf\xe9", "text/csv"),
        (b"a\x00b", "text/markdown"),
        ("text".encode("utf-16"), "application/xml"),
    ],
    ids=[
        "a page as an image",
        "another image",
        "webp that is png",
        "one byte",
        "a page as a pdf",
        "a pdf after something else",
        "an image as a pdf",
        "an image as a text",
        "a pdf that is plain text",
        "a gif that is a script",
        "latin-1",
        "nul",
        "utf-16",
    ],
)
def test_what_is_not_what_it_was_said_to_be_is_refused_and_not_kept(somebody, content, content_type):
    upload_id = put(somebody, content, content_type)

    problems = refused(somebody, upload_id)

    assert list(problems) == ["content[0].upload_id"]
    assert content_type in problems["content[0].upload_id"]
    assert files(somebody) == []


def test_a_page_that_begins_like_an_image_is_only_ever_shown_as_that_image(somebody):
    upload_id = put(somebody, GIF[:6] + PAGE, "image/gif")

    adopt(somebody, upload_id)

    url = somebody.request("GET", f"{PATH}/{upload_id}").json["url"]
    assert send("GET", url)[2]["Content-type"] == "image/gif"


def test_what_a_writer_put_past_the_agreed_size_is_refused(somebody):
    """The bucket refuses it by itself; this is the second lock."""
    begun = begin(somebody, PNG)
    place(f"uploads/{somebody.uid}/{begun['upload_id']}", PNG + b"more")

    problems = refused(somebody, begun["upload_id"])

    assert "116 bytes" in problems["content[0].upload_id"]
    assert files(somebody) == []


def test_a_refused_file_can_be_put_again_rightly(somebody):
    begun = begin(somebody, PNG)
    wrong = b"<script>" + bytes(len(PNG) - 8)
    assert send("PUT", begun["url"], wrong, begun["headers"])[0] == 200
    refused(somebody, begun["upload_id"])

    assert send("PUT", begun["url"], PNG, begun["headers"])[0] == 200

    assert len(adopt(somebody, begun["upload_id"])) == 1


def test_each_wrong_one_is_named_by_its_place_and_the_right_ones_are_kept_for_the_next_try(somebody, stranger):
    fine, foreign, unfit = put(somebody, PNG), put(stranger, PNG), put(somebody, PAGE, "image/png")
    never_put, unknown = begin(somebody, PNG)["upload_id"], new_id("upl")

    problems = refused(somebody, fine, foreign, unfit, never_put, unknown, "../../x", foreign)

    assert set(problems) == {f"content[{place}].upload_id" for place in (1, 2, 3, 4, 5, 6)}
    assert problems["content[1].upload_id"] == problems["content[4].upload_id"], "somebody else's is like none at all"
    assert [each.id for each in adopt(somebody, fine)] == [fine]
    assert files(stranger) == [f"uploads/{stranger.uid}/{foreign}"]


def test_an_attachment_used_again_is_only_read(somebody, monkeypatch):
    upload_id = put(somebody, PNG)
    first = adopt(somebody, upload_id)

    def away(name):
        raise AssertionError(f"{name} was looked for")

    monkeypatch.setattr(storage, "find", away)

    assert adopt(somebody, upload_id, conversation_id="conv_2") == first
    assert adopt(somebody, upload_id, upload_id) == first * 2


def test_somebody_else_cannot_use_an_attachment_either(somebody, stranger):
    upload_id = put(somebody, PNG)
    adopt(somebody, upload_id)

    assert list(refused(stranger, upload_id)) == ["content[0].upload_id"]


def test_putting_something_else_after_the_look_changes_nothing(somebody):
    begun = begin(somebody, PNG)
    send("PUT", begun["url"], PNG, begun["headers"])
    adopt(somebody, begun["upload_id"])

    assert send("PUT", begun["url"], b"<script>" + bytes(len(PNG) - 8), begun["headers"])[0] == 200

    assert send("GET", service.link(somebody.uid, begun["upload_id"], now=utc_now()))[1] == PNG
    assert adopt(somebody, begun["upload_id"])[0].conversation_id == "conv_1"


def test_many_messages_that_use_an_upload_at_once_get_one_attachment(somebody):
    upload_id = put(somebody, PNG)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: adopt(somebody, upload_id, conversation_id=f"conv_{n}"), range(8)))

    owners = {attachments[0].conversation_id for attachments in found}
    assert owners == {record(somebody, upload_id)["conversation_id"]}
    assert files(somebody) == [f"attachments/{somebody.uid}/{upload_id}"]


@pytest.mark.parametrize("step", ["read_start", "copy"])
def test_an_upload_that_another_message_takes_while_it_is_looked_at_is_found_as_the_other_made_it(
    somebody, monkeypatch, step
):
    upload_id = put(somebody, PNG)
    really = getattr(storage, step)

    def overtaken(file, *rest):
        monkeypatch.setattr(storage, step, really)
        adopt(somebody, upload_id, conversation_id="conv_other")
        return really(file, *rest)

    monkeypatch.setattr(storage, step, overtaken)

    [attachment] = adopt(somebody, upload_id)

    assert attachment.conversation_id == "conv_other"


def test_an_upload_that_is_removed_while_it_is_copied_leaves_nothing(somebody, monkeypatch):
    upload_id = put(somebody, PNG)
    really = storage.copy

    def removed_first(file, target):
        really(file, target)
        service.remove(somebody.uid, upload_id, now=utc_now())
        place(target, PNG)

    monkeypatch.setattr(storage, "copy", removed_first)

    assert list(refused(somebody, upload_id)) == ["content[0].upload_id"]
    assert files(somebody) == []


def test_a_bucket_that_is_away_refuses_nothing_and_loses_nothing(somebody, monkeypatch):
    upload_id = put(somebody, PNG)
    with monkeypatch.context() as patched:
        patched.setattr(storage, "copy", _away)
        with pytest.raises(Unavailable):
            adopt(somebody, upload_id)

    assert len(adopt(somebody, upload_id)) == 1


def _away(*_, **__):
    raise Unavailable


def test_a_process_that_dies_between_copy_and_record_is_made_up_for_by_the_next_use(somebody, monkeypatch):
    upload_id = put(somebody, PNG)
    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", _away)
        with pytest.raises(Unavailable):
            adopt(somebody, upload_id)
    assert len(files(somebody)) == 2

    adopt(somebody, upload_id)

    assert files(somebody) == [f"attachments/{somebody.uid}/{upload_id}"]


def test_a_message_takes_ten_attachments_and_no_more(somebody):
    ids = [put(somebody, TEXT, "text/plain", name=f"{n}.txt") for n in range(10)]

    assert [each.name for each in adopt(somebody, *ids)] == [f"{n}.txt" for n in range(10)]
    assert list(refused(somebody, *ids, new_id("upl"))) == ["content"]


def test_an_upload_for_a_message_makes_no_avatar_of_another_kind_of_file(somebody):
    somebody.request("GET", f"{PATH}/upl_1")  # opens the account
    for content, content_type in ((GIF, "image/gif"), (PDF, "application/pdf"), (TEXT, "text/plain")):
        with pytest.raises(InvalidRequest):
            avatars.complete(somebody.uid, put(somebody, content, content_type), now=utc_now())


# Showing


def test_an_attachment_is_shown_to_its_owner_alone(somebody, stranger):
    upload_id = put(somebody, PNG, name="cat.png")
    adopt(somebody, upload_id)

    shown = somebody.request("GET", f"{PATH}/{upload_id}")

    assert shown.status_code == 200
    url = shown.json["url"]
    assert shown.json == {
        "upload_id": upload_id,
        "type": "image",
        "name": "cat.png",
        "content_type": "image/png",
        "size_bytes": len(PNG),
        "url": url,
    }
    status, content, headers = send("GET", url)
    assert (status, content, headers["Content-type"]) == (200, PNG, "image/png")
    assert "Content-Disposition" not in headers
    assert send("GET", url.partition("?")[0])[0] == 403
    assert send("PUT", url, PNG)[0] == 403
    assert stranger.request("GET", f"{PATH}/{upload_id}").status_code == 404


def test_a_file_is_saved_and_never_opened_as_a_page(somebody):
    upload_id = put(somebody, PAGE, "text/html", name='r\u00e9sum\u00e9 "final".html')
    adopt(somebody, upload_id)

    headers = send("GET", somebody.request("GET", f"{PATH}/{upload_id}").json["url"])[2]

    assert headers["Content-Disposition"] == (
        "attachment; filename=\"r_sum_ _final_.html\"; filename*=UTF-8''r%C3%A9sum%C3%A9%20%22final%22.html"
    )


def test_an_upload_that_no_message_used_is_shown_to_nobody(somebody):
    assert somebody.request("GET", f"{PATH}/{put(somebody, PNG)}").status_code == 404


def test_models_get_images_and_pdfs_as_links_and_texts_as_texts(somebody):
    ids = [
        put(somebody, PNG, name="cat.png"),
        put(somebody, PDF, "application/pdf", name="paper.pdf"),
        put(somebody, b"\xef\xbb\xbf" + TEXT, "text/csv", name="data.csv"),
    ]

    image, pdf, text = parts(somebody, adopt(somebody, *ids))

    assert (image["type"], send("GET", image["image_url"]["url"])[1]) == ("image_url", PNG)
    assert (pdf["type"], pdf["file"]["filename"]) == ("file", "paper.pdf")
    assert send("GET", pdf["file"]["file_data"])[1] == PDF
    assert text == {"type": "text", "text": f"[File: data.csv]\n{TEXT.decode()}\n[End of file: data.csv]"}


def test_a_link_is_made_once_for_half_an_hour(somebody, monkeypatch):
    attachments = adopt(somebody, put(somebody, PNG))
    first = parts(somebody, attachments)
    with monkeypatch.context() as patched:
        patched.setattr(storage, "sign_download", _away)
        assert parts(somebody, attachments) == first
        with pytest.raises(Unavailable):
            service.upstream_parts(somebody.uid, attachments, now=utc_now() + timedelta(minutes=31))


def test_an_attachment_that_is_gone_leaves_its_name(somebody):
    ids = [put(somebody, PNG, name="cat.png"), put(somebody, TEXT, "text/plain", name="a.txt"), put(somebody, PNG)]
    attachments = adopt(somebody, *ids)
    service.remove(somebody.uid, ids[0], now=utc_now())
    storage.delete(f"attachments/{somebody.uid}/{ids[1]}")

    cat, text, other = parts(somebody, attachments)

    assert cat == {"type": "text", "text": "[cat.png: no longer available]"}
    assert text == {"type": "text", "text": "[a.txt: no longer available]"}
    assert other["type"] == "image_url"


def test_nobody_is_shown_what_a_forged_part_names(somebody, stranger):
    [attachment] = adopt(somebody, put(somebody, TEXT, "text/plain", name="mine.txt"))

    assert parts(stranger, [attachment]) == [{"type": "text", "text": "[mine.txt: no longer available]"}]
    nowhere = domain.Attachment("../x", "y", "text/plain", 1, "file", None)
    assert parts(somebody, [nowhere]) == [{"type": "text", "text": "[y: no longer available]"}]
    assert parts(somebody, []) == []


def test_a_model_takes_the_parts_and_never_charges_more_than_the_bound(somebody, standin):
    ids = [put(somebody, PNG, name="cat.png"), put(somebody, PDF, "application/pdf"), put(somebody, TEXT, "text/csv")]
    attachments = adopt(somebody, *ids)
    body = {
        "model": "openai/gpt-4o-mini",
        "messages": [{"role": "user", "content": parts(somebody, attachments)}],
        "plugins": domain.PDF_PLUGINS,
        "max_tokens": 5,
    }
    headers = {"Authorization": f"Bearer sk-or-v1-{uuid.uuid4().hex}", "Content-Type": "application/json"}

    status, answer, _ = send("POST", f"{standin.url}/api/v1/chat/completions", json.dumps(body).encode(), headers)

    assert status == 200
    usage = json.loads(answer)["usage"]
    bound = service.prompt_bound(attachments[::2])
    assert bound.images == 1
    assert 8500 < usage["prompt_tokens"] < bound.text_bytes + MOST_IMAGE_TOKENS
    assert usage["cost"] == usage["cost_details"]["upstream_inference_cost"], "the engine is the free one"


# Removing


def test_a_removed_attachment_is_gone_with_its_file(somebody, stranger):
    upload_id = put(somebody, PNG)
    adopt(somebody, upload_id)
    url = service.link(somebody.uid, upload_id, now=utc_now())
    assert stranger.request("DELETE", f"{PATH}/{upload_id}").status_code == 404

    answer = somebody.request("DELETE", f"{PATH}/{upload_id}")

    assert answer.status_code == 204
    assert (send("GET", url)[0], files(somebody), record(somebody, upload_id)) == (404, [], None)
    assert somebody.request("GET", f"{PATH}/{upload_id}").status_code == 404
    assert somebody.request("DELETE", f"{PATH}/{upload_id}").status_code == 404
    assert list(refused(somebody, upload_id)) == ["content[0].upload_id"]


def test_a_repeated_removal_gets_the_first_answer(somebody):
    upload_id = put(somebody, PNG)
    key = {"Idempotency-Key": uuid.uuid4().hex}

    answers = [somebody.request("DELETE", f"{PATH}/{upload_id}", headers=key) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [204, 204]


def test_an_upload_is_removed_before_its_first_use_and_its_name_with_it(somebody):
    begun = begin(somebody, PNG, name="secret name")
    send("PUT", begun["url"], PNG, begun["headers"])

    assert somebody.request("DELETE", f"{PATH}/{begun['upload_id']}").status_code == 204

    assert files(somebody) == []
    assert "secret name" not in repr(record(somebody, begun["upload_id"]))
    assert send("PUT", begun["url"], PNG, begun["headers"])[0] == 200, "nobody can take a link back"
    assert list(refused(somebody, begun["upload_id"])) == ["content[0].upload_id"]
    assert somebody.request("DELETE", f"{PATH}/{begun['upload_id']}").status_code == 404


def test_removing_what_a_message_has_just_begun_to_use_removes_it(somebody, monkeypatch):
    upload_id = put(somebody, PNG)
    really = repository.remember_removed

    def overtaken(*arguments, **options):
        monkeypatch.setattr(repository, "remember_removed", really)
        place(f"uploads/{somebody.uid}/{upload_id}", PNG)
        adopt(somebody, upload_id)
        really(*arguments, **options)

    monkeypatch.setattr(repository, "remember_removed", overtaken)

    service.remove(somebody.uid, upload_id, now=utc_now())

    assert (files(somebody), record(somebody, upload_id)) == ([], None)


def test_a_conversation_takes_along_what_was_first_used_in_it_and_nothing_else(somebody, monkeypatch):
    monkeypatch.setattr(service, "_REMOVED_AT_ONCE", 2)
    first = [put(somebody, PNG) for _ in range(5)]
    other, waiting = put(somebody, PNG), put(somebody, PNG)
    adopt(somebody, *first)
    adopt(somebody, other, first[0], conversation_id="conv_2")

    service.remove_of(somebody.uid, "conv_1")
    service.remove_of(somebody.uid, "conv_1")

    assert files(somebody) == [f"attachments/{somebody.uid}/{other}", f"uploads/{somebody.uid}/{waiting}"]
    assert [record(somebody, upload_id) for upload_id in first] == [None] * 5
    with pytest.raises(NotFound):
        service.get_attachment(somebody.uid, first[0])
    assert service.get_attachment(somebody.uid, other).conversation_id == "conv_2"
