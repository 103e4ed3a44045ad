"""AU statistics and priors against closed forms, pandas and scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ray_fer.action_units.blendshapes import BLENDSHAPE_NAMES, aus_from_blendshapes
from ray_fer.action_units.profiles import Priors, culture_priors, read_priors
from ray_fer.action_units.statistics import au_statistics
from ray_fer.labels import AU_NAMES


def test_statistics_by_hand() -> None:
    au = np.zeros((4, 20), np.float32)
    au[:, 3] = [0.0, 0.2, 0.4, 0.05]
    summary = au_statistics(au).reshape(4, 20)
    np.testing.assert_allclose(summary[:, 3], [0.1625, np.std([0, 0.2, 0.4, 0.05]), 0.4, 0.5], rtol=1e-6)
    assert not summary[:, np.arange(20) != 3].any()


def test_statistics_agree_with_pandas() -> None:
    au = np.random.default_rng(0).random((16, 20)).astype(np.float32)
    frame = pd.DataFrame(au)
    expected = np.concatenate([frame.mean(), frame.std(ddof=0), frame.max(), (frame >= 0.1).mean()])
    np.testing.assert_allclose(au_statistics(au), expected, rtol=1e-5)


def test_frames_without_a_face_do_not_count() -> None:
    au = np.ones((3, 20), np.float32)
    au[1] = 0
    np.testing.assert_array_equal(au_statistics(au, np.array([True, False, True]))[:20], np.ones(20))
    assert np.isnan(au_statistics(au, np.zeros(3, bool))).all()


def test_a_smile_is_au12() -> None:
    shapes = np.zeros(52, np.float32)
    shapes[BLENDSHAPE_NAMES.index("mouthSmileLeft")] = 1.0
    shapes[BLENDSHAPE_NAMES.index("mouthSmileRight")] = 0.5
    au = aus_from_blendshapes(shapes)
    assert au[AU_NAMES.index("AU12")] == pytest.approx(0.75)
    assert au.sum() == pytest.approx(0.75)
    with pytest.raises(ValueError, match="expected 52"):
        aus_from_blendshapes(np.zeros(51))


@pytest.fixture
def population() -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(1)
    values = rng.random((60, 80)).astype(np.float32)
    owners = [["A", "B", "C"][i % 3] for i in range(60)]
    values[np.array(owners) == "B", 9] += 0.5  # AU12's mean is higher in B
    return values, owners


def test_profiles_and_scaling(population: tuple[np.ndarray, list[str]]) -> None:
    values, owners = population
    priors = culture_priors(values, owners, ["A", "B", "C"], "test")
    means = pd.DataFrame(values[:, :20]).groupby(np.array(owners)).mean()
    np.testing.assert_allclose([priors.profiles[c] for c in "ABC"], means.to_numpy(), atol=1e-5)
    scaled = np.array([priors.normalised[c] for c in "ABC"])
    np.testing.assert_allclose(scaled.min(0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.max(0), 1, atol=1e-6)
    np.testing.assert_allclose(priors.global_profile, scaled.mean(0), atol=1e-5)
    assert scaled[1, 9] == 1


def test_anova_agrees_with_scipy_and_finds_the_planted_difference(population: tuple[np.ndarray, list[str]]) -> None:
    values, owners = population
    priors = culture_priors(values, owners, ["A", "B", "C"], "test")
    column = values[:, 9].astype(np.float64)
    groups = [column[np.array(owners) == c] for c in "ABC"]
    row = next(r for r in priors.anova if r.statistic == "mean_AU12")
    reference = stats.f_oneway(*groups)
    assert row.f == pytest.approx(reference.statistic)
    # Eta squared from F and the degrees of freedom (closed form).
    assert row.eta_squared == pytest.approx(2 * row.f / (2 * row.f + 57))
    assert max(priors.anova, key=lambda r: r.eta_squared) is row


def test_constant_statistics_and_missing_faces_do_no_harm(population: tuple[np.ndarray, list[str]]) -> None:
    values, owners = population
    values[:, 8] = 0.0
    values[0] = np.nan
    priors = culture_priors(values, owners, ["A", "B", "C"], "test")
    assert priors.clips == {"A": 19, "B": 20, "C": 20}
    constant = next(r for r in priors.anova if r.statistic == "mean_AU11")
    assert (constant.f, constant.p, constant.eta_squared) == (None, None, 0.0)
    assert [priors.normalised[c][8] for c in "ABC"] == [0, 0, 0]
    with pytest.raises(ValueError, match="no clip with a face for culture D"):
        culture_priors(values, owners, ["A", "D"], "test")


def test_priors_on_disk(population: tuple[np.ndarray, list[str]], tmp_path: Path) -> None:
    values, owners = population
    priors = culture_priors(values, owners, ["A", "B", "C"], "test")
    assert read_priors(priors.write(tmp_path / "sub" / "priors.json")) == priors
    (tmp_path / "bad.json").write_text('{"extractor": "x"}')
    with pytest.raises(ValueError, match="does not hold priors"):
        read_priors(tmp_path / "bad.json")
    with pytest.raises(FileNotFoundError, match="ray-fer priors"):
        read_priors(tmp_path / "absent.json")
    assert Priors.model_validate(priors.model_dump()) == priors
