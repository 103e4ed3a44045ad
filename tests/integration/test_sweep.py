"""Mixtures of generated stills of three datasets, as a user trains them: the sweep, and a table of the paper."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from ray_fer.evaluation.compare import read_report
from ray_fer.evaluation.predictions import read_predictions
from ray_fer.evaluation.published_tables import table
from ray_fer.training.crossval import News
from ray_fer.training.reproduce import reproduce
from ray_fer.training.reproduce_plan import ReproduceOptions
from tests.clip_stores import still_store
from tests.integration.conftest import REPOSITORY

TINY = (
    "model_config_.width=8", "model_config_.blocks=[2, 2, 2, 2]", "model_config_.momentum=0.9", "transform.canvas=32",
    "transform.size=32", "batch_size=16", "optimizer.lr=1e-3", "before.optimizer.lr=0.02", "before.epochs=2",
    "epochs=1", "workers=0", "select=last", "early_stopping=null",
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """EiLA, SFEW and FER2013 as shards of one store; EiLA's people are Black and White."""
    return still_store(
        tmp_path_factory.mktemp("stills"), eila={"train": 28, "val": 14, "test": 28}, sfew={"train": 28, "val": 14},
        fer2013={"train": 28, "test": 14},
    )  # fmt: skip


def job(name: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    settings = [word for one in TINY for word in ("--set", one)]
    command = [sys.executable, str(REPOSITORY / "jobs" / f"{name}.py"), *settings, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=800, cwd=REPOSITORY)


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return job("train_multidataset", "--sweep", *words)


def test_one_command_writes_all_rows_and_goes_on_after_an_interruption(store: Path, tmp_path: Path) -> None:
    output = tmp_path / "sweep"
    done = run("--store", store, "--output", output)
    assert done.returncode == 0, done.stderr[-3000:]
    content = json.loads((output / "sweep.json").read_text())
    assert list(content["rows"]) == [
        "EiLA only", "SFEW only", "SFEW + 10% EiLA", "SFEW + 30% EiLA", "SFEW + 50% EiLA", "SFEW + 100% EiLA",
        "FER2013 only", "FER2013 + 10% EiLA", "FER2013 + 30% EiLA", "FER2013 + 50% EiLA", "FER2013 + 100% EiLA",
    ]  # fmt: skip
    assert all(len(runs) == 1 and runs[0]["clips"]["test"] == 28 for runs in content["rows"].values())
    assert content["rows"]["SFEW + 50% EiLA"][0]["clips"]["train"] == 28 + 14
    assert set(content["rows"]["EiLA only"][0]["groups"]) == {"Black", "White"}
    assert "| FER2013 + 100% EiLA | 56 | 28 |" in (output / "sweep.md").read_text()
    assert (output / "sweep.png").read_bytes().startswith(b"\x89PNG")

    again = run("--store", store, "--output", output)
    assert again.returncode == 0
    assert again.stderr.count("finished before") == 11
    assert "to do" not in again.stderr
    wrong = run("--output", tmp_path / "other")
    assert wrong.returncode == 2
    assert "--sweep needs --store" in wrong.stderr


def test_a_table_of_mixtures_is_trained_side_by_side_and_shared_with_the_next(store: Path, tmp_path: Path) -> None:
    rows, output = ("EiLA only", "SFEW + 50% EiLA"), tmp_path / "repro"
    chosen = [word for row in rows for word in ("--rows", row)]
    done = job("reproduce", "eila-table-5", "--data", store, "-o", output, "--json", *chosen)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 systems, 2 trials in all" in done.stderr
    assert "2 trials: 0 finished before, 2 to do" in done.stderr
    cells = {one["Row"]["text"]: one for one in json.loads(done.stdout)["blocks"][0]["rows"]}
    printed = {row.name: row.values for row in table("eila-table-5").rows}
    heard = list[News]()
    again = reproduce(
        ReproduceOptions("eila-table-6", str(store), output, rows=rows, settings=TINY), heard.append, lambda _: None
    )
    assert [news.state for news in heard] == ["skipped", "skipped"], "its systems are those of Table 5"
    by_group = {one["Row"].text: one for one in again.table.blocks[0].rows}
    for row, slug in zip(rows, ("EiLA-only", "SFEW-50-EiLA"), strict=True):
        system = output / "systems" / f"eila-resnet50v2-{slug}"
        found = read_predictions(system / "trials" / f"{slug}-seed-42" / "predictions.parquet")
        assert set(found.column("dataset")) == {"eila"}
        f1 = f1_score(found.truth, found.predicted, average="weighted")
        assert cells[row]["Weighted F1 score here"]["value"] == pytest.approx(f1)
        assert cells[row]["Loss published"]["value"] == printed[row]["Loss"]
        true = found.probabilities[np.arange(28), found.truth]
        assert cells[row]["Loss here"]["value"] == pytest.approx(-np.log(true).mean(), rel=1e-4)
        black = np.array(found.column("culture")) == "Black"
        parts = [100 * accuracy_score(found.truth[own], found.predicted[own]) for own in (black, ~black)]
        assert by_group[row]["%Acc(Black) here"].value == pytest.approx(parts[0])
        assert by_group[row]["%Std here"].value == pytest.approx(np.std(parts, ddof=1))
        assert "%Acc(Mixed) here" in again.table.columns
        assert by_group[row]["%Acc(Mixed) here"].value is None
        assert read_report(system / "seed-42" / "report").protocol.name == "fixed"
