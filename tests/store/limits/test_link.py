"""The limiter's own connection: passwords, databases, and answers that are none."""

import contextlib
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.redis_link import CommandRefused, Link, LinkFailed
from shared.settings import settings
from tests.store.limits.support import PATIENT_S, patient_link


@contextlib.contextmanager
def server(*answers, tls=None):
    """Answers each thing it reads with the next of these, then closes. Gives its port and what it read."""
    listener = socket.create_server(("127.0.0.1", 0))
    read: list[bytes] = []

    def run():
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with contextlib.suppress(ssl.SSLError), plain, greeted(plain, tls) as client:
                    for answer in answers:
                        read.append(client.recv(65_536))
                        client.sendall(answer)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], read
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=10)


def greeted(plain, tls):
    return tls.wrap_socket(plain, server_side=True) if tls else plain


@contextlib.contextmanager
def link_to(port, userinfo="", database=""):
    link = Link(f"redis://{userinfo}127.0.0.1:{port}{database}", timeout_s=PATIENT_S)
    try:
        yield link
    finally:
        link.close()


@pytest.fixture
def link():
    found = patient_link()
    yield found
    found.close()


def test_every_kind_of_answer_is_read(link, key):
    assert link.call("SET", key, "a\r\nb") == b"OK"
    assert link.call("GET", key) == b"a\r\nb"
    assert link.call("GET", f"{key}-not-there") is None
    assert link.call("STRLEN", key) == 4
    assert link.call("MGET", key, f"{key}-not-there") == [b"a\r\nb", None]
    assert link.call("ECHO", "ünï") == "ünï".encode()
    assert link.call("ECHO", 17) == b"17"
    assert link.call("DEL", key) == 1


def test_an_error_leaves_the_connection_usable(link):
    with pytest.raises(CommandRefused, match="unknown command"):
        link.call("NO-SUCH-COMMAND")
    assert link.call("PING") == b"PONG"
    assert len(link._idle) == 1


def test_several_commands_go_out_together_and_are_answered_in_their_order(link, key):
    answers = link.call_all([("SET", key, "a", "PX", 60_000), ("GET", key), ("DEL", key), ("GET", key)])
    assert answers == [b"OK", b"a", 1, None]
    assert link.call_all([]) == []


def test_one_that_is_refused_stops_none_of_the_others_and_leaves_no_answer_behind(link, key):
    with pytest.raises(CommandRefused, match="NO-SUCH-COMMAND"):
        link.call_all([("SET", key, "a", "PX", 60_000), ("NO-SUCH-COMMAND",), ("GET", key)])
    assert link.call("GET", key) == b"a"
    link.call("DEL", key)


def test_connections_are_kept_and_used_again(link):
    assert link.call("CLIENT", "ID") == link.call("CLIENT", "ID")


def test_the_database_of_the_url_is_used(store, key):
    url = settings().redis_url.removesuffix("/0")
    with contextlib.closing(patient_link(f"{url}/3")) as third:
        third.call("SET", key, "x", "PX", 60_000)
        assert third.call("GET", key) == b"x"
        third.call("DEL", key)
        third.call("SET", f"{key}-3", "x", "PX", 60_000)
    assert store.get(f"{key}-3") is None


def test_a_user_and_a_password_are_said_first_and_with_their_real_characters():
    with server(b"+OK\r\n", b"+OK\r\n", b"+PONG\r\n") as (port, read), link_to(port, "me:p%40ss@", "/2") as link:
        assert link.call("PING") == b"PONG"
    assert read[0] == b"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$4\r\np@ss\r\n"
    assert read[1] == b"*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n"


def test_a_password_alone_is_that_of_the_default_user():
    with server(b"+OK\r\n", b"+PONG\r\n") as (port, read), link_to(port, ":secret@") as link:
        link.call("PING")
    assert read[0] == b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n"


def test_a_wrong_password_is_a_failure_that_does_not_name_it():
    with server(b"-WRONGPASS invalid\r\n") as (port, _), link_to(port, ":hunter2@") as link:
        with pytest.raises(LinkFailed) as caught:
            link.call("PING")
        assert "hunter2" not in str(caught.value)
        assert not link._idle


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$5\r\nab", b":1", b"*2\r\n:1\r\n", b"", b":x\r\n", b"$x\r\n"]
)
def test_what_is_no_whole_answer_is_a_failure(answer):
    with server(answer) as (port, _), link_to(port) as link:
        with pytest.raises(LinkFailed):
            link.call("PING")
        assert not link._idle


def test_nobody_reads_an_answer_that_came_too_late_for_somebody_else():
    """A connection that timed out is not used again."""
    with server(b"", b"+LATE\r\n") as (port, _):
        link = Link(f"redis://127.0.0.1:{port}", timeout_s=0.05)
        with pytest.raises(LinkFailed):
            link.call("PING")
        assert not link._idle


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A file with a key and a certificate for 127.0.0.1 that nobody but itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis of a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "redis.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + made.public_bytes(pem))
    return file


@pytest.fixture
def tls_server(certificate):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with server(b"+PONG\r\n", tls=tls) as (port, read):
        yield port, read


def test_a_secure_url_is_encrypted_and_believes_the_named_authority(tls_server, certificate):
    port, read = tls_server
    link = Link(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}", timeout_s=PATIENT_S)
    with contextlib.closing(link):
        assert link.call("PING") == b"PONG"
    assert read == [b"*1\r\n$4\r\nPING\r\n"]


def test_a_server_that_nobody_vouches_for_hears_nothing(tls_server):
    port, read = tls_server
    link = Link(f"rediss://127.0.0.1:{port}/0", timeout_s=PATIENT_S)
    with contextlib.closing(link), pytest.raises(LinkFailed, match="CERTIFICATE_VERIFY_FAILED"):
        link.call("PING")
    assert read == []


@pytest.mark.parametrize("url", ["", "http://x", "redis://", "127.0.0.1:6379", "unix:///tmp/redis.sock"])
def test_a_url_that_is_none_is_refused_in_words(url):
    with pytest.raises(ValueError, match="REDIS_URL must look like"):
        Link(url)


def test_a_host_that_is_not_there_is_a_failure():
    with link_to(1) as link, pytest.raises(LinkFailed, match="refused"):
        link.call("PING")


def test_no_more_connections_are_kept_than_make_sense(link, monkeypatch):
    monkeypatch.setattr("shared.redis_link._MAX_IDLE", 1)
    first, second = link._connect(), link._connect()
    link._give_back(first)
    link._give_back(second)
    assert len(link._idle) == 1
