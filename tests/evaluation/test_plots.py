"""Figures of a report: what they show, by reading the artists back."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from ray_fer.evaluation.calibration import calibration
from ray_fer.evaluation.landscape import Landscape, LandscapeOptions
from ray_fer.evaluation.landscape_plot import drawn_losses, landscape_chart, landscape_figure
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


def bowl(height: float, reach: float = 1.0) -> Landscape:
    """A quadratic loss that is higher along beta, 0.5 at its centre."""
    options = LandscapeOptions(points=9, reach=reach)
    steps = options.steps / reach
    losses = 0.5 + height * (steps[:, None] ** 2 / 4 + steps[None, :] ** 2)
    return Landscape("tiny 0", options, losses, ["a"])


def test_a_landscape_is_a_surface_and_a_map() -> None:
    figure = landscape_figure(bowl(2.0))
    left, right, *bars = figure.axes
    assert (left.get_xlabel(), left.get_ylabel(), left.get_zlabel()) == ("α", "β", "cross-entropy, nats")
    assert (right.get_xlabel(), right.get_ylabel()) == ("α", "β")
    assert [bar.get_ylabel() for bar in bars] == ["cross-entropy, nats"] * 2
    assert right.get_title() == "trained weights: 0.5 nats"
    assert [circle.radius for circle in right.patches] == [0.25, 0.5]
    assert right.lines[0].get_xydata().tolist() == [[0, 0]], "the trained weights"
    assert left.lines[0].get_data_3d()[2][0] == 0.5


def test_alpha_runs_to_the_right_and_beta_upwards() -> None:
    figure = landscape_figure(bowl(2.0))
    lines = next(one for one in figure.axes[1].collections if one.get_facecolor().size == 0)
    level = next(path for path, value in zip(lines.get_paths(), lines.levels, strict=True) if value == 1.0)
    width, height = np.ptp(level.vertices, axis=0)
    assert width == pytest.approx(2, abs=0.01), "a quarter of the rise along alpha"
    assert height == pytest.approx(1, abs=0.05)


def test_high_losses_are_drawn_lower_and_the_caption_says_so() -> None:
    landscape = bowl(20.0)
    landscape.losses[0, 0], landscape.losses[8, 8] = np.nan, np.inf
    drawn = drawn_losses(landscape)
    assert (drawn.min(), drawn[0, 0], drawn[8, 8]) == (0.5, 10.0, 10.0)
    np.testing.assert_array_equal(drawn[drawn < 10], landscape.losses[landscape.losses < 10])
    picture = landscape_chart(landscape)
    cut = int((landscape.losses > 10).sum())
    assert f"Losses above 10 are drawn at that height: {cut} of 81 points." in picture.caption
    assert "The loss of 1 of 81 points is not a number" in picture.caption
    low = bowl(2.0)
    low.losses[0, 0] = np.inf
    assert drawn_losses(low)[0, 0] == 3.0, "no higher than what is known"
    assert landscape_chart(bowl(2.0, reach=0.3)).caption.endswith("Dashed: at a distance of 0.25 from them.")


def test_what_is_flat_looks_flat() -> None:
    figure = landscape_figure(bowl(0.001))
    low, high = figure.axes[0].get_zlim()
    assert high - low >= 0.5
    nothing = Landscape("tiny 0", LandscapeOptions(points=3), np.full((3, 3), np.nan), ["a"])
    assert landscape_chart(nothing).data.startswith(b"\x89PNG")
