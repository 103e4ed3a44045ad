"""Figures of a report: what they show, by reading the artists back."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from ray_fer.evaluation.calibration import calibration
from ray_fer.evaluation.plots import (
    Embedding,
    colours_of,
    confusion_figure,
    embed,
    embedding_figure,
    frame_strip,
    groups_figure,
    overlay,
    png,
    reliability_figure,
)
from ray_fer.evaluation.timeline import COLOURS
from ray_fer.labels import COMPOUND_EXPRESSIONS, CULTURES, EXPRESSIONS


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_confusion_has_percent_of_rows_and_counts() -> None:
    figure = confusion_figure([[3, 1], [0, 0]], ["Happy", "Sad"])
    assert texts(figure) == ["75.0", "3", "25.0", "1", "–", "0", "–", "0"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["Happy", "Sad"]


def test_reliability_says_the_error() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    result = calibration(np.array([0, 1, 1, 1]), probabilities)
    figure = reliability_figure(result)
    upper, lower = figure.axes
    assert upper.get_title("right") == f"ECE {100 * result.ece:.1f} %"
    assert sum(bar.get_height() for bar in lower.patches) == 4


def test_groups_of_few_clips_are_pale_and_say_so() -> None:
    many = {"uar": 0.8, "war": 0.9, "count": 50, "few": False, "intervals": {"uar": [0.7, 0.9], "war": [0.8, 0.95]}}
    few = {"uar": 1.0, "war": 1.0, "count": 2, "few": True, "intervals": {"uar": None, "war": None}}
    figure = groups_figure({"A": many, "B": few}, chance=0.14)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["A\n50 clips", "B\n2 clips (few)"]
    assert texts(figure) == ["80", "100", "90", "100"]
    assert [bar.get_alpha() for bar in figure.axes[0].patches] == [1.0, 0.35, 1.0, 0.35]


def test_every_class_and_culture_has_a_colour_of_its_own() -> None:
    assert colours_of(EXPRESSIONS) == COLOURS
    for names in (COMPOUND_EXPRESSIONS, CULTURES):
        assert len(set(colours_of(names).values())) == len(names)


def test_tsne_keeps_clusters_apart_and_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 1, (20, 8)), rng.normal(30, 1, (20, 8))]).astype(np.float32)
    found = embed(features)
    assert isinstance(found, Embedding)
    assert found.perplexity == 13.0
    again = embed(features)
    assert isinstance(again, Embedding)
    np.testing.assert_array_equal(found.points, again.points)
    centres = found.points[:20].mean(0), found.points[20:].mean(0)
    assert np.linalg.norm(centres[0] - centres[1]) > found.points[:20].std() * 2
    figure = embedding_figure(found.points, ["Sad"] * 20 + ["Happy"] * 20, EXPRESSIONS)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Happy (20)", "Sad (20)"]


def test_tsne_of_many_clips_is_of_a_sample() -> None:
    features = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
    found = embed(features, seed=3, most=100)
    assert isinstance(found, Embedding)
    assert (len(found.points), len(set(found.rows)), found.perplexity) == (100, 100, 30.0)


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        (np.zeros((9, 4)), "needs 10 clips or more"),
        (np.zeros((12, 0)), "no latent features"),
        (np.ones((12, 4)), "the same for every clip"),
        (np.full((12, 4), np.nan), "not finite"),
    ],
)
def test_tsne_says_why_not(features: np.ndarray, reason: str) -> None:
    found = embed(features)
    assert isinstance(found, str)
    assert reason in found


def test_strips_and_heat() -> None:
    frames = np.full((3, 8, 8, 3), 100, np.uint8)
    assert frame_strip(frames, side=16, gap=2).shape == (16, 52, 3)
    maps = np.zeros((3, 4, 4))
    maps[1, 0, 0] = 1.0
    heated = overlay(frames, maps)
    assert (heated[[0, 2]] == 100).all()
    assert heated[1, 0, 0].tolist() != [100, 100, 100]
    assert heated[1, 7, 7].tolist() == [100, 100, 100]


def test_png_is_the_same_every_time() -> None:
    first, second = (png(confusion_figure([[1]], ["a"]), "a.png", "a matrix") for _ in range(2))
    assert first.data.startswith(b"\x89PNG")
    assert first == second
