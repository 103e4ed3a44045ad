from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_fer.video.sampling import uniform_indices


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
