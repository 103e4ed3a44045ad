"""`ray-fer import`, `split` and `mix`: what a user types, sees, and gets."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ray_fer.cli import app
from ray_fer.datasets.manifest import read_manifest
from tests.datasets.readers import test_eila, test_ferv39k, test_mafw, test_micro
from tests.datasets.readers.test_images_and_folders import fer2013
from tests.datasets.readers.trees import dfew_frames, dfew_lists, frames, image, text, video


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def dfew(root: Path) -> None:
    dfew_frames(root, list(dfew_lists(root, "official")))


def ferv39k(root: Path) -> None:
    for clip in test_ferv39k.CLIPS:
        frames(root / "2_ClipsforFaceCrop" / clip, ["1.jpg"])
    test_ferv39k.lists(root, "official")


def mafw(root: Path) -> None:
    for clip in test_mafw.TRUTH:
        frames(root / "data/frames" / clip, ["1.jpg"])
    test_mafw.lists(root, "official")


def afew(root: Path) -> None:
    video(root / "Train_AFEW/Angry/1.avi", count=1)
    video(root / "Val_AFEW/Happy/2.avi", count=1)


def sfew(root: Path) -> None:
    image(root / "Train_Aligned_Faces/Fear/1.png")


def casme2(root: Path) -> None:
    test_micro.casme2(root, [[1, "EP02_01f", None, 46, 59, 86, None, "12", "happiness"]])
    test_micro.images(root / "Cropped/sub01/EP02_01f", 46, 86)


def samm(root: Path) -> None:
    rows = [test_micro.SAMM_HEADER, ["006", "006_1_2", "x", 1, 3, 9, 9, "Micro", "4", "Anger", 4, ""]]
    test_micro.sheet(root / "SAMM_Micro_FACS_Codes_v2.xlsx", rows, preamble=12)
    test_micro.images(root / "006/006_1_2", 1, 9)


def eila(root: Path) -> None:
    test_eila.eila(root, [test_eila.row("['Sad']")])


def gccfer(root: Path) -> None:
    frames(root / "Africa/Sad", [f"face_{number:02d}.jpg" for number in range(1, 17)])


def folder(root: Path) -> None:
    video(root / "happy/a.mp4", count=1)


def own(root: Path) -> None:
    video(root / "a.mp4", count=1)
    text(root / "mine.csv", "path,label,subject_id\na.mp4,happy,someone\n")


FIXTURES = {
    "dfew": dfew, "ferv39k": ferv39k, "mafw": mafw, "afew": afew, "sfew": sfew, "casme2": casme2, "samm": samm,
    "eila": eila, "gccfer": gccfer, "folder": folder,
    "fer2013": lambda root: fer2013(root / "fer2013.csv"), "csv": own,
}  # fmt: skip


@pytest.mark.parametrize("name", FIXTURES)
def test_import_prints_its_summary(tmp_path: Path, name: str) -> None:
    FIXTURES[name](tmp_path / "data")
    root = tmp_path / "data" / ("mine.csv" if name == "csv" else "")
    result = run("import", name, root, "-o", tmp_path / "out" / f"{name}.parquet")
    assert result.exit_code == 0, result.output
    rows = read_manifest(tmp_path / "out" / f"{name}.parquet")
    lines = result.stdout.splitlines()
    assert lines[-1].startswith(f"{tmp_path}/out/{name}.parquet: {len(rows)} clips")
    assert lines[-1].endswith("0 problems")
    for label, count in Counter(row["label"] for row in rows).items():
        assert any(
            line.split("│")[1].strip() == label and f" {count} " in line for line in lines if line.count("│") > 2
        )
    assert all(Path(row["path"]).exists() or row["dataset"] == "gccfer" for row in rows)


def test_problems_are_shown_counted_and_written(tmp_path: Path) -> None:
    dfew(tmp_path / "data")
    lists = tmp_path / "data/EmoLabel_DataSplit/test(single_labeled)/set_1.csv"
    text(lists, "video_name,label\n1,1\n6,six\n")
    out = tmp_path / "m.parquet"
    result = run("import", "dfew", tmp_path / "data", "-o", out)
    assert result.exit_code == 0
    assert f"problem: {lists}:3: label 'six' is not an integer from 1 to 7" in result.stderr
    assert (tmp_path / "m.problems.csv").read_text().splitlines() == [
        "file,line,reason", f"{lists},3,label 'six' is not an integer from 1 to 7 (dfew-official)",
    ]  # fmt: skip
    again = run("import", "dfew", tmp_path / "data", "-o", out)
    assert again.exit_code == 2
    assert "exists; choose another file or pass --overwrite" in again.stderr
    strict = run("import", "dfew", tmp_path / "data", "-o", out, "--strict", "--overwrite")
    assert strict.exit_code == 2
    assert "6 problems, the first:" in strict.stderr
    dfew(tmp_path / "whole")
    assert run("import", "dfew", tmp_path / "whole", "-o", out, "--overwrite").exit_code == 0
    assert not (tmp_path / "m.problems.csv").exists()
    sizes = run("import", "dfew", tmp_path / "whole", "-o", out, "--overwrite", "--strict")
    assert "5 problems, the first: fold 1: 8 train, 2 test; published are 9356 train, 2341 test" in sizes.stderr
    counted = run("import", "dfew", tmp_path / "data", "-o", out, "--overwrite", "--json")
    answer = json.loads(counted.stdout)
    assert (answer["clips"], answer["problems"], answer["variant"]) == (10, 1, "official")


def test_split_and_official_folds(tmp_path: Path) -> None:
    dfew(tmp_path / "data")
    official = tmp_path / "m.parquet"
    assert run("import", "dfew", tmp_path / "data", "-o", official).exit_code == 0
    refused = run("split", official, "-o", tmp_path / "s.parquet", "--folds", "2")
    assert refused.exit_code == 2
    assert "10 clips have a fold already (official?); keep it, or pass --replace" in refused.stderr
    result = run("split", official, "-o", tmp_path / "s.parquet", "--folds", "2", "--replace")
    assert result.exit_code == 0, result.output
    rows = read_manifest(tmp_path / "s.parquet")
    assert Counter(row["fold"] for row in rows) == {1: 5, 2: 5}
    assert all(Path(row["path"]).is_dir() for row in rows)


def test_composite_of_two_datasets_left_out_by_subject(tmp_path: Path) -> None:
    for name, build in (("casme2", casme2), ("samm", samm)):
        build(tmp_path / name)
        assert run("import", name, tmp_path / name, "-o", tmp_path / f"{name}.parquet").exit_code == 0
    out = tmp_path / "cde.parquet"
    result = run("split", tmp_path / "casme2.parquet", tmp_path / "samm.parquet", "-o", out, "--scheme", "loso")
    assert result.exit_code == 0, result.output
    assert [(row["subject_id"], row["fold"]) for row in read_manifest(out)] == [("casme2/sub01", 1), ("samm/006", 2)]
    assert "2 clips of 2 people" in result.stdout


def test_mix(tmp_path: Path) -> None:
    for name in ("base", "extra"):
        for split, count in (("train", 10), ("val", 4), ("test", 3)):
            for number in range(count):
                image(tmp_path / name / split / "sad" / f"{name}{number}.png")
        assert run("import", "folder", tmp_path / name, "-o", tmp_path / f"{name}.parquet").exit_code == 0
    out = tmp_path / "mix.parquet"
    result = run("mix", tmp_path / "base.parquet", tmp_path / "extra.parquet", "-o", out, "--fraction", "0.5")
    assert result.exit_code == 0, result.output
    assert Counter(row["split"] for row in read_manifest(out)) == {"train": 15, "val": 9, "test": 3}


def test_datasets_lists_the_readers_and_their_options() -> None:
    answer = json.loads(run("datasets", "--json").stdout)
    assert set(FIXTURES) == set(answer)
    assert answer["eila"]["options"] == ["split_rule", "lists", "media"]
    assert "--split-rule --lists --media" in run("datasets").stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["import", "affectnet", "{}", "-o", "m.parquet"],
            "unknown dataset 'affectnet'; expected one of dfew, ferv39k",
        ),
        (["import", "dfew", "{}/absent", "-o", "m.parquet"], "no such file or folder"),
        (["import", "dfew", "{}", "-o", "m.parquet"], "no lists found; looked for"),
        (["import", "dfew", "{}", "-o", "m.parquet", "--labels", "megc"], "dfew does not take --labels; its options:"),
        (["import", "folder", "{}/own", "-o", "{}", "--overwrite"], "name a file such as manifest.parquet"),
        (["split", "{}/absent.parquet", "-o", "m.parquet"], "make one with `ray-fer import`"),
        (["split", "{}/absent.parquet", "-o", "m.parquet", "--scheme", "x"], "unknown scheme 'x'"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, arguments: list[str], reason: str) -> None:
    image(tmp_path / "own/sad/1.png")
    result = run(*[argument.format(tmp_path) for argument in arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert reason in result.stderr
