"""A table of the papers from a clip store, as a job on a real Ray, with a model that trains in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.metrics import balanced_accuracy_score

from ray_fer.evaluation.compare import read_report
from ray_fer.evaluation.predictions import read_predictions
from ray_fer.preprocessing.store_index import read_index
from ray_fer.training.reproduce_plan import Clips, ReproduceOptions, plan_systems
from ray_fer.training.reproduce_source import source_of
from tests.clip_stores import au_table, colour_store
from tests.finished_trials import finish
from tests.integration.conftest import REPOSITORY
from tests.training_runs import tiny_settings

ROWS = ("Culture-agnostic baseline", "Global prior")


@pytest.mark.timeout(300)
def test_a_table_goes_on_with_the_system_that_is_not_finished(tmp_path: Path, environment: dict[str, str]) -> None:
    store = colour_store(tmp_path / "store", {"train": 42}, folds=2)
    aus = au_table(tmp_path / "aus", store, lambda row: {"A": 0.2, "B": 0.6}[row["culture"]])
    output, settings = tmp_path / "out", tiny_settings(system=False)
    options = ReproduceOptions(
        "cafer-figure-7", str(store), output, rows=ROWS, settings=settings, aus=aus, any_dataset=True
    )  # fmt: skip
    chosen, rows = options.check()
    index = read_index(store)
    clips = Clips(str(store), aus)
    plan = plan_systems(chosen, rows, source_of(chosen, rows, index), index, clips, options)
    assert [system.title for system in plan.systems] == ["Culture-Agnostic ViViT", "CA-FER, global prior"]
    for trial in plan.systems[0].plan.trials:
        finish(trial, plan.systems[0].options.output)

    words = ["cafer-figure-7", "--data", str(store), "--aus", aus, "-o", str(output), "--any-dataset", "--json"]
    words += [word for row in ROWS for word in ("--rows", row)] + [word for one in settings for word in ("--set", one)]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "jobs" / "reproduce.py"), *words], capture_output=True, text=True,
        timeout=240, cwd=REPOSITORY, env=environment | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 systems, 4 trials in all" in done.stderr
    assert "fold-2-seed-42: finished before" in done.stderr
    assert "system 2 of 2: CA-FER, global prior" in done.stderr
    assert "(4/4 trials)" in done.stderr
    content = json.loads(done.stdout)
    assert content == json.loads((output / "cafer-figure-7.json").read_text())
    cells = content["blocks"][0]["rows"]
    assert [row["Row"]["text"] for row in cells] == list(ROWS)
    for row, conditioning in zip(cells, ("none", "global"), strict=True):
        system = output / "systems" / f"colours-cafer-conditioning-{conditioning}"
        found = [read_predictions(path) for path in sorted(system.glob("trials/*/predictions.parquet"))]
        uars = [100 * balanced_accuracy_score(one.truth, one.predicted) for one in found]
        assert row["UAR"]["value"] == pytest.approx(sum(uars) / 2)
        report = read_report(system / "seed-42" / "report")
        assert (report.protocol.name, len(report.folds or [])) == ("2-fold", 2)
