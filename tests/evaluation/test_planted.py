"""A table on SynthFER at several strengths, from answers by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from ray_fer.evaluation.measured import Measured
from ray_fer.evaluation.planted import Planted, agnostic_row, planted_figure, planted_table
from ray_fer.evaluation.plots import png
from ray_fer.evaluation.published_tables import table
from ray_fer.evaluation.repeated import gain
from ray_fer.evaluation.reproduced import Source
from ray_fer.evaluation.tables import SYNTHETIC, render
from tests.evaluation.test_reproduced import folds

SOURCE = Source(["synthfer"], "rendered")
THREE = table("cafer-table-3")


def measured(seed: int, right: float) -> Measured:
    return Measured({1: folds(seed, right=right, dataset="synthfer")}, "5-fold")


def parts() -> list[Planted]:
    """Two systems: one that gains at strength 1 alone; a third that was only tried there."""
    base, told = "Culture-Agnostic ViViT", "CA-FER (Proposed)"
    at_0 = {base: measured(1, 0.8), told: measured(1, 0.8)}
    at_1 = {base: measured(2, 0.4), told: measured(2, 0.9), "DPCNet": measured(3, 0.3)}
    return [Planted(0.0, at_0, SOURCE, 1.0), Planted(1.0, at_1, SOURCE, 0.4286)]


def test_each_strength_is_a_column_and_each_figure_a_block() -> None:
    made = planted_table(THREE, THREE.rows, parts(), ["one more note"])
    assert made.columns == ["Row", "Settings", "strength 0", "strength 1"]
    assert [block.label for block in made.blocks] == ["UAR", "WAR", "UAR less that of Culture-Agnostic ViViT"]
    cells = {row["Row"].text: row for row in made.blocks[0].rows}
    assert list(cells) == [row.name for row in THREE.rows], "rows without figures stay, empty"
    uars = [100 * balanced_accuracy_score(one.truth, one.predicted) for _, one in folds(2, right=0.9)]
    assert cells["CA-FER (Proposed)"]["strength 1"].value == pytest.approx(np.mean(uars))
    assert cells["CA-FER (Proposed)"]["strength 1"].std == pytest.approx(np.std(uars, ddof=1))
    assert "strength 0" not in cells["DPCNet"]
    assert any("at most 100.0 at strength 0, 42.9 at strength 1" in note for note in made.notes)
    assert SYNTHETIC in made.notes
    assert made.notes[-1] == "one more note"


def test_gains_are_over_the_culture_agnostic_system() -> None:
    assert agnostic_row(THREE.rows) == "Culture-Agnostic ViViT"
    found = {row["Row"].text: row for row in planted_table(THREE, THREE.rows, parts()).blocks[2].rows}
    assert list(found) == ["DPCNet", "CA-FER (Proposed)"]
    assert found["CA-FER (Proposed)"]["strength 0"].value == 0, "it answered the same"
    one = parts()[1].measured
    expected = gain(one["CA-FER (Proposed)"], one["Culture-Agnostic ViViT"])
    assert expected is not None
    cell = found["CA-FER (Proposed)"]["strength 1"]
    assert (cell.value, cell.low, cell.high) == pytest.approx(
        (100 * expected.value, 100 * expected.low, 100 * expected.high)
    )
    assert expected.low > 0


def test_without_the_agnostic_system_or_for_a_breakdown_there_are_no_gains() -> None:
    some = [row for row in THREE.rows if row.name != "Culture-Agnostic ViViT"]
    assert [block.label for block in planted_table(THREE, some, parts()).blocks] == ["UAR", "WAR"]
    five = table("cafer-table-5")
    by_culture = [Planted(0.5, {row.name: measured(1, 0.5) for row in five.rows}, SOURCE, 1.0)]
    made = planted_table(five, five.rows, by_culture)
    assert made.columns == ["Row", "strength 0.5"]
    assert [row["Row"].text for row in made.blocks[0].rows] == ["A", "B"]


def test_no_published_figure_is_in_it() -> None:
    made = planted_table(THREE, THREE.rows, parts())
    text = render([made], "markdown")
    printed = {f"{value:.2f}" for row in THREE.rows for value in row.values.values() if isinstance(value, float)}
    own = {f"{cell.value:.2f}" for block in made.blocks for row in block.rows for cell in row.values() if cell.value}
    assert not [number for number in printed - own if f" {number}" in text]


def test_the_figure_has_a_panel_for_each_strength() -> None:
    figure = planted_figure(THREE.rows, parts(), 1 / 7)
    assert [axes.get_title() for axes in figure.axes] == ["planted strength 0", "planted strength 1"]
    names = ["Culture-Agnostic ViViT", "DPCNet", "CA-FER (Proposed)"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == names
    assert png(figure, "x.png", "").data.startswith(b"\x89PNG")
