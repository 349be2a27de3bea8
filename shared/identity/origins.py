"""Which web pages are ours: by the `Origin` that a browser says a request comes from."""

from urllib.parse import urlsplit

from shared.settings import settings

_LOCAL_HOSTS = {"localhost", "127.0.0.1"}


def is_ours(origin: str) -> bool:
    """One of the project's own sites or of the allowed ones; in the local suite any port of this machine."""
    if origin in settings().allowed_origins:
        return True
    return settings().in_emulator and _host_of(origin) in _LOCAL_HOSTS


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:  # not a URL at all, so nobody's origin
        return None
