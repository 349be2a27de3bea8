"""The clients of everything outside this process: made on first use, never at import, one of each per process.

Gunicorn imports `main.py` and forks afterwards; a gRPC channel or a socket made before the fork hangs in the child
(grpc/grpc#36265).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from shared.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    import firebase_admin
    import redis
    from google.cloud import firestore
    from google.cloud.pubsub_v1.publisher.client import Client as PublisherClient
    from google.cloud.storage import Bucket

    from shared.firestore_channel import FirestoreChannel
    from shared.openrouter import OpenRouter
    from shared.redis_link import Link

AUTH_TIMEOUT_S = 5
"""Of one request to Firebase Auth, or for its certificates; the SDK's own is two minutes."""
REDIS_TIMEOUT_S = 1.0

_lock = threading.Lock()
_made: dict[str, Any] = {}


def _once(name: str, make: Callable[[], Any]) -> Any:
    if name not in _made:
        with _lock:
            if name not in _made:
                _made[name] = make()
    return _made[name]


def firestore_client() -> firestore.Client:
    """Google's own client: for queries and transactions. Single documents are read and written by `shared.store`."""

    def make() -> firestore.Client:
        from google.cloud import firestore

        return firestore.Client(project=settings().project_id)

    client: firestore.Client = _once("firestore", make)
    return client


def firestore_channel() -> FirestoreChannel:
    """The short way to Firestore, for `shared.store`."""

    def make() -> FirestoreChannel:
        from shared.firestore_channel import FirestoreChannel

        return FirestoreChannel(settings().firestore_emulator_host)

    channel: FirestoreChannel = _once("firestore_channel", make)
    return channel


def firestore_database() -> str:
    """The full name of the one database of the product."""
    name: str = _once("firestore_database", lambda: f"projects/{settings().project_id}/databases/(default)")
    return name


def redis_link() -> Link:
    """Redis for what a request can do without, but rather waits for a moment: logs of generations, sessions."""

    def make() -> Link:
        from shared.redis_link import Link

        return Link(settings().redis_url, timeout_s=REDIS_TIMEOUT_S)

    link: Link = _once("redis_link", make)
    return link


def redis_client() -> redis.Redis:
    """The general client, slow to import and to call: for what looks through Redis, off every request's way."""

    def make() -> redis.Redis:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        return redis.Redis.from_url(
            settings().redis_url,
            decode_responses=True,
            socket_timeout=0.5,
            socket_connect_timeout=0.5,
            retry=Retry(NoBackoff(), 1),
            max_connections=200,
        )

    client: redis.Redis = _once("redis", make)
    return client


def openrouter() -> OpenRouter:
    def make() -> OpenRouter:
        from shared.openrouter import OpenRouter

        return OpenRouter(base_url=settings().openrouter_base_url, api_key=settings().openrouter_api_key)

    client: OpenRouter = _once("openrouter", make)
    return client


def publisher() -> PublisherClient:
    def make() -> PublisherClient:
        from google.cloud.pubsub_v1.publisher.client import Client

        return Client()

    client: PublisherClient = _once("publisher", make)
    return client


def storage_bucket() -> Bucket:
    """The one bucket of the product. Closed to clients: they get signed links, see `shared.storage`."""

    def make() -> Bucket:
        from google.cloud import storage

        return storage.Client(project=settings().project_id).bucket(settings().storage_bucket)

    return _once("storage", make)


def firebase_app() -> firebase_admin.App:
    """The Admin SDK's app. In the emulator it gets anonymous credentials, for there are no others."""

    def make() -> firebase_admin.App:
        import firebase_admin
        from firebase_admin import credentials
        from google.auth.credentials import AnonymousCredentials

        class _Anonymous(credentials.Base):  # type: ignore[misc]  # the Admin SDK ships no types
            def get_credential(self) -> AnonymousCredentials:
                return AnonymousCredentials()  # type: ignore[no-untyped-call]  # google-auth leaves it untyped

        options = {"projectId": settings().project_id, "httpTimeout": AUTH_TIMEOUT_S}
        # A name of our own: the SDK of event functions makes the app without a name, with credentials of its own.
        credential = _Anonymous() if settings().in_emulator else None
        return firebase_admin.initialize_app(credential, options, name="craftpilot")

    return _once("firebase", make)
