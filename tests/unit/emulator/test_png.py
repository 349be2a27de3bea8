"""Pictures: real PNG files of the size asked for."""

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.openrouter import images, png
from emulator.openrouter.errors import ApiError


def _chunks(data):
    position = len(png.SIGNATURE)
    while position < len(data):
        (length,) = struct.unpack(">I", data[position : position + 4])
        name, content = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        assert checksum == zlib.crc32(name + content)
        yield name, content
        position += 12 + length


@settings(max_examples=20)
@given(st.text(max_size=10), st.integers(1, 300), st.integers(1, 300))
def test_a_picture_decodes_to_its_size(seed, width, height):
    data = png.gradient(seed, width, height)
    chunks = dict(_chunks(data))
    assert png.dimensions(data) == (width, height)
    assert len(zlib.decompress(chunks[b"IDAT"])) == height * (width + 1)
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]


def test_another_seed_is_another_picture():
    assert png.gradient("a", 8, 8) != png.gradient("b", 8, 8)
    assert png.gradient("a", 8, 8) == png.gradient("a", 8, 8)


def test_what_is_no_png_is_refused():
    with pytest.raises(ValueError, match="not a PNG"):
        png.dimensions(b"GIF89a")


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({}, (1024, 1024)),
        ({"aspect_ratio": "16:9"}, (1344, 768)),
        ({"aspect_ratio": "1:1", "image_size": "4K"}, (4096, 4096)),
        ({"image_size": "0.5K"}, (512, 512)),
    ],
)
def test_sizes_follow_ratio_and_resolution(config, size):
    assert images.chat_size(config) == size


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": ""},
        {"n": 0},
        {"n": 11},
        {"size": "2048x2048", "aspect_ratio": "16:9"},
        {"size": "9999x1"},
        {"size": "huge"},
        {"quality": "best"},
        {"output_format": "webp"},
        {"aspect_ratio": "5:7"},
    ],
)
def test_an_image_request_that_cannot_be_met_is_refused(wrong):
    with pytest.raises(ApiError) as refused:
        images.read({"prompt": "a cat", **wrong})
    assert refused.value.status == 400
