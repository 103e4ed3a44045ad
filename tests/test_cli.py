"""The command line: help that teaches, bad input that ends in one line and exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ray_fer.cli import app
from ray_fer.doctor import Check, examine
from ray_fer.streaming.messages import Prediction

JOBS = Path(__file__).parents[1] / "jobs"
COMMANDS = [
    "demo",
    "doctor",
    "predict",
    "datasets",
    "import",
    "split",
    "mix",
    "synth",
    "curate",
    "preprocess",
    "aus",
    "priors",
    "train",
    "crossval",
    "search",
    "recipes",
    "evaluate",
    "compare",
    "reproduce",
    "serve",
    "models",
]


@dataclass(frozen=True)
class Ended:
    """What a command left: its exit code, and what it printed."""

    code: int
    stdout: str
    stderr: str


def typed(*arguments: str | Path) -> Ended:
    """In a process of its own, as from a shell: with what libraries print past Python."""
    command = [sys.executable, "-c", "from ray_fer.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return Ended(done.returncode, done.stdout, done.stderr)


def run(*arguments: str | Path) -> Ended:
    """In this process, which has loaded most of what a command needs."""
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    return Ended(result.exit_code, result.stdout, result.stderr)


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + [["stream", "produce"], ["stream", "tail"], []])
def test_every_command_has_help(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize("job", sorted(path.name for path in JOBS.glob("*.py")))
def test_every_job_has_help(job: str) -> None:
    result = subprocess.run([sys.executable, str(JOBS / job), "--help"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout


def assert_one_line(result: Ended, *parts: str) -> None:
    assert result.code == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("text.mp4", b"not a video\n" * 30, "not a readable video"), ("empty.mp4", b"", "empty (0 bytes)")],
)
def test_predict_refuses_what_is_no_video(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert_one_line(typed("predict", "packaged", tmp_path / name), name, reason)


def test_predict_refuses_a_truncated_video(tmp_path: Path, media: Path) -> None:
    whole = (media / "single_face.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    assert_one_line(typed("predict", "packaged", tmp_path / "cut.mp4"), "cut.mp4")


def test_predict_without_its_bundle_or_video(tmp_path: Path, media: Path) -> None:
    assert_one_line(run("predict", tmp_path / "absent", media / "single_face.mp4"), "no such bundle")
    assert_one_line(run("predict", "packaged", tmp_path / "absent.mp4"), "no such file")


def test_a_broker_that_is_not_there() -> None:
    for command in (["demo", "--once"], ["serve", "packaged"], ["stream", "tail"]):
        assert_one_line(run(*command, "--bootstrap-servers", "127.0.0.1:1"), "127.0.0.1:1", "no Kafka broker")
    assert_one_line(run("stream", "tail", "--bootstrap-servers", "nonsense"), "not host:port")


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--speed", "fast"],
        ["demo", "--tempo", "3"],
        ["predict"],
        ["crossval", "x", "--output", "y", "--parallel", "0"],
        ["nix"],
    ],
)
def test_unknown_flags_and_values(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["demo", "--train", "--model", "x"], "leave out --model"),
        (["demo", "--model", "/absent"], "no such bundle"),
        (["train", "--output", "x"], "either --store"),
        (["train", "--output", "x", "--synthfer", "huge"], "expected one of demo, packaged"),
        (["train", "--output", "x", "--synthfer", "demo", "--set", "epoch=3"], "epoch: no such field; there are name"),
        (["train", "--output", "x", "--store", "/absent"], "no such clip store"),
        (["recipes", "sota"], "expected one of cafer"),
        (["reproduce", "cafer-figure-7"], "give TABLE, --data and --output; `ray-fer reproduce --list`"),
        (
            ["reproduce", "eila-table-5", "--data", "synthfer", "-o", "y"],
            "SynthFER has none; give --data a clip store that holds eila, fer2013, sfew",
        ),
        (["reproduce", "cafer-figure-7", "--data", "/absent", "-o", "y"], "/absent: no such clip store"),
        (["crossval", "x", "-o", "y", "--protocol", "megc"], "expected folds, loso, fixed, or a number"),
        (["crossval", "x", "-o", "y", "--only", "two"], "folds 'two': give whole numbers with commas"),
        (["synth"], "give the folder to write to"),
        (["synth", "x", "--preset", "huge"], "expected one of balanced, gccfer, micro, scene"),
        (["synth", "x", "--strength", "2"], "strength 2 is not between 0"),
        (["synth", "x", "--val-share", "0.5", "--test-share", "0.5"], "leave nothing for training"),
        (["synth", "x", "--faces", "/absent"], "/absent: no such folder"),
        (["preprocess", "/absent.parquet", "x"], "no such manifest"),
        (["priors", "/absent", "x"], "no such AU table"),
        (["predict", "packaged", "x.mp4", "--size", "1", "--stride", "3"], "fall between windows"),
    ],
)
def test_options_that_cannot_work(arguments: list[str], reason: str) -> None:
    assert_one_line(run(*arguments), reason)


def test_predict_a_video_without_a_face(media: Path) -> None:
    result = typed("predict", "packaged", media / "no_face.mp4", "--json")
    assert result.code == 0, result.stderr
    predictions = [Prediction.model_validate_json(line) for line in result.stdout.splitlines()]
    assert [p.status for p in predictions] == ["no_face"] * 4
    assert all(p.expression is None and not p.probabilities for p in predictions)


def test_predict_draws_a_timeline(happy_clip: Path, tmp_path: Path) -> None:
    result = run("predict", "packaged", happy_clip, "--plot", tmp_path / "t.png")
    assert result.code == 0, result.stderr
    assert "Happy" in result.stdout
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_models_lists_what_can_be_trained() -> None:
    result = run("models", "--json")
    assert "cafer" in json.loads(result.stdout)


def test_reproduce_lists_what_can_be_made() -> None:
    listed = {one["id"]: one for one in json.loads(run("reproduce", "--list", "--json").stdout)}
    assert listed["cafer-figure-7"]["rows"][1] == "Global prior"
    assert all("ethnicmer is not among" in one for one in listed["ethnicmer-table-5"]["refused"].values())
    assert listed["hdf-table-3"]["rows"] == ["a", "b", "c", "d"]
    assert listed["eila-table-5"]["rows"][2] == "SFEW + 10% EiLA"
    assert len(listed["eila-table-3"]["rows"]) == 11
    assert listed["ethnicmer-table-4"]["rows"][2] == "Mixed to Mixed"
    shown = run("reproduce", "--list").stdout
    assert "cafer-figure-7       DFEW, 5-fold: Granularity" in shown
    assert "nothing of it can be made with this version" in shown


def test_synth_writes_a_manifest(tmp_path: Path) -> None:
    result = run("synth", tmp_path / "data", "--clips", "3", "--test-share", "0.34", "--workers", "1")
    assert result.code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "data" / "manifest.parquet")
    assert len(list((tmp_path / "data" / "videos").glob("*.mp4"))) == 3


def test_synth_writes_a_contact_sheet(tmp_path: Path) -> None:
    result = run("synth", tmp_path, "--preset", "scene", "--preview")
    assert result.code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "preview.png")
    assert (tmp_path / "preview.png").read_bytes().startswith(b"\x89PNG")


def test_doctor_finds_everything_here_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {check.name: check for check in examine()}
    assert [check for check in checks.values() if check.needed and not check.ok] == []
    monkeypatch.setenv("RAY_FER_FACE_MODEL", "/absent/face_landmarker.task")
    missing = {check.name: check for check in examine("127.0.0.1:1")}
    assert isinstance(missing["face model"], Check)
    assert not missing["face model"].ok
    assert "face_landmarker.task" in missing["face model"].detail
    assert "no Kafka broker" in missing["broker"].detail
    result = run("doctor", "--json", "--bootstrap-servers", "127.0.0.1:1")
    assert result.code == 1
    assert {row["name"] for row in json.loads(result.stdout) if not row["ok"]} >= {"face model", "broker"}


def test_options_that_do_not_fit_each_other_are_one_plain_line(tmp_path: Path) -> None:
    options = ["--frames", "15", "--sampling", "segment", "--per-segment", "2"]
    result = run("preprocess", tmp_path, tmp_path / "x", *options)
    assert result.code == 2
    assert result.stderr == "error: 15 frames cannot be cut into segments of 2\n"
