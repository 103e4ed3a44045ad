"""Profiles and ANOVA against pandas, statsmodels and closed forms; priors on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests

import ray_fer
from ray_fer.action_units.anova import AnovaRow, anova_rows, subject_means
from ray_fer.action_units.profiles import Priors, culture_priors, read_priors
from ray_fer.labels import AU_NAMES

GROUPS = ["A", "B", "C"]


@pytest.fixture
def population() -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(1)
    values = rng.random((60, 80)).astype(np.float32)
    owners = [GROUPS[i % 3] for i in range(60)]
    values[np.array(owners) == "B", 9] += 0.5  # AU12's mean is higher in B
    return values, owners


def row_of(priors: Priors, statistic: str) -> AnovaRow:
    return next(row for row in priors.anova if row.statistic == statistic)


def test_profiles_and_scaling(population: tuple[np.ndarray, list[str]]) -> None:
    values, owners = population
    priors = culture_priors(values, owners, GROUPS, "test")
    means = pd.DataFrame(values[:, :20]).groupby(np.array(owners)).mean()
    np.testing.assert_allclose([priors.profiles[c] for c in GROUPS], means.to_numpy(), atol=1e-5)
    scaled = np.array([priors.normalised[c] for c in GROUPS])
    np.testing.assert_allclose(scaled.min(0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.max(0), 1, atol=1e-6)
    np.testing.assert_allclose(priors.global_profile, scaled.mean(0), atol=1e-5)
    assert scaled[1, 9] == 1


def test_numeric_dust_is_no_difference_between_cultures(population: tuple[np.ndarray, list[str]]) -> None:
    values, owners = population
    dust, slight = AU_NAMES.index("AU06"), AU_NAMES.index("AU12")
    ranks = np.array([GROUPS.index(owner) for owner in owners])
    values[:, dust] = ranks * 4e-4
    values[:, slight] = 0.2 + ranks * 6e-4
    priors = culture_priors(values, owners, GROUPS, "test")
    assert [priors.normalised[c][dust] for c in GROUPS] == [0, 0, 0]
    assert priors.global_profile[dust] == 0
    assert [priors.profiles[c][dust] for c in GROUPS] == pytest.approx([0, 4e-4, 8e-4])
    assert [priors.normalised[c][slight] for c in GROUPS] == pytest.approx([0, 0.5, 1], abs=1e-3)


def test_anova_agrees_with_an_independent_implementation(population: tuple[np.ndarray, list[str]]) -> None:
    values, owners = population
    owners = ["A"] * 10 + owners[10:]  # groups of unequal size
    priors = culture_priors(values, owners, GROUPS, "test")
    for column in (9, 33, 79):
        data = pd.DataFrame({"y": values[:, column].astype(float), "group": owners})
        table = sm.stats.anova_lm(ols("y ~ C(group)", data).fit())
        row = priors.anova[column]
        assert row.f == pytest.approx(table.loc["C(group)", "F"])
        assert row.p == pytest.approx(table.loc["C(group)", "PR(>F)"])
        between, within = table["sum_sq"]
        assert row.eta_squared == pytest.approx(between / (between + within))
        assert row.eta_squared == pytest.approx(2 * row.f / (2 * row.f + 57))  # from F and its degrees of freedom
    assert priors.ranked()[0].statistic == "mean_AU12"
    assert row_of(priors, "mean_AU12").significant()


@pytest.mark.parametrize("correction", ["holm", "bonferroni", "fdr_bh"])
def test_corrections_agree_with_statsmodels(population: tuple[np.ndarray, list[str]], correction: str) -> None:
    values, owners = population
    raw = np.array([row.p for row in culture_priors(values, owners, GROUPS, "t", correction="none").anova])
    np.testing.assert_array_equal(
        raw, [r.p_corrected for r in culture_priors(values, owners, GROUPS, "t", correction="none").anova]
    )
    found = culture_priors(values, owners, GROUPS, "t", correction=correction)
    np.testing.assert_allclose([row.p_corrected for row in found.anova], multipletests(raw, method=correction)[1])
    assert found.correction == correction


def test_holm_is_the_correction_unless_told_otherwise(population: tuple[np.ndarray, list[str]]) -> None:
    values, owners = population
    assert culture_priors(values, owners, GROUPS, "t").correction == "holm"
    with pytest.raises(ValueError, match="unknown correction 'tukey'; expected one of holm"):
        culture_priors(values, owners, GROUPS, "t", correction="tukey")


def test_what_cannot_be_tested_does_not_weigh_on_the_rest(population: tuple[np.ndarray, list[str]]) -> None:
    values, owners = population
    before = row_of(culture_priors(values, owners, GROUPS, "t", correction="bonferroni"), "mean_AU12")
    values[:, 8::20] = 0.1  # AU11: constant, and 0.1 is no binary fraction
    values[:, 10::20] = np.nan  # AU14: measured nowhere
    values[np.array(owners) == "C", 13::20] = np.nan  # AU20: not in C
    values[0] = np.nan  # a clip without a face
    priors = culture_priors(values, owners, GROUPS, "t", correction="bonferroni")
    assert priors.clips == {"A": 19, "B": 20, "C": 20}
    assert priors.left_out == {"A": 1, "B": 0, "C": 0}
    assert priors.missing == ["AU14", "AU20"]
    for au in ("AU11", "AU14", "AU20"):
        row = row_of(priors, f"mean_{au}")
        assert (row.f, row.p, row.p_corrected, row.eta_squared) == (None, None, None, 0.0)
        assert [priors.normalised[c][AU_NAMES.index(au)] for c in GROUPS] == [0, 0, 0]
    assert len(priors.ranked()) == 80 - 12
    after = row_of(priors, "mean_AU12")
    assert after.p is not None
    assert after.p_corrected == pytest.approx(68 * after.p)
    assert before.p is not None
    assert before.p_corrected == pytest.approx(80 * before.p)
    with pytest.raises(ValueError, match="no clip with a face for culture D"):
        culture_priors(values, owners, ["A", "D"], "t")


def test_no_variance_within_groups_is_an_infinite_f_that_json_can_hold(tmp_path: Path) -> None:
    values = np.zeros((6, 80), np.float32)
    values[3:, 0] = 1
    priors = culture_priors(values, list("AAABBB"), ["A", "B"], "t")
    assert priors.anova[0].model_dump() == {
        "statistic": "mean_AU01", "f": None, "p": 0.0, "p_corrected": 0.0, "eta_squared": 1.0,
    }  # fmt: skip
    assert read_priors(priors.write(tmp_path / "priors.json")) == priors


def test_subjects_are_averaged_before_they_are_compared(population: tuple[np.ndarray, list[str]]) -> None:
    values, owners = population
    people = [f"{owner}{i // 15}" for i, owner in enumerate(owners)]
    means, groups = subject_means(values, np.array(owners), people)
    expected = pd.DataFrame(values.astype(float)).groupby([np.array(owners), np.array(people)], sort=False).mean()
    np.testing.assert_allclose(means, expected.to_numpy(), rtol=1e-6)
    priors = culture_priors(values, owners, GROUPS, "t", subjects=people, unit="subject")
    assert priors.unit == "subject"
    assert priors.units == {"A": 4, "B": 4, "C": 4}
    assert priors.clips == {"A": 20, "B": 20, "C": 20}
    assert priors.profiles == culture_priors(values, owners, GROUPS, "t").profiles
    assert priors.anova == anova_rows(means, groups, GROUPS, [row.statistic for row in priors.anova])
    with pytest.raises(ValueError, match="needs each clip's subject_id"):
        culture_priors(values, owners, GROUPS, "t", unit="subject")
    with pytest.raises(ValueError, match="not every clip has a subject_id"):
        culture_priors(values, owners, GROUPS, "t", unit="subject", subjects=[None, *people[1:]])
    with pytest.raises(ValueError, match="unknown unit"):
        culture_priors(values, owners, GROUPS, "t", unit="frame")


def test_clips_of_one_person_make_false_findings_that_subjects_do_not() -> None:
    """No group differs; persons do, and each has ten clips."""
    rng = np.random.default_rng(4)
    people = np.repeat([f"p{i:02d}" for i in range(24)], 10)
    owners = np.repeat(np.tile(["A", "B", "C", "D"], 6), 10)
    values = np.repeat(rng.normal(size=(24, 80)), 10, axis=0) + 0.5 * rng.normal(size=(240, 80))
    by_clip = culture_priors(values, owners.tolist(), list("ABCD"), "t")
    by_subject = culture_priors(values, owners.tolist(), list("ABCD"), "t", unit="subject", subjects=people.tolist())
    assert sum(row.significant() for row in by_clip.anova) > 20
    assert sum(row.significant() for row in by_subject.anova) == 0


def test_priors_on_disk(population: tuple[np.ndarray, list[str]], tmp_path: Path) -> None:
    values, owners = population
    priors = culture_priors(values, owners, GROUPS, "test", active=0.2)
    assert read_priors(priors.write(tmp_path / "sub" / "priors.json")) == priors
    assert priors.active == 0.2
    (tmp_path / "bad.json").write_text('{"extractor": "x"}')
    with pytest.raises(ValueError, match="does not hold priors"):
        read_priors(tmp_path / "bad.json")
    with pytest.raises(FileNotFoundError, match="ray-fer priors"):
        read_priors(tmp_path / "absent.json")


def test_files_of_the_first_version_still_load(population: tuple[np.ndarray, list[str]], tmp_path: Path) -> None:
    values, owners = population
    old = culture_priors(values, owners, GROUPS, "test").model_dump()
    for field in ("correction", "unit", "units", "active", "left_out", "missing"):
        del old[field]
    for row in old["anova"]:
        del row["p_corrected"]
    (tmp_path / "priors.json").write_text(json.dumps(old))
    priors = read_priors(tmp_path / "priors.json")
    assert priors.correction is None
    assert not any(row.significant() for row in priors.anova)
    packaged = list((Path(ray_fer.__file__).parent / "bundles").glob("*/priors.json"))
    assert packaged
    for path in packaged:
        assert len(read_priors(path).profiles) >= 2
