"""Cross-validation and search on a real Ray, with a model that trains in seconds."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ray_fer.evaluation.compare import read_report
from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.evaluation.predictions import read_predictions
from ray_fer.serving.local_ray import ray_session
from ray_fer.training.crossval import News, cross_validate
from ray_fer.training.crossval_plan import CrossValOptions
from ray_fer.training.search import SearchOptions, search
from tests.clip_stores import colour_store
from tests.integration.conftest import REPOSITORY, hear_interrupts
from tests.training_runs import tiny_settings

CLIPS = 42


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_store(tmp_path_factory.mktemp("colours") / "store", {"train": CLIPS, "test": 14}, folds=3)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with ray_session():
        yield


def job(store: Path, output: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, str(REPOSITORY / "jobs" / "crossval.py"), str(store), "--output", str(output)]
    words = ["--json", "--parallel", "1", *(word for one in tiny_settings() for word in ("--set", one))]
    return subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
        env=environment | {"PYTHONPATH": str(REPOSITORY)}, preexec_fn=hear_interrupts,
    )  # fmt: skip


def processes_of(folder: Path) -> list[str]:
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [command for command in commands if str(folder) in command]


@pytest.fixture
def rays_folder() -> Iterator[Path]:
    """Where the jobs' Ray keeps its files; short, because Ray puts sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="cv", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def test_ctrl_c_in_the_middle_leaves_what_is_finished(
    store: Path, tmp_path: Path, environment: dict[str, str], rays_folder: Path
) -> None:
    output, environment = tmp_path / "cv", environment | {"TMPDIR": str(rays_folder)}
    interrupted = job(store, output, environment)
    first = output / "trials" / "fold-1-seed-42" / "trial.json"
    deadline = time.monotonic() + 180
    while not first.exists() and time.monotonic() < deadline and interrupted.poll() is None:
        time.sleep(0.2)
    assert first.exists(), interrupted.communicate()[1]
    interrupted.send_signal(signal.SIGINT)
    _, said = interrupted.communicate(timeout=60)
    assert interrupted.returncode != 0
    assert "interrupted; trials that are finished stay" in said, said
    assert not (output / "summary.json").exists()
    written = first.stat().st_mtime_ns

    again = job(store, output, environment)
    printed, said = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert "3 trials: 1 finished before, 2 to do, 1 at once" in said
    assert "fold-1-seed-42: finished before" in said
    assert "fold-3-seed-42: epoch 1/1" in said
    assert first.stat().st_mtime_ns == written
    summary = json.loads(printed)
    assert summary == json.loads((output / "summary.json").read_text())
    assert (summary["selection"], summary["protocol"], summary["failed"]) == ("validation", "3-fold", [])
    pooled = read_predictions(output / "seed-42" / "predictions.parquet")
    assert len(set(pooled.column("clip_id"))) == len(pooled) == CLIPS + 14
    figures = classification_metrics(pooled.truth, pooled.predicted, pooled.classes)
    assert summary["seeds"]["42"]["pooled"]["confusion"] == figures["confusion"]
    means = [trial["uar"] for trial in summary["trials"]]
    assert summary["seeds"]["42"]["folds"]["uar"]["mean"] == pytest.approx(sum(means) / 3)
    report = read_report(output / summary["reports"]["42"])
    assert report.metrics.uar.value == pytest.approx(figures["uar"])
    left = {path.name for path in (output / "trials" / "fold-1-seed-42").iterdir()}
    assert left == {"plan.json", "trial.json", "predictions.parquet", "tiny-fold-1-seed-42.run"}, (
        "no bundle was asked for"
    )
    assert not list(output.rglob("*.safetensors")), "checkpoints of finished trials are removed"
    assert not list(rays_folder.glob("ray-fer*"))
    deadline = time.monotonic() + 10  # a worker notices a moment later that its Ray has gone
    while (running := processes_of(rays_folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not running, "no Ray is left running"


def test_the_paper_protocol_marks_what_it_makes_and_one_bad_trial_ends_no_other(
    local_ray: None, store: Path, tmp_path: Path
) -> None:
    output, heard = tmp_path / "cv", list[News]()
    (output / "trials" / "fold-1-seed-42" / "tiny-fold-1-seed-42.run").mkdir(parents=True)
    (output / "trials" / "fold-1-seed-42" / "tiny-fold-1-seed-42.run" / "mine.txt").touch()
    options = CrossValOptions(str(store), output, settings=tiny_settings(), protocol=2, paper_protocol=True)
    done = cross_validate(options, heard.append, lambda _: None)
    assert list(done.failed) == ["fold-1-seed-42"]
    assert "is not the folder of a training run" in done.failed["fold-1-seed-42"]
    assert [news.trial for news in heard if news.state == "finished"] == ["fold-2-seed-42"]
    assert (heard[-1].done, heard[-1].total) == (1, 2)
    assert done.summary["selection"] == "test fold (paper protocol)"
    assert not done.summary["seeds"]["42"]["complete"]
    trial = done.summary["trials"][0]
    assert trial["uar"] == pytest.approx(trial["training"]["val_uar"]), "the test fold is what validated"
    assert "Traceback" in (output / "trials" / "fold-1-seed-42" / "error.txt").read_text()
    with pytest.raises(FileExistsError, match=r"selection was test fold \(paper protocol\) and is validation"):
        cross_validate(CrossValOptions(str(store), output, settings=tiny_settings(), protocol=2))


def test_a_search_of_three_trials(local_ray: None, store: Path, tmp_path: Path) -> None:
    options = SearchOptions(
        str(store), tmp_path / "search", ("optimizer.lr=grid(1e-3, 1e-12, 3e-3)",), settings=tiny_settings(epochs=4),
        trials=1, grace=1,
    )  # fmt: skip
    found = search(options, lambda _: None)
    assert found == json.loads((tmp_path / "search" / "search.json").read_text())
    assert len(found["trials"]) == 3
    assert [trial["error"] for trial in found["trials"]] == [None] * 3
    values = [trial["value"] for trial in found["trials"]]
    assert values == sorted(values, reverse=True)
    assert found["best"]["value"] == values[0]
    assert found["best"]["arguments"] == f"--set optimizer.lr={found['best']['settings']['optimizer.lr']}"
    assert not list((tmp_path / "search" / "trials").rglob("*.safetensors"))
    with pytest.raises(FileExistsError, match="holds a search; go on with --resume"):
        search(options, lambda _: None)
    with pytest.raises(FileExistsError, match=r"\(seed changed\); start anew with --overwrite"):
        search(SearchOptions(**{**vars(options), "seed": 1, "resume": True}), lambda _: None)
    started = time.monotonic()
    assert search(SearchOptions(**{**vars(options), "resume": True}), lambda _: None) == found
    assert time.monotonic() - started < 30, "nothing was left to do"
