"""Every way of storing a picture comes out as the same upright RGB."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from ray_fer.video.decode import iter_frames, read_frames, video_size
from ray_fer.video.limits import DEFAULT_LIMITS, DecodeLimits, MediaError
from ray_fer.video.pixels import square_size, to_rgb, turned
from tests.encoded_video import picture, remux, write_video

BEST = {"crf": "1"}


def first(path: Path) -> np.ndarray:
    return read_frames(path, [0])[0].image


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p10le"])
def test_chroma_and_depth(tmp_path: Path, codec: str, pixels: str) -> None:
    path = write_video(
        tmp_path / "v.mp4", codec, frames=3, pixels=pixels, options={"x265-params": "log-level=none"} | BEST
    )
    image = first(path)
    assert (image.dtype, image.shape) == (np.uint8, (80, 96, 3))
    assert difference(image, picture(0)) < 4


@pytest.mark.parametrize("size", [(97, 81), (33, 2), (1, 1), (16, 115)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_video(tmp_path / "v.mkv", "ffv1", frames=2, size=size, pixels="bgr0")
    assert video_size(path) == size
    np.testing.assert_array_equal(first(path), picture(0, *size))


def test_odd_sizes_with_shared_chroma(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", "ffv1", frames=2, size=(97, 81))
    assert difference(first(path), picture(0, 97, 81)) < 4


def test_grey_is_repeated(tmp_path: Path) -> None:
    grey = picture(0).copy()
    grey[:] = grey[:, :, :1]
    image = first(write_video(tmp_path / "v.mkv", "ffv1", frames=[grey] * 2, pixels="gray"))
    assert difference(image, grey) < 1
    assert (image == image[:, :, :1]).all()


def test_alpha_is_dropped_and_the_colours_stay(tmp_path: Path) -> None:
    see_through = np.dstack([picture(0), np.full((80, 96), 10, np.uint8)])
    image = first(write_video(tmp_path / "v.mov", "png", frames=[see_through] * 2, pixels="rgba"))
    np.testing.assert_array_equal(image, picture(0))


@pytest.mark.parametrize("matrix", [Colorspace.ITU709, Colorspace.ITU601])
@pytest.mark.parametrize("scale", [ColorRange.MPEG, ColorRange.JPEG])
@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 30, 60), (20, 160, 90)])
def test_tagged_matrix_and_range(
    tmp_path: Path, matrix: Colorspace, scale: ColorRange, colour: tuple[int, int, int]
) -> None:
    flat = np.full((64, 64, 3), colour, np.uint8)
    path = write_video(
        tmp_path / "v.mp4", frames=[flat] * 2, size=(64, 64), options=BEST, colorspace=matrix, color_range=scale
    )
    assert np.abs(first(path)[32, 32].astype(int) - colour).max() <= 4


@pytest.mark.parametrize(("degrees", "turns"), [(0, 0), (90, 1), (180, 2), (-90, 3)])
def test_rotation(tmp_path: Path, degrees: int, turns: int) -> None:
    lying = write_video(tmp_path / "lying.mp4", frames=3)
    path = remux(lying, tmp_path / "v.mp4", rotation=degrees)
    expected = np.rot90(first(lying), turns)
    for frame in iter_frames(path):
        assert frame.image.shape == expected.shape
    np.testing.assert_array_equal(first(path), expected)
    assert first(path).flags.c_contiguous
    assert video_size(path) == (expected.shape[1], expected.shape[0])


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((1, 0, 0, 1), "abcd"),
        ((-1, 0, 0, 1), "badc"),
        ((1, 0, 0, -1), "cdab"),
        ((-1, 0, 0, -1), "dcba"),
        ((0, -1, 1, 0), "bdac"),
        ((0, 1, -1, 0), "cadb"),
        ((0, 1, 1, 0), "acbd"),
        ((0, -1, -1, 0), "dbca"),
    ],
)
def test_display_matrices(matrix: tuple[int, int, int, int], expected: str) -> None:
    a, b, c, d = (value * 65536 for value in matrix)
    image = np.frombuffer(b"abcd", np.uint8).reshape(2, 2, 1)
    found = turned(image, np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32))
    assert found.tobytes().decode() == expected


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        (Fraction(2), (192, 80)),
        (Fraction(1, 2), (96, 160)),
        (Fraction(16, 15), (102, 80)),
        (Fraction(1), (96, 80)),
        (Fraction(1000), (96, 80)),
        (Fraction(0), (96, 80)),
        (None, (96, 80)),
    ],
)
def test_square_pixels(aspect: Fraction | None, size: tuple[int, int]) -> None:
    assert square_size(96, 80, aspect) == size


def test_anamorphic_video_is_stretched(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", frames=3, options=BEST, sample_aspect_ratio=Fraction(2))
    assert first(path).shape == (80, 192, 3)
    assert video_size(path) == (192, 80)
    assert difference(first(path)[:, ::2], picture(0)) < 12
    with pytest.raises(MediaError, match="192x80 exceeds 10000 pixels"):
        read_frames(path, [0], DecodeLimits(max_pixels=10_000))


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize("height", [80, 84])
def test_interlaced_frames_show_one_instant(tmp_path: Path, codec: str, height: int) -> None:
    ramp = np.broadcast_to(np.linspace(60, 200, height)[:, None, None], (height, 96, 3)).astype(np.uint8)
    comb = ramp.copy()
    comb[1::2] = 20  # what the scene looked like 1/50 s later
    options = {"x264-params": "tff=1", "flags": "+ildct+ilme", "q:v": "1", "b": "20M"} | BEST
    path = write_video(tmp_path / "v.mkv", codec, frames=[comb] * 4, size=(96, height), options=options)
    assert np.abs(first(path)[:-1].astype(int) - ramp[:-1]).max() < 12


def test_progressive_stripes_are_kept(tmp_path: Path) -> None:
    stripes = np.zeros((80, 96, 3), np.uint8)
    stripes[1::2] = 200
    assert difference(first(write_video(tmp_path / "v.mp4", frames=[stripes] * 2, options=BEST)), stripes) < 6


def test_an_unknown_matrix_counts_as_none() -> None:
    frame = av.VideoFrame.from_ndarray(picture(0), format="rgb24").reformat(format="yuv420p")
    expected = to_rgb(frame, None, "v.mp4", DEFAULT_LIMITS)
    frame.colorspace = 3  # reserved
    np.testing.assert_array_equal(to_rgb(frame, None, "v.mp4", DEFAULT_LIMITS), expected)
