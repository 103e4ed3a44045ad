"""A whole report, written without Ray: what `report.json` says, what the page shows, and what it never does."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ray_fer.bundle import load_bundle
from ray_fer.evaluation.compare import read_report
from ray_fer.evaluation.evaluated import Evaluated, of_bundle
from ray_fer.evaluation.landscape import Landscape, LandscapeOptions
from ray_fer.evaluation.page import fairness_words
from ray_fer.evaluation.predictions import Predictions, read_predictions
from ray_fer.evaluation.report import ReportOptions, check_output, report_content, write_report
from ray_fer.labels import EXPRESSIONS
from ray_fer.preprocessing.store_index import ClipIndex, read_index
from tests.clip_stores import colour_store

CLASSES = list(EXPRESSIONS)


def answers(clips: dict[str, list[Any]], wrong: dict[int, tuple[str, float]], seed: int = 0) -> Predictions:
    """All right with a probability of 0.6, but for the `wrong` rows: what they were taken for, and how surely."""
    labels = clips["label"]
    probabilities = np.full((len(labels), len(CLASSES)), 0.4 / 6, np.float32)
    for row, label in enumerate(labels):
        name, share = wrong.get(row, (label, 0.6))
        probabilities[row] = (1 - share) / 6
        probabilities[row, CLASSES.index(name)] = share
    features = np.random.default_rng(seed).normal(size=(len(labels), 16)).astype(np.float32)
    return Predictions("tiny 0", CLASSES, pa.table(clips), probabilities, features)


def made_up(count: int, **columns: list[Any]) -> dict[str, list[Any]]:
    """Columns of `count` clips: one class after the other, two cultures, five subjects."""
    return {
        "clip_id": [f"clip-{row:03d}" for row in range(count)],
        "dataset": ["DFEW"] * count,
        "label": [CLASSES[row % 7] for row in range(count)],
        "culture": ["African" if row % 2 else "Caucasian" for row in range(count)],
        "subject_id": [f"s{row % 5}" for row in range(count)],
        "path": [f"clip-{row:03d}.mp4" for row in range(count)],
    } | columns


@pytest.fixture(scope="module")
def tiny(tiny_bundle: Path) -> Evaluated:
    return of_bundle(load_bundle(tiny_bundle))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ClipIndex:
    """42 clips of 16 frames, as the tiny bundle reads them, in split "test"."""
    return read_index(colour_store(tmp_path_factory.mktemp("colours") / "store", {"train": 7, "test": 42}, frames=16))


@pytest.fixture(scope="module")
def written(tiny: Evaluated, store: ClipIndex, tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = store.split("test")
    columns = {name: clips.column(name) for name in ("clip_id", "dataset", "label", "culture", "subject_id", "path")}
    predictions = answers(columns, {0: ("Fear", 0.9), 8: ("Happy", 0.7), 9: ("Sad", 0.8)})
    options = ReportOptions(unit="subject", command="ray-fer evaluate tiny clips -o report")
    return write_report(tiny, predictions, store, tmp_path_factory.mktemp("report") / "out", options).parent


def test_everything_is_written(written: Path) -> None:
    names = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    saliency = {f"clips/saliency-{name}.jpg" for name in CLASSES}
    assert names == saliency | {
        "index.html", "report.json", "predictions.parquet", "confusion.png", "calibration.png", "culture.png",
        "tsne-expression.png", "tsne-culture.png", "clips/mistake-1.jpg", "clips/mistake-2.jpg", "clips/mistake-3.jpg",
    }  # fmt: skip
    assert len(read_predictions(written / "predictions.parquet")) == 42


def test_report_json_has_the_figures_by_hand(written: Path) -> None:
    report = json.loads((written / "report.json").read_text())
    assert report["model"] == {"name": "tiny", "version": "0", "registry": "cafer"}
    assert report["protocol"] == {"name": "fixed", "selection": "validation"}
    assert (report["datasets"], report["synthetic"], report["classes"]) == (["colours"], False, CLASSES)
    metrics = report["metrics"]
    # One wrong of six in Angry, Disgust and Fear each; all others right.
    assert metrics["war"]["value"] == pytest.approx(39 / 42)
    assert metrics["uar"]["value"] == pytest.approx((3 * 5 / 6 + 4) / 7)
    assert metrics["uar"]["low"] < metrics["uar"]["value"] < metrics["uar"]["high"] <= 1
    assert metrics["recall"]["Angry"] == pytest.approx(5 / 6)
    assert metrics["confusion"][0] == [5, 0, 1, 0, 0, 0, 0]
    assert metrics["support"] == dict.fromkeys(CLASSES, 6)
    assert report["intervals"] == {"level": 0.95, "unit": "subject", "resamples": 2000}
    assert set(report["groups"]["culture"]) == {"A", "B"}
    assert sum(group["count"] for group in report["groups"]["culture"].values()) == 42
    assert report["fairness"]["culture"]["war_gap"] is not None
    mistakes = [(one["truth"], one["predicted"], one["probability"]) for one in report["mistakes"]]
    assert mistakes == [("Angry", "Fear", 0.9), ("Fear", "Sad", 0.8), ("Disgust", "Happy", 0.7)]


def test_compare_reads_it(written: Path) -> None:
    report = read_report(written)
    assert report.name == "tiny 0"
    assert report.metrics.war.value == pytest.approx(39 / 42)
    assert set(report.groups["culture"]) == {"A", "B"}


def test_the_page_stands_alone(written: Path) -> None:
    page = (written / "index.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)', page)
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert sum(source.startswith("data:image/") for source in sources) == 5 + 7 + 3
    assert "<script" not in page
    assert "url(" not in page
    for words in (
        "39 of 42 clips are recognised", "attention rollout", "ray-fer evaluate tiny clips -o report",
        "the model has no AU profiles", "draws of subjects",
    ):  # fmt: skip
        assert words in " ".join(page.split())


def test_the_same_answers_give_the_same_report(
    written: Path, tiny: Evaluated, store: ClipIndex, tmp_path: Path
) -> None:
    options = ReportOptions(unit="subject", command="ray-fer evaluate tiny clips -o report")
    again = write_report(tiny, read_predictions(written / "predictions.parquet"), store, tmp_path / "again", options)
    assert again.read_bytes() == (written / "index.html").read_bytes()
    assert (tmp_path / "again" / "report.json").read_bytes() == (written / "report.json").read_bytes()


def test_names_are_escaped_and_the_card_can_do_nothing(tmp_path: Path, tiny_bundle: Path) -> None:
    evil = '<img src=x onerror="alert(1)">'
    folder = tmp_path / "bundle"
    folder.mkdir()
    card = f"{evil} ![pixel](http://example.com/x.png) [go](javascript:1)"
    (folder / "README.md").write_text(f"# x\n\n## Use\n\n{card}\n")
    clips = made_up(21, clip_id=[f"{evil}{row}" for row in range(21)], culture=[evil] * 21, dataset=[evil] * 21)
    predictions = answers(clips, {3: ("Fear", 0.9)})
    about = of_bundle(dataclasses.replace(load_bundle(tiny_bundle), path=folder))
    page = write_report(about, predictions, None, tmp_path / "out").read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert 'src="http' not in page
    assert 'href="javascript' not in page


def test_synthfer_says_nothing_about_people(tmp_path: Path, tiny: Evaluated) -> None:
    synthetic = answers(made_up(21, dataset=["synthfer"] * 21), {})
    page = write_report(tiny, synthetic, None, tmp_path / "synthetic")
    assert json.loads((page.parent / "report.json").read_text())["synthetic"] is True
    assert "This says nothing about people" in page.read_text()
    assert "There is no mistake to show" in page.read_text()
    mixed = answers(made_up(21, dataset=["synthfer", "DFEW", "DFEW"] * 7), {})
    assert report_content(tiny, mixed, ReportOptions())["synthetic"] is False


def test_folds(tmp_path: Path, tiny: Evaluated) -> None:
    predictions = answers(made_up(35), {0: ("Fear", 0.9)})
    folds = [(f"fold {number}", predictions.select(range(number, 35, 5))) for number in range(5)]
    options = ReportOptions(protocol="5-fold", selection="test fold (paper protocol)")
    page = write_report(tiny, predictions, None, tmp_path / "out", options, folds)
    report = json.loads((page.parent / "report.json").read_text())
    assert [fold["count"] for fold in report["folds"]] == [7] * 5
    assert report["folds"][0]["war"] == pytest.approx(6 / 7)
    text = page.read_text()
    assert "These figures are optimistic" in text
    assert "latent spaces do not belong together" in text
    assert "there are no AU profiles that all folds share" in text
    assert "each fold has a model of its own" in text
    assert not (page.parent / "tsne-culture.png").exists()


def test_one_fold_whose_model_was_not_kept(tmp_path: Path, tiny: Evaluated) -> None:
    about = Evaluated(tiny.config, caveats="Only for *tests*.")
    predictions = answers(made_up(35), {0: ("Fear", 0.9)})
    page = write_report(about, predictions, None, tmp_path / "out", folds=[("fold 2", predictions)])
    text = page.read_text()
    assert "Left out: the model was not kept." in text
    assert "Only for <em>tests</em>." in text
    assert (page.parent / "tsne-culture.png").exists(), "one model, one latent space"


def test_small_groups_are_flagged_in_words(tiny: Evaluated) -> None:
    cultures = ["African"] * 14 + ["Caucasian"] * 14 + ["East Asian"] * 3
    wrong = {row: ("Sad" if row % 7 else "Fear", 0.9) for row in range(0, 14, 2)}
    content = report_content(tiny, answers(made_up(31, culture=cultures), wrong), ReportOptions())
    groups = content["groups"]["culture"]
    assert [groups[name]["few"] for name in ("African", "Caucasian", "East Asian")] == [False, False, True]
    words = " ".join(fairness_words(content, "culture")).replace("\N{NO-BREAK SPACE}", " ")
    worst = 100 * groups["African"]["war"]
    assert f"lowest in African ({worst:.1f} %), highest in Caucasian (100.0 %)" in words
    assert "would seldom come about (p = 0.0" in words
    assert "not compared: East Asian" in words
    alone = report_content(tiny, answers(made_up(14, culture=["A"] * 12 + ["B"] * 2), {}), ReportOptions())
    assert "nothing to compare" in fairness_words(alone, "culture")[0]


def test_a_group_of_one_subject_has_no_interval(tiny: Evaluated) -> None:
    clips = made_up(28, culture=["A"] * 14 + ["B"] * 14, subject_id=["one"] * 14 + [f"s{row}" for row in range(14)])
    content = report_content(tiny, answers(clips, {1: ("Sad", 0.9)}), ReportOptions(unit="subject"))
    assert content["groups"]["culture"]["A"]["intervals"]["war"] is None
    assert content["groups"]["culture"]["B"]["intervals"]["war"] == [1.0, 1.0]
    assert "cannot be said" in " ".join(fairness_words(content, "culture"))


def test_frames_can_be_left_out(tmp_path: Path, tiny: Evaluated, store: ClipIndex) -> None:
    clips = store.split("test")
    columns = {name: clips.column(name) for name in ("clip_id", "dataset", "label", "culture", "subject_id", "path")}
    predictions = answers(columns, {0: ("Fear", 0.9)})
    page = write_report(tiny, predictions, clips, tmp_path / "out", ReportOptions(faces=False))
    assert "data:image/jpeg" not in page.read_text()
    assert "left out on purpose" in page.read_text()
    assert not (page.parent / "clips").exists()


def test_a_model_that_cannot_be_looked_into_still_gets_its_report(
    tmp_path: Path, tiny: Evaluated, store: ClipIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise ValueError("the answer does not depend on its last convolution")

    monkeypatch.setattr("ray_fer.evaluation.galleries.clip_saliency", refuses)
    clips = store.split("test")
    columns = {name: clips.column(name) for name in ("clip_id", "dataset", "label", "culture", "subject_id", "path")}
    page = write_report(tiny, answers(columns, {}), clips, tmp_path / "out")
    assert "Left out: the answer does not depend on its last convolution." in page.read_text()


def test_a_landscape_is_a_section_of_its_own(tmp_path: Path, tiny: Evaluated) -> None:
    losses = np.full((5, 5), 2.0)
    losses[2, 2], losses[0, 0], losses[2, 1] = 0.5, np.inf, 1.25
    found = Landscape("tiny 0", LandscapeOptions(points=5, seed=7), losses, ["a", "b"])
    predictions, replace = answers(made_up(21), {}), ReportOptions(overwrite=True)
    page = write_report(tiny, predictions, None, tmp_path / "out", landscape=found)
    assert json.loads((page.parent / "landscape.json").read_text())["losses"][0] == ["Infinity", 2.0, 2.0, 2.0, 2.0]
    part = json.loads((page.parent / "report.json").read_text())["landscape"]
    assert (part["clips"], part["seed"], part["not_finite"], part["sharpness"]["centre"]) == (2, 7, 1, 0.5)
    text = " ".join(page.read_text().split())
    for words in (
        "The trained weights have a loss of 0.500 nats.", "At most 0.5 away from them it is 2.000 at worst (+1.500).",
        "At 1 of 25 points of the grid the loss is not finite", "Mean cross-entropy of 2 clips", "(seed 7 here)",
        '<a href="#landscape">', "4.0 % of the 5&nbsp;×&nbsp;5 points", 'alt="Loss around the trained',
    ):  # fmt: skip
        assert words in text
    assert read_report(page.parent).name == "tiny 0", "`ray-fer compare` reads it as before"

    page = write_report(tiny, predictions, None, tmp_path / "out", replace)
    assert not {path.name for path in page.parent.iterdir()} & {"landscape.json", "landscape.png"}
    assert "landscape" not in page.read_text()


def test_only_reports_are_replaced(tmp_path: Path, tiny: Evaluated) -> None:
    predictions = answers(made_up(21), {0: ("Fear", 0.9)})
    page = write_report(tiny, predictions, None, tmp_path / "out")
    with pytest.raises(FileExistsError, match="pass --overwrite"):
        write_report(tiny, predictions, None, tmp_path / "out")
    (page.parent / "mine.png").write_bytes(b"mine")
    few = predictions.select(range(7))
    write_report(tiny, few, None, tmp_path / "out", ReportOptions(overwrite=True))
    assert not (page.parent / "tsne-culture.png").exists(), "seven clips are too few for t-SNE: the old one is gone"
    assert (page.parent / "mine.png").exists()
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.tex").write_text("")
    with pytest.raises(FileExistsError, match="is no report"):
        check_output(foreign, overwrite=True)


def test_another_models_answers_are_refused(tmp_path: Path, tiny: Evaluated) -> None:
    predictions = answers(made_up(14), {})
    other = dataclasses.replace(predictions, classes=[*CLASSES[:5], "Surprise", "Sad"])
    with pytest.raises(ValueError, match="different classes"):
        write_report(tiny, other, None, tmp_path / "out")
