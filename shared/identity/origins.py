"""Which web pages are ours: by the `Origin` that a browser says a request comes from."""

from urllib.parse import urlsplit

from shared.settings import settings

_LOCAL_HOSTS = {"localhost", "127.0.0.1"}


def is_ours(origin: str) -> bool:
    """One of the project's own sites or of the allowed ones; in the local suite any port of this machine."""
    if origin in settings().allowed_origins:
        return True
    return settings().in_emulator and _is_local(origin)


def _is_local(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        # Reading the port raises for `http://127.0.0.1:5000.evil.example`, which is no address of this machine.
        host, port = parts.hostname, parts.port
    except ValueError:  # not a URL at all, so nobody's origin
        return False
    return host in _LOCAL_HOSTS and port != 0
