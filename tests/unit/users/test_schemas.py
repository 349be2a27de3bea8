"""Bodies of the account routes: what is taken, what is refused, and by which name."""

import json

import pytest
from pydantic import ValidationError

from functions.users.schemas import AvatarCompletion, AvatarUpload, Preferences, ProfileChange


def parse(model, body):
    return model.model_validate_json(json.dumps(body), strict=True)


def refused(model, body) -> set[str]:
    """The fields that are named."""
    with pytest.raises(ValidationError) as caught:
        parse(model, body)
    return {".".join(str(step) for step in error["loc"]) for error in caught.value.errors()}


@pytest.mark.parametrize(
    "field",
    [
        "uid",
        "role",
        "status",
        "plan",
        "credits",
        "email",
        "email_verified",
        "created_at",
        "updated_at",
        "valid_since",
        "suspension",
        "avatar",
        "photo_url",
        "preferences",
        "export_job_id",
        "erasure_job_id",
        "__proto__",
        "role.value",
    ],
)
def test_a_client_can_never_set_what_only_the_server_sets(field):
    assert refused(ProfileChange, {"display_name": "Ada", field: "admin"}) == {field}


def test_what_is_absent_is_not_changed_and_null_removes():
    assert parse(ProfileChange, {}).model_dump(exclude_unset=True) == {}
    assert parse(ProfileChange, {"bio": None, "display_name": None}).model_dump(exclude_unset=True) == {
        "bio": None,
        "display_name": None,
    }


def test_a_user_name_cannot_be_removed():
    assert refused(ProfileChange, {"username": None}) == {"username"}
    assert refused(ProfileChange, {"username": ""}) == {"username"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"display_name": "x" * 81}, "display_name"),
        ({"display_name": "  "}, "display_name"),
        ({"display_name": 7}, "display_name"),
        ({"bio": "x" * 501}, "bio"),
        ({"bio": ["x"]}, "bio"),
        ({"username": "no"}, "username"),
        ({"username": "x" * 31}, "username"),
    ],
)
def test_a_profile_of_another_shape_is_refused_by_name(body, field):
    assert refused(ProfileChange, body) == {field}


def test_preferences_have_a_default_for_everything():
    assert parse(Preferences, {}).model_dump() == {
        "theme": "system",
        "language": "en",
        "time_zone": "UTC",
        "default_model": None,
        "favourite_models": [],
        "notifications": {
            "email": {"product": False, "billing": True, "security": True},
            "push": {"product": True, "billing": True, "security": True},
            "in_app": {"product": True, "billing": True, "security": True},
        },
    }


@pytest.mark.parametrize(
    ("tag", "stored"),
    [("EN", "en"), ("pt-br", "pt-BR"), ("zh-hant-tw", "zh-Hant-TW"), ("es-419", "es-419"), ("sr-LATN", "sr-Latn")],
)
def test_a_language_is_stored_in_its_usual_spelling(tag, stored):
    assert parse(Preferences, {"language": tag}).language == stored


@pytest.mark.parametrize("zone", ["UTC", "Europe/Istanbul", "America/Argentina/Buenos_Aires", "Asia/Calcutta"])
def test_time_zones_of_iana_are_known(zone):
    assert parse(Preferences, {"time_zone": zone}).time_zone == zone


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"theme": "blue"}, "theme"),
        ({"language": "english"}, "language"),
        ({"language": "e"}, "language"),
        ({"language": "en_US"}, "language"),
        ({"language": "en\n"}, "language"),
        ({"language": "\u0130\u0131"}, "language"),
        ({"language": "\u212ao"}, "language"),
        ({"time_zone": "Mars/Phobos"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"time_zone": "/etc/localtime"}, "time_zone"),
        ({"time_zone": "europe/istanbul"}, "time_zone"),
        ({"default_model": ""}, "default_model"),
        ({"default_model": "two words"}, "default_model"),
        ({"default_model": "x" * 201}, "default_model"),
        ({"favourite_models": ["a/b", "a/b"]}, "favourite_models"),
        ({"favourite_models": [f"m/{n}" for n in range(51)]}, "favourite_models"),
        ({"favourite_models": ["-bad"]}, "favourite_models.0"),
        ({"notifications": {"email": {"product": "yes"}}}, "notifications.email.product"),
        ({"notifications": {"sms": {}}}, "notifications.sms"),
        ({"notifications": {"push": {"gossip": True}}}, "notifications.push.gossip"),
        ({"credits": 5}, "credits"),
    ],
)
def test_preferences_of_another_shape_are_refused_by_name(body, field):
    assert refused(Preferences, body) == {field}


def test_stored_preferences_with_a_field_of_another_version_are_still_read():
    stored = {"theme": "dark", "sparkles": True, "notifications": {"fax": {"product": True}}}

    assert Preferences.from_stored(stored).theme == "dark"


def test_a_default_is_not_shared_between_two_users():
    parse(Preferences, {}).favourite_models.append("a/b")

    assert parse(Preferences, {}).favourite_models == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"content_type": "image/svg+xml", "size_bytes": 10}, "content_type"),
        ({"content_type": "text/html", "size_bytes": 10}, "content_type"),
        ({"content_type": "image/png", "size_bytes": 0}, "size_bytes"),
        ({"content_type": "image/png", "size_bytes": 5 * 1024 * 1024 + 1}, "size_bytes"),
        ({"content_type": "image/png", "size_bytes": 10, "name": "../x"}, "name"),
    ],
)
def test_an_upload_of_another_kind_is_refused_by_name(body, field):
    assert refused(AvatarUpload, body) == {field}


@pytest.mark.parametrize("upload_id", ["", "upl_short", "upl_" + "a" * 23, "../" + "a" * 22, "job_" + "a" * 22])
def test_only_ids_that_were_given_out_name_an_upload(upload_id):
    assert refused(AvatarCompletion, {"upload_id": upload_id}) == {"upload_id"}
