"""`ray-fer curate` from end to end, on photographs and short videos."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from typer.testing import CliRunner, Result

from ray_fer.cli import app
from ray_fer.datasets.manifest import Clip, read_manifest, write_manifest

MEDIA = {
    "one": ("single_face.mp4", "video"),
    "leaves": ("face_noface.mov", "video"),
    "empty": ("no_face.mp4", "video"),
    "crowd": ("multi_face.jpg", "image"),
    "still": ("single_face.jpg", "image"),
    "gone": ("deleted.mp4", "video"),
    "woman": ("0-f1-su-ph.jpg", "image"),
}
VOTES = """clip_id,annotator_1,annotator_2
one,Caucasian,caucasian
leaves,South Asian,African
still,East Asian,
woman,Caucasian,East Asian
crowd,African,African
elsewhere,African,African
"""
ESTIMATES = "clip_id,culture,confidence\nleaves,African,0.75\nwoman,Caucasian,0.749\n"
EXPRESSIONS = """clip_id,annotator_1,annotator_2,annotator_3,annotator_4
one,Happy,Happy,Happy,Happy
leaves,Sad,Sad,Sad,Sad
still,Sad,Happy,Happy,Happy
"""


@pytest.fixture
def tree(tmp_path: Path, photos: Path) -> Path:
    """A manifest of seven clips and the files of their annotators."""
    clips = [Clip(name, "toy", str(photos / file), media, "Happy") for name, (file, media) in MEDIA.items()]
    write_manifest(clips, tmp_path / "manifest.parquet")
    (tmp_path / "votes.csv").write_text(VOTES)
    (tmp_path / "estimates.csv").write_text(ESTIMATES)
    (tmp_path / "expressions.csv").write_text(EXPRESSIONS)
    (tmp_path / "overrides.csv").write_text("clip_id,culture,note\nstill,Caucasian,seen again\n")
    return tmp_path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["curate", *map(str, arguments)])


def dropped(output: Path) -> dict[str, str]:
    with (output / "dropped.csv").open(newline="", encoding="utf-8") as file:
        return {row["clip_id"]: row["reason"] for row in csv.DictReader(file)}


def test_everything_at_once(tree: Path) -> None:
    output = tree / "curated"
    result = run(
        tree, output, "--votes", tree / "votes.csv", "--estimates", tree / "estimates.csv", "--overrides",
        tree / "overrides.csv", "--expressions", tree / "expressions.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    kept = {row["clip_id"]: row for row in read_manifest(output)}
    assert {name: (row["culture"], row["label"]) for name, row in kept.items()} == {
        "one": ("Caucasian", "Happy"),  # both annotators
        "leaves": ("African", "Sad"),  # the second annotator and the estimator at exactly 0.75
    }
    assert all(Path(row["path"]).is_file() for row in kept.values())
    assert all(len(row["bbox"]) == 4 and min(row["bbox"]) > 0 for row in kept.values())
    assert dropped(output) == {
        "empty": "persons: no face in any sampled frame",
        "crowd": "persons: more than 2",
        "gone": "media: cannot be read",
        "woman": "ethnicity: no two sources agree",
        "still": "expression: annotators disagree",
    }
    assert "2 of 7 clips kept" in result.stdout
    assert "dropped  persons: more than 2" in result.stdout
    assert f"{tree / 'votes.csv'}:7: clip 'elsewhere' is not in the manifest" in result.stderr

    report = json.loads((output / "report.json").read_text())
    assert report["ethnicity"]["decided_by"] == {
        "annotator_1 + annotator_2": 1, "annotator_2 + estimator": 1, "override": 1
    }  # fmt: skip
    assert report["ethnicity"]["overrides"] == [
        {"clip_id": "still", "culture": "Caucasian", "note": "seen again", "instead_of": None}
    ]
    assert report["ethnicity"]["annotators"]["percent"] == pytest.approx(50.0)  # one, crowd; not leaves, woman
    assert report["expressions"]["by_culture"]["African"]["kappa"] is None
    assert report["expressions"]["by_culture"]["Caucasian"]["percent"] == pytest.approx(75.0)
    assert report["persons"]["clips_by_persons"] == {"0": 1, "1": 4, "5": 1}
    text = (output / "report.md").read_text()
    assert "| Cohen's kappa | 4 | 2 | 50.0% |" in text
    assert "| still | Caucasian | dropped | seen again |" in text
    assert (output / "kept.png").read_bytes().startswith(b"\x89PNG")


def test_without_annotations_only_persons_are_counted(tree: Path) -> None:
    result = run(tree / "manifest.parquet", tree / "out", "--json", "--max-persons", 5, "--frames", 3)
    report = json.loads(result.stdout)
    assert (report["kept"], report["ethnicity"], report["expressions"]) == (5, None, None)
    assert {row["culture"] for row in read_manifest(tree / "out")} == {"Unknown"}


def test_a_majority_is_enough_if_asked(tree: Path) -> None:
    result = run(tree, tree / "out", "--no-persons", "--expressions", tree / "expressions.csv", "--agree", "majority")
    assert result.exit_code == 0
    labels = {row["clip_id"]: row["label"] for row in read_manifest(tree / "out")}
    assert len(labels) == 7  # nothing was decoded, so nothing is missing
    assert labels["still"] == "Happy"


def test_an_output_is_replaced_only_if_asked_and_only_our_files(tree: Path) -> None:
    assert run(tree, tree / "out", "--no-persons").exit_code == 0
    (tree / "out" / "notes.txt").write_text("mine")
    again = run(tree, tree / "out", "--no-persons")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert run(tree, tree / "out", "--no-persons", "--overwrite").exit_code == 0
    assert (tree / "out" / "notes.txt").read_text() == "mine"


def test_nothing_is_written_over_what_is_no_curation(tree: Path) -> None:
    (tree / "work" / "faces").mkdir(parents=True)
    (tree / "work" / "report.md").write_text("mine")
    (tree / "work" / "faces" / "photo.png").write_text("mine")
    for options in ([], ["--overwrite"]):
        result = run(tree, tree / "work", "--faces", "48", *options)
        assert result.exit_code == 2
        assert "choose another folder" in result.stderr
    assert (tree / "work" / "report.md").read_text() == "mine"
    assert (tree / "work" / "faces" / "photo.png").exists()
    inside = run(tree, tree, "--no-persons", "--overwrite")
    assert inside.exit_code == 2
    assert "holds the manifest or the clips that are read" in inside.stderr


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (["--overrides", "overrides.csv"], "--votes, --estimates or --estimator"),
        (["--estimates", "estimates.csv"], "give --votes too"),
        (["--votes", "votes.csv", "--groups", "ethnicmer"], "no --votes"),
        (["--votes", "votes.csv", "--estimates", "estimates.csv", "--estimator", "deepface"], "give one of them"),
        (["--votes", "votes.csv", "--estimator", "clairvoyance"], "deepface, facexformer"),
        (["--groups", "mars"], "gcc-fer, ethnicmer"),
        (["--agree", "sometimes"], "unanimous"),
        (["--weights", "x"], "--estimator"),
        (["--resnet-weights", "x"], "--separability"),
        (["--face-model", "x.onnx"], "--faces"),
        (["--faces", "48", "--separability"], "before"),
        (["--faces", "48", "--face-model", "x.pt"], "no such file"),
        (["--votes", "none.csv"], "none.csv: no such file"),
        (["--votes", "expressions.csv"], "needs 2 columns"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    tree: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], advice: str
) -> None:
    monkeypatch.chdir(tree)
    result = run(".", "out", *options)
    assert result.exit_code == 2
    assert advice in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tree / "out").exists()


def test_the_manifest_that_is_read_is_never_overwritten(tree: Path) -> None:
    before = (tree / "manifest.parquet").read_bytes()
    result = run(tree, tree, "--overwrite")
    assert result.exit_code == 2
    assert "choose another folder" in result.stderr
    assert (tree / "manifest.parquet").read_bytes() == before


def test_an_estimator_runs_once_and_its_answers_can_be_used_again(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = ModuleType("deepface"), ModuleType("deepface.DeepFace")
    race = {"asian": 1, "indian": 1, "black": 1, "white": 95, "middle eastern": 1, "latino hispanic": 1}
    module.build_model = lambda model_name, task: None  # type: ignore[attr-defined]
    module.analyze = lambda **_: [{"race": race}]  # type: ignore[attr-defined]
    package.DeepFace = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "deepface", package)
    monkeypatch.setenv("DEEPFACE_BACKEND_ENGINE", "pytorch")
    first, second = tree / "first", tree / "second"
    votes = ["--votes", tree / "votes.csv"]
    assert run(tree, first, *votes, "--estimator", "deepface").exit_code == 0
    assert {row["clip_id"] for row in read_manifest(first)} == {"one", "woman"}
    assert run(tree, second, *votes, "--estimates", first / "estimates.csv").exit_code == 0
    assert read_manifest(first) == read_manifest(second)
    alone = run(tree, tree / "third", "--groups", "ethnicmer", "--estimates", first / "estimates.csv")
    assert alone.exit_code == 0
    # "Caucasian" is what the first study calls it; here it is one of five categories, joined to Non-Asian.
    assert {row["culture"] for row in read_manifest(tree / "third")} == {"Non-Asian"}


def test_separability_of_the_kept_clips(tmp_path: Path, photos: Path) -> None:
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    stills = {"Caucasian": "single_face.jpg", "African": "0-f1-su-ph.jpg"}
    clips = [
        Clip(f"{culture}{n}", "toy", str(photos / file), "image", "Happy", culture, subject_id=f"{culture}{n}")
        for culture, file in stills.items() for n in range(5)
    ]  # fmt: skip
    write_manifest(clips, tmp_path / "manifest.parquet")
    result = run(tmp_path, tmp_path / "out", "--separability", "--resnet-weights", tmp_path / "resnet18.pth")
    assert result.exit_code == 0, result.output
    assert "separability: 100.0% accuracy" in result.stdout  # the same two photographs in every fold
    text = (tmp_path / "out" / "report.md").read_text()
    assert "no subject in two folds" in text
    assert "| African | 5 | 0 |" in text


def test_eilas_frames_become_grey_faces(
    tmp_path: Path, heads: list[np.ndarray], write_video: Callable[..., Path], scene: Callable[..., np.ndarray]
) -> None:
    path = write_video(tmp_path / "v.mp4", [scene((heads[3], (60, 200)))] * 3 + [scene()])
    common: dict[str, Any] = {"dataset": "eila", "path": "v.mp4", "label": "Sad", "culture": "White", "split": "test"}
    rows = [
        Clip(f"eila/v/0/1/{n}", **common, start_frame=n, end_frame=n + 1, bbox=[50, 190, 180, 180]) for n in range(4)
    ]
    write_manifest(rows, tmp_path / "manifest.parquet")
    result = run(tmp_path, tmp_path / "out", "--faces", 48)
    assert result.exit_code == 0, result.output
    kept = read_manifest(tmp_path / "out")
    assert [row["clip_id"] for row in kept] == ["eila/v/0/1/0", "eila/v/0/1/1", "eila/v/0/1/2"]
    assert {(row["media"], row["split"], row["culture"], row["bbox"]) for row in kept} == {
        ("image", "test", "White", None)
    }
    assert dropped(tmp_path / "out") == {"eila/v/0/1/3": "faces: no face in the annotated box"}
    assert path.is_file()


def test_help_teaches() -> None:
    text = run("--help").stdout
    for word in ("clip_id,annotator_1,annotator_2", "0.75", "deepface", "Example"):
        assert word in text
