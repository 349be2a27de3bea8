"""What kind of file something is by its first bytes, whatever it was called. Pure.

The signatures: https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern and ISO 32000-1 §7.5.2. Each stands at
the very beginning, so no file is of two kinds.
"""

MAGIC_BYTES = 12
"""How much of a file `file_type` needs."""


def file_type(beginning: bytes) -> str | None:
    """PNG, JPEG, WebP, GIF or PDF as a media type; None for anything else."""
    if beginning.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if beginning.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if beginning.startswith(b"RIFF") and beginning[8:12] == b"WEBP":
        return "image/webp"
    if beginning.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if beginning.startswith(b"%PDF-"):
        return "application/pdf"
    return None
