from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ray_fer.video.sampling import Sampling, uniform_indices

PADDINGS = ("repeat_last", "repeat_first", "loop", "mirror", "stretch")
SEGMENTS = st.tuples(st.integers(1, 12), st.integers(1, 4))
SEEDS = st.one_of(st.none(), st.integers(0, 5))


def generator(seed: int | None) -> np.random.Generator | None:
    return None if seed is None else np.random.default_rng(seed)


@given(st.integers(1, 5000), st.integers(1, 64))
def test_indices_are_in_range_ordered_and_even(available: int, wanted: int) -> None:
    indices = uniform_indices(available, wanted)
    assert len(indices) == wanted
    assert indices[0] >= 0
    assert indices[-1] < available
    steps = np.diff(indices)
    assert (steps >= 0).all()
    if available >= wanted > 1:
        assert steps.max() - steps.min() <= 1
        # Symmetric: as far from the end as from the start, up to rounding.
        assert abs(indices[0] - (available - 1 - indices[-1])) <= 1


def test_short_clips_repeat_their_last_frame() -> None:
    assert uniform_indices(3, 6).tolist() == [0, 1, 2, 2, 2, 2]


def test_middle_of_equal_parts() -> None:
    assert uniform_indices(80, 16).tolist() == list(range(2, 80, 5))


@pytest.mark.parametrize(("available", "wanted"), [(0, 16), (5, 0)])
def test_nothing_to_sample(available: int, wanted: int) -> None:
    with pytest.raises(ValueError, match="cannot sample"):
        uniform_indices(available, wanted)


@given(st.integers(1, 2000), st.integers(1, 64), SEEDS)
def test_uniform_is_uniform_indices(available: int, frames: int, seed: int | None) -> None:
    indices = Sampling(frames=frames).indices(available, generator(seed))
    assert indices.tolist() == uniform_indices(available, frames).tolist()


@given(st.integers(1, 500), SEGMENTS, SEEDS)
def test_segments_hold_their_frames(available: int, shape: tuple[int, int], seed: int | None) -> None:
    segments, each = shape
    sampling = Sampling(frames=segments * each, strategy="segment", per_segment=each)
    indices = sampling.indices(available, generator(seed))
    if available >= segments * each:
        for number, part in enumerate(indices.reshape(segments, each)):
            assert np.diff(part).tolist() == [1] * (each - 1)
            assert number * available // segments <= part[0]
            assert part[-1] < (number + 1) * available // segments


def test_the_segments_of_former_dfer() -> None:
    sampling = Sampling(frames=16, strategy="segment", per_segment=2)
    assert sampling.indices(80).reshape(8, 2).tolist() == [[10 * k + 4, 10 * k + 5] for k in range(8)]
    assert sampling.indices(16).tolist() == list(range(16))
    draws = {tuple(sampling.indices(80, np.random.default_rng(seed))[:2].tolist()) for seed in range(200)}
    assert draws == {(start, start + 1) for start in range(9)}


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 5), SEEDS)
def test_consecutive_frames_keep_their_stride(available: int, frames: int, stride: int, seed: int | None) -> None:
    indices = Sampling(frames=frames, strategy="consecutive", stride=stride).indices(available, generator(seed))
    free = available - ((frames - 1) * stride + 1)
    if free >= 0:
        assert (np.diff(indices) == stride).all()
        if seed is None:
            assert indices[0] == free // 2
    else:
        taken = (available - 1) // stride + 1
        assert indices[:taken].tolist() == list(range(0, available, stride))
        assert (indices[taken:] == indices[taken - 1]).all()


@given(st.data())
def test_every_sampling_gives_its_frames(data: st.DataObject) -> None:
    available, frames = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 40))
    strategy = data.draw(st.sampled_from(["uniform", "segment", "consecutive"]))
    padding = data.draw(st.sampled_from(PADDINGS))
    sampling = Sampling(frames=frames, strategy=strategy, padding=padding)
    indices = sampling.indices(available)
    assert indices.dtype == np.int64
    assert indices.shape == (frames,)
    assert 0 <= indices.min() <= indices.max() < available
    assert indices.tolist() == sampling.indices(available).tolist()
    if padding in ("repeat_last", "stretch") or available >= frames:
        assert (np.diff(indices) >= 0).all()
    if padding == "mirror":
        assert (np.abs(np.diff(indices)) <= 1).all() or available >= frames
    if available < frames and strategy != "consecutive":
        assert set(indices.tolist()) == set(range(available))


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("repeat_last", [0, 1, 2, 2, 2, 2, 2, 2]),
        ("repeat_first", [0, 1, 2, 0, 0, 0, 0, 0]),
        ("loop", [0, 1, 2, 0, 1, 2, 0, 1]),
        ("mirror", [0, 1, 2, 1, 0, 1, 2, 1]),
        ("stretch", [0, 0, 0, 1, 1, 1, 2, 2]),
    ],
)
@pytest.mark.parametrize("strategy", ["uniform", "segment", "consecutive"])
def test_paddings(strategy: str, padding: str, expected: list[int]) -> None:
    sampling = Sampling(frames=8, strategy=strategy, padding=padding)
    assert sampling.indices(3).tolist() == expected
    assert sampling.indices(8).tolist() == list(range(8))
    assert sampling.indices(1).tolist() == [0] * 8


def test_short_clips_can_be_refused() -> None:
    sampling = Sampling(frames=8, padding="error")
    assert sampling.indices(8).tolist() == list(range(8))
    with pytest.raises(ValueError, match="7 frames to take where 8 are needed"):
        sampling.indices(7)
    with pytest.raises(ValueError, match="cannot sample 8 frames from 0"):
        sampling.indices(0)


def test_a_sampling_is_json_and_cannot_change() -> None:
    sampling = Sampling(frames=16, strategy="segment", per_segment=2, padding="stretch")
    assert Sampling.model_validate_json(sampling.model_dump_json()) == sampling
    assert len({sampling, Sampling(**sampling.model_dump())}) == 1
    with pytest.raises(ValidationError, match="frozen"):
        sampling.frames = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"frames": 0}, "greater than or equal to 1"),
        ({"frames": 16, "strategy": "segment", "per_segment": 3}, "cannot be cut into segments of 3"),
        ({"per_segment": 2}, "belongs to the strategy segment"),
        ({"stride": 2}, "belongs to the strategy consecutive"),
        ({"padding": "zeros"}, "repeat_last"),
        ({"number": 4}, "Extra inputs"),
    ],
)
def test_samplings_that_mean_nothing(wrong: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Sampling.model_validate(wrong)
