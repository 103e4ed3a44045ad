"""Single images: formats, orientation, and what is refused before a pixel is decoded."""

from __future__ import annotations

import contextlib
import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ray_fer.video.images import decode_image, encode_jpeg, image_size
from ray_fer.video.limits import DecodeLimits, MediaError
from tests.encoded_video import picture


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_jpeg_round_trip_is_close() -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    image = np.stack([np.broadcast_to(ramp, (48, 64)), np.broadcast_to(ramp[::-1], (48, 64)), np.full((48, 64), 90)], 2)
    back = decode_image(encode_jpeg(image.astype(np.uint8)))
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image.astype(int)).mean() < 3


def test_png_is_read_exactly() -> None:
    image = np.random.default_rng(3).integers(0, 255, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(saved(Image.fromarray(image), "PNG")), image)


def test_grey_palette_alpha_and_16_bit() -> None:
    image = picture(0)
    grey = image[:, :, 0]
    np.testing.assert_array_equal(decode_image(saved(Image.fromarray(grey), "PNG")), np.dstack([grey] * 3))
    see_through = np.dstack([image, np.full(image.shape[:2], 10, np.uint8)])
    np.testing.assert_array_equal(decode_image(saved(Image.fromarray(see_through), "PNG")), image)
    deep = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(decode_image(deep), image)
    assert decode_image(saved(Image.fromarray(image).convert("P"), "PNG")).shape == image.shape
    assert decode_image(saved(Image.fromarray(image).convert("CMYK"), "JPEG")).shape == image.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(picture(3))
    data = saved(stored, "JPEG", quality=98, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    found = decode_image(data)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 2
    assert image_size(data) == (96, 80)  # as stored


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"exif": b"Exif\0\0" + b"\xff" * 50}, {"comment": b"x" * 99}]
)
def test_jpeg_headers(options: dict[str, object]) -> None:
    assert image_size(saved(Image.fromarray(picture(0)), "JPEG", **options)) == (96, 80)


def test_what_phones_append_does_not_matter(jpeg: bytes) -> None:
    assert decode_image(jpeg + b"SEFT" * 100).shape == (48, 64, 3)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    "appended", [b"\xff\xda\x00\x04" * 200, b"\xff\xd9" + b"\xff" * 9, b"\xff\xd8\xff\xe0\x00\x10JFIF"]
)
def test_what_is_appended_does_not_count(appended: bytes, progressive: bool) -> None:
    """A motion photo is a JPEG followed by an MP4, whose bytes look like any marker."""
    data = saved(Image.fromarray(picture(0)), "JPEG", progressive=progressive)
    np.testing.assert_array_equal(decode_image(data + appended), decode_image(data))


def test_a_jpeg_with_restart_markers() -> None:
    data = saved(Image.fromarray(picture(0)), "JPEG", restart_marker_blocks=1)
    assert b"\xff\xd3" in data
    assert decode_image(data).shape == (80, 96, 3)
    with pytest.raises(MediaError, match="truncated"):
        decode_image(data[:-2])


def test_a_truncated_jpeg_is_refused(jpeg: bytes) -> None:
    thumbnail = saved(Image.fromarray(picture(0)), "JPEG", exif=b"Exif\0\0" + jpeg)
    for data in (jpeg, thumbnail):
        with pytest.raises(MediaError, match="truncated"):
            decode_image(data[:-20])


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\xff\xd8\xff\xe0" + b"\0" * 100, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(MediaError, match="not a JPEG or PNG"):
        decode_image(data)


def test_limits_hold(jpeg: bytes) -> None:
    with pytest.raises(MediaError, match="64x48 exceeds 100 pixels"):
        decode_image(jpeg, limits=DecodeLimits(max_pixels=100))
    with pytest.raises(MediaError, match="exceed the image limit"):
        decode_image(jpeg, limits=DecodeLimits(max_image_bytes=100))


@settings(max_examples=60, deadline=2000)
@given(st.sampled_from(["PNG", "JPEG"]), st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=8))
def test_damaged_images_are_pictures_or_one_error(kind: str, flips: list[tuple[float, int]]) -> None:
    data = bytearray(saved(Image.fromarray(picture(0)), kind))
    for place, mask in flips:
        data[int(place * (len(data) - 1))] ^= mask
    with contextlib.suppress(MediaError):
        assert decode_image(bytes(data)).dtype == np.uint8
