"""Real RSA keys with their certificates, and tokens signed with them: what Google has, in miniature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

KID = "key-of-today"


@cache
def private_key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def certificate(name: str) -> str:
    """As https://www.googleapis.com/robot/v1/metadata/x509/… has them."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private_key(name).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(private_key(name), hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


def jwks() -> dict[str, Any]:
    """As https://firebaseappcheck.googleapis.com/v1/jwks has them."""
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private_key(KID).public_key()))
    return {"keys": [{**public, "kid": KID, "use": "sig", "alg": "RS256"}]}


def signed(claims: Any, *, key: str = KID, **header: Any) -> str:
    """A token of RS256. A field of the header that is None is left out."""
    whole = {"alg": "RS256", "typ": "JWT", "kid": KID, **header}
    fields = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(claims, private_key(key), algorithm="RS256", headers=fields)


def signed_with_public_key(claims: dict[str, Any], secret: str) -> str:
    """The classic forgery: what everybody knows, used as the secret of HS256."""
    text = ".".join(_segment(part) for part in ({"alg": "HS256", "typ": "JWT", "kid": KID}, claims))
    signature = hmac.digest(secret.encode(), text.encode(), hashlib.sha256)
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def unsigned(claims: dict[str, Any], **header: Any) -> str:
    return ".".join(_segment(part) for part in ({"alg": "none", "typ": "JWT", **header}, claims)) + "."


def public_key_pem() -> str:
    public = private_key(KID).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
