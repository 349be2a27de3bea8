"""What the pipeline adds to a request: authentication, authorisation and limits, against a function that does nothing.

    python3 -m emulator firestore -- venv/bin/python -m tests.load.gateway

One client asks both functions in turns over kept connections, so that whatever else the machine does meets both alike.
The caches are warm: the first requests are not counted.
"""

import base64
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from shared.clients import firestore_client
from tests.processes import FunctionProcess

ROUNDS = 3000
WARM_UP = 200
BUDGET_MS = 1.5
PROJECT = os.environ.get("GCLOUD_PROJECT", "demo-craftpilot")
KEY_ID = "benchmark"
USERS = 60
"""Enough that none of them meets a limit: what is measured is being let through."""


def main() -> None:
    # The first read of a cold emulator takes seconds.
    firestore_client().document("benchmarks/gateway").set({"at": datetime.now(UTC)}, timeout=60)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with tempfile.TemporaryDirectory() as folder:
        certificates = Path(folder, "certificates.json")
        certificates.write_text(json.dumps({KEY_ID: _certificate(key)}))
        settings = {"LOCAL_CERTIFICATES": str(certificates), "FIREBASE_AUTH_EMULATOR_HOST": ""}
        source = "tests/load/guarded.py"
        empty = FunctionProcess("empty", Path(folder, "empty.log"), source=source, **settings)
        guarded = FunctionProcess("guarded", Path(folder, "guarded.log"), source=source, **settings)
        try:
            _compare(empty, guarded, [_headers(key, number) for number in range(USERS)])
        finally:
            empty.kill()
            guarded.kill()


def _compare(empty: FunctionProcess, guarded: FunctionProcess, users: list[dict[str, str]]) -> None:
    connections = [empty.connect(), guarded.connect()]
    times_ms: tuple[list[float], list[float]] = ([], [])
    for number in range(WARM_UP + ROUNDS):
        for connection, times in zip(connections, times_ms, strict=True):
            times.append(_ask(connection, users[number % USERS]))
    nothing, everything = (times[WARM_UP:] for times in times_ms)
    added = statistics.median(everything) - statistics.median(nothing)
    print(f"gateway: {ROUNDS} requests each, one client, warm caches")
    for name, times in (("empty function", nothing), ("authentication + authorisation + limits", everything)):
        deciles = statistics.quantiles(times, n=20)
        print(f"  {name:42} p50 {statistics.median(times):6.2f} ms   p95 {deciles[18]:6.2f} ms")
    print(f"  {'added at the median':42}     {added:6.2f} ms   budget {BUDGET_MS} ms   {_verdict(added)}")


def _verdict(added_ms: float) -> str:
    return "held" if added_ms <= BUDGET_MS else "MISSED"


def _ask(connection: http.client.HTTPConnection, headers: dict[str, str]) -> float:
    started = time.perf_counter()
    connection.request("GET", "/guarded", headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    took_ms = (time.perf_counter() - started) * 1000
    if answer.status != 200:
        sys.exit(f"the benchmark was answered {answer.status}: {body.decode()}")
    return took_ms


def _certificate(key: rsa.RSAPrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _headers(key: rsa.RSAPrivateKey, number: int) -> dict[str, str]:
    token = _signed_token(key, f"benchmark-user-{number}")
    return {"Authorization": f"Bearer {token}", "X-Forwarded-For": f"203.0.113.{number}"}


def _signed_token(key: rsa.RSAPrivateKey, uid: str) -> str:
    now = int(time.time())
    claims = {
        "iss": f"https://securetoken.google.com/{PROJECT}",
        "aud": PROJECT,
        "sub": uid,
        "user_id": uid,
        "auth_time": now,
        "iat": now,
        "exp": now + 3600,
    }
    parts = [{"alg": "RS256", "typ": "JWT", "kid": KEY_ID}, claims]
    signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return f"{signed.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


if __name__ == "__main__":
    main()
