"""Files in the product's bucket, and the signed links by which clients put and get them.

The bucket is closed: a link names one object, one method and a moment after which it is worth nothing (V4 signatures,
https://cloud.google.com/storage/docs/authentication/signatures). Functions sign with the key of their service account
without having it, through IAM's signBlob; the local suite signs with a key that everybody knows.

A project that deploys this gives the functions' service account `roles/storage.objectAdmin` on the bucket and
`roles/iam.serviceAccountTokenCreator` on itself. The bucket has uniform access, no public access, no soft deletion
(what is erased must be gone), CORS for the web app's origins (`GET`, `PUT`; the headers of `sign_upload`), and the
life-cycle rule `{"action": {"type": "Delete"}, "condition": {"age": 1, "matchesPrefix": ["uploads/"]}}`.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from shared.clients import storage_bucket
from shared.errors import Unavailable
from shared.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime, timedelta

TIMEOUT_S = 5.0
"""Of one request."""
PATIENCE_S = 8.0
"""Of an operation with its repetitions; the library's own is two minutes, longer than a function may take."""
UPLOAD_TIMEOUT_S = 60.0
"""Of a file of ours on its way up, per request."""
SIZE_LIMIT_HEADER = "x-goog-content-length-range"
"""Signed along, so that Cloud Storage itself refuses a body of another size."""
_CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
_PLAIN = re.compile(r"[A-Za-z0-9 ._()+-]")
"""What a file name may hold inside a quoted header field without another thought."""


@dataclass(frozen=True)
class StoredFile:
    """An object as it is at one moment: `generation` names exactly this content, whatever is put there later."""

    name: str
    size_bytes: int
    content_type: str
    generation: int
    created_at: datetime


@dataclass(frozen=True)
class SignedUpload:
    """Permission to put one file with `PUT url`, these headers and a body of at most the size that was agreed."""

    url: str
    headers: Mapping[str, str]


def sign_upload(name: str, *, content_type: str, size_bytes: int, lifetime: timedelta) -> SignedUpload:
    """Permission to put a file of exactly this type and size. Raises Unavailable when nothing can be signed."""
    headers = {"Content-Type": content_type, SIZE_LIMIT_HEADER: f"{size_bytes},{size_bytes}"}
    return SignedUpload(_sign(name, "PUT", lifetime, headers=dict(headers)), headers)


def sign_download(name: str, *, lifetime: timedelta, save_as: str | None = None) -> str:
    """A link to the file; with `save_as` a browser saves it under that name. Raises Unavailable."""
    return _sign(name, "GET", lifetime, response_disposition=_attachment(save_as) if save_as else None)


def find(name: str) -> StoredFile | None:
    with translated_errors():
        blob = storage_bucket().get_blob(name, **_patiently())
    return None if blob is None else _stored(blob)


def read_start(file: StoredFile, length: int) -> bytes:
    """The first bytes of exactly this content. Raises Unavailable also when it was replaced or deleted meanwhile."""
    blob = storage_bucket().blob(file.name, generation=file.generation)
    with translated_errors(), _still_there():
        content: bytes = blob.download_as_bytes(start=0, end=length - 1, **_patiently())
    return content


def read(name: str) -> bytes | None:
    """All of a small file; None when it is not there."""
    from google.api_core.exceptions import NotFound

    try:
        with translated_errors():
            content: bytes = storage_bucket().blob(name).download_as_bytes(**_patiently())
    except NotFound:
        return None
    return content


def copy(file: StoredFile, target: str) -> None:
    """Copy exactly this content to another name, type and all. Raises Unavailable as `read_start` does."""
    bucket = storage_bucket()
    with translated_errors(), _still_there():
        bucket.copy_blob(bucket.blob(file.name), bucket, target, source_generation=file.generation, **_patiently())


def upload(name: str, content: BinaryIO, *, content_type: str) -> None:
    """Put a file of ours, from where `content` stands; one of the same name is replaced."""
    with translated_errors():
        storage_bucket().blob(name).upload_from_file(content, content_type=content_type, timeout=UPLOAD_TIMEOUT_S)


def delete(name: str) -> None:
    """Delete the file; one that is not there is fine."""
    from google.api_core.exceptions import NotFound

    try:
        with translated_errors():
            storage_bucket().blob(name).delete(**_patiently())
    except NotFound:
        return


def list_files(prefix: str, *, limit: int) -> list[StoredFile]:
    """At most `limit` files whose names begin so, in the order of their names."""
    with translated_errors():
        blobs = storage_bucket().list_blobs(prefix=prefix, max_results=limit, **_patiently())
        return [_stored(blob) for blob in islice(blobs, limit)]


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn the failures of Cloud Storage, of signing and of the network between into Unavailable."""
    import requests
    from google.api_core import exceptions as google_errors
    from google.auth import exceptions as auth_errors

    try:
        yield
    except (
        google_errors.ServerError,
        google_errors.TooManyRequests,
        google_errors.RetryError,
        auth_errors.TransportError,
        auth_errors.RefreshError,
        requests.ConnectionError,
        requests.Timeout,
    ) as error:
        raise Unavailable("Files cannot be reached right now; try again.", retry_after_s=2) from error


@contextmanager
def _still_there() -> Iterator[None]:
    """A file that was found a moment ago and is gone: whoever looks again finds out what there is now."""
    from google.api_core.exceptions import NotFound

    try:
        yield
    except NotFound as error:
        raise Unavailable("This file is being changed by another request; try again.", retry_after_s=1) from error


def _patiently() -> dict[str, Any]:
    from google.cloud.storage.retry import DEFAULT_RETRY

    return {"timeout": TIMEOUT_S, "retry": DEFAULT_RETRY.with_timeout(PATIENCE_S)}


def _stored(blob: Any) -> StoredFile:
    return StoredFile(
        name=blob.name,
        size_bytes=int(blob.size),
        content_type=blob.content_type or "application/octet-stream",
        generation=int(blob.generation),
        created_at=blob.time_created,
    )


def _attachment(file_name: str) -> str:
    """The header that has a browser save a file. Names that are not plain come in the form of RFC 8187 as well."""
    plain = "".join(character if _PLAIN.fullmatch(character) else "_" for character in file_name)
    header = f'attachment; filename="{plain}"'
    return header if plain == file_name else f"{header}; filename*=UTF-8''{quote(file_name, safe='')}"


def _sign(name: str, method: str, lifetime: timedelta, **more: Any) -> str:
    with translated_errors():
        signer = _local_signer() if settings().in_emulator else _deployed_signer()
        url: str = (
            storage_bucket()
            .blob(name)
            .generate_signed_url(version="v4", method=method, expiration=lifetime, **more, **signer)
        )
    return url


def _local_signer() -> dict[str, Any]:
    from shared.local_signer import LocalSigner

    return {"credentials": LocalSigner()}  # type: ignore[no-untyped-call]  # google-auth leaves it untyped


def _deployed_signer() -> dict[str, Any]:
    """The service account this process runs as: by its key where there is one, else by asking IAM to sign."""
    credentials = _default_credentials()
    from google.auth import credentials as google_credentials

    if isinstance(credentials, google_credentials.Signing):
        return {"credentials": credentials}
    if not credentials.valid:
        from google.auth.transport.requests import Request

        credentials.refresh(Request())
    return {"service_account_email": credentials.service_account_email, "access_token": credentials.token}


@cache
def _default_credentials() -> Any:
    import google.auth

    return google.auth.default(scopes=[_CLOUD_PLATFORM])[0]
