"""The table and the charts that go with priors.json."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ray_fer.action_units.priors_report import effect_chart, profile_heat_map, write_report
from ray_fer.action_units.profiles import Priors, culture_priors

CULTURES = ["African", "East Asian"]


@pytest.fixture
def priors() -> Priors:
    rng = np.random.default_rng(2)
    values = rng.random((40, 80)).astype(np.float32)
    owners = [CULTURES[i % 2] for i in range(40)]
    values[::2, 9] += 1.0
    values[:, 8::20] = np.nan
    return culture_priors(values, owners, CULTURES, "mediapipe-blendshapes")


def test_the_table_has_a_row_for_every_statistic(priors: Priors, tmp_path: Path) -> None:
    paths = write_report(priors, tmp_path / "new" / "priors")
    assert [path.name for path in paths] == ["priors.csv", "priors_profiles.png", "priors_eta_squared.png"]
    rows = list(csv.DictReader(paths[0].open()))
    assert len(rows) == 80
    smile = next(row for row in rows if (row["au"], row["statistic"]) == ("AU12", "mean"))
    assert smile["significant"] == "True"
    assert float(smile["eta_squared"]) == pytest.approx(priors.ranked()[0].eta_squared)
    assert float(smile["mean_African"]) == priors.profiles["African"][9]
    assert float(smile["normalised_East Asian"]) == 0
    unmeasured = next(row for row in rows if (row["au"], row["statistic"]) == ("AU11", "mean"))
    assert (unmeasured["p"], unmeasured["mean_African"], unmeasured["significant"]) == ("", "", "False")
    for path in paths[1:]:
        image = cv2.imread(str(path))
        assert image is not None
        assert image.std() > 10


def test_charts_show_cultures_ranks_and_what_was_not_measured(priors: Priors) -> None:
    heat = profile_heat_map(priors).axes[0]
    assert [label.get_text() for label in heat.get_xticklabels()] == [f"{name}\n(20 clips)" for name in CULTURES]
    texts = [text.get_text() for text in heat.texts]
    assert len(texts) == 40
    assert texts.count("–") == 2
    bars = effect_chart(priors, shown=5).axes[0]
    assert bars.get_yticklabels()[-1].get_text() == "AU12 lip corner puller, mean"
    widths = [bar.get_width() for bar in bars.patches]
    assert widths == sorted(widths)
    assert len(widths) == 5


def test_reports_leave_the_global_state_of_matplotlib_alone() -> None:
    code = "import ray_fer.action_units.priors_report, sys; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
