"""The 80-d clip statistics against closed forms and pandas."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from ray_fer.action_units.statistics import au_statistics


def test_statistics_by_hand() -> None:
    au = np.zeros((4, 20), np.float32)
    au[:, 3] = [0.0, 0.2, 0.4, 0.05]
    summary = au_statistics(au).reshape(4, 20)
    np.testing.assert_allclose(summary[:, 3], [0.1625, np.std([0, 0.2, 0.4, 0.05]), 0.4, 0.5], rtol=1e-6)
    assert not summary[:, np.arange(20) != 3].any()


def test_statistics_agree_with_pandas() -> None:
    au = np.random.default_rng(0).random((16, 20)).astype(np.float32)
    au[np.random.default_rng(1).random(au.shape) < 0.2] = np.nan
    frame = pd.DataFrame(au)
    frequency = (frame >= 0.3).sum() / frame.notna().sum()
    expected = np.concatenate([frame.mean(), frame.std(ddof=0), frame.max(), frequency])
    np.testing.assert_allclose(au_statistics(au, active=0.3), expected, rtol=1e-5)


def test_frames_without_a_face_do_not_count() -> None:
    au = np.ones((3, 20), np.float32)
    au[1] = 0
    np.testing.assert_array_equal(au_statistics(au, np.array([True, False, True]))[:20], np.ones(20))
    assert np.isnan(au_statistics(au, np.zeros(3, bool))).all()


def test_an_au_that_was_not_measured_has_no_statistics_and_others_keep_theirs() -> None:
    au = np.full((3, 20), 0.5, np.float32)
    au[:, 8] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = au_statistics(au).reshape(4, 20)
    assert np.isnan(summary[:, 8]).all()
    np.testing.assert_allclose(np.delete(summary, 8, axis=1).T, [[0.5, 0, 0.5, 1]] * 19)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected AU intensities"):
        au_statistics(np.zeros(20))
    with pytest.raises(ValueError, match="3 frames of Action Units but 2"):
        au_statistics(np.zeros((3, 20)), np.ones(2, bool))
