"""Files as people send them: byte order marks, Windows line ends, unknown names, repeated clips."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_fer.datasets.curation.annotation_files import (
    Answers,
    read_answers,
    read_estimates,
    read_overrides,
    write_estimates,
)
from ray_fer.datasets.curation.ethnicity import ClipEstimate, Override
from ray_fer.datasets.ethnic_groups import ETHNICMER, GCC_FER
from ray_fer.datasets.reading import DatasetError, Report

CLIPS = {"a", "b", "c"}


def votes(path: Path, content: bytes) -> tuple[Answers, list[str]]:
    file, report = path / "votes.csv", Report()
    file.write_bytes(content)
    answers = read_answers(file, report, GCC_FER.resolve, GCC_FER.accepted(), CLIPS, raters=2)
    return answers, [f"{problem.line}: {problem.reason}" for problem in report.problems]


def test_votes(tmp_path: Path) -> None:
    answers, problems = votes(tmp_path, b"clip_id,annotator_1,annotator_2\na,African,african\nb,,Caucasian\n")
    assert answers.raters == ("annotator_1", "annotator_2")
    assert answers.by_clip == {
        "a": {"annotator_1": "African", "annotator_2": "African"},
        "b": {"annotator_1": None, "annotator_2": "Caucasian"},
    }
    assert not problems


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfclip_id,annotator_1,annotator_2\r\na,African,African\r\n",
        b"Annotator_B,comment,CLIP_ID,Annotator_A\nAfrican,hm,a,African\n",
        b"clip_id,rater 1,rater 2\n\n  a , African , African \n\n",
    ],
    ids=["byte order mark and CRLF", "other order, other columns", "blanks and other names"],
)
def test_harmless_differences(tmp_path: Path, content: bytes) -> None:
    answers, problems = votes(tmp_path, content)
    assert list(answers.by_clip["a"].values()) == ["African", "African"]
    assert not problems


def test_bad_rows_are_named_and_the_rest_counts(tmp_path: Path) -> None:
    answers, problems = votes(
        tmp_path,
        b"clip_id,annotator_1,annotator_2\n"
        b"a,Martian,African\n"  # an unknown name costs that answer only
        b"a,Martian,African\n"  # the same again
        b"z,African,African\n"
        b"b,African\n"
        b"c,\xff\xfe,African\n"
        b"c,African,African\n"
        b"b,African,African\n"
        b"b,African,Caucasian\n",  # contradicts the line before: neither counts
    )
    assert answers.by_clip["a"] == {"annotator_1": None, "annotator_2": "African"}
    assert set(answers.by_clip) == {"a", "c"}
    assert sorted(problem.split(":")[0] for problem in problems) == ["2", "3", "4", "5", "6", "9"]
    assert any("'Martian' is not one of African, Caucasian, East Asian, South Asian" in problem for problem in problems)
    assert any("line 2 already" in problem for problem in problems)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"clip,annotator_1,annotator_2\na,African,African\n", "clip_id is missing"),
        (b"clip_id;annotator_1;annotator_2\na;African;African\n", "clip_id is missing"),
        (b"clip_id,annotator_1\na,African\n", "needs 2 columns annotator_1"),
        (b"clip_id,annotator_1,annotator_2,annotator_3\na,African,African,African\n", "needs 2 columns"),
        (b"clip_id,annotator_1,annotator_1\na,African,African\n", "occurs twice"),
        (b"", "empty"),
        ("clip_id,annotator_1,annotator_2\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        votes(tmp_path, content)
    with pytest.raises(DatasetError, match=r"nothing\.csv: no such file"):
        read_overrides(tmp_path / "nothing.csv", Report(), GCC_FER, CLIPS)


def test_estimates_survive_writing_exactly(tmp_path: Path) -> None:
    estimates = {
        "a": ClipEstimate("African", 0.7499999999999999, "black"),
        "b": ClipEstimate(None, 1 / 3, "middle eastern"),
    }
    report = Report()
    again = read_estimates(write_estimates(tmp_path / "e.csv", estimates), report, GCC_FER, CLIPS)
    assert again == estimates
    assert not report.problems


@pytest.mark.parametrize("confidence", ["92.3", "-0.1", "nan", "inf", "", "high"])
def test_confidence_is_no_percentage(tmp_path: Path, confidence: str) -> None:
    file, report = tmp_path / "e.csv", Report()
    file.write_text(f"clip_id,culture,confidence\na,African,{confidence}\n")
    assert not read_estimates(file, report, GCC_FER, CLIPS)
    assert "not between 0 and 1" in str(report.problems[0])
    assert f"{file}:2:" in str(report.problems[0])


def test_overrides(tmp_path: Path) -> None:
    file, report = tmp_path / "o.csv", Report()
    file.write_text('clip_id,culture,note\na,Indian,"born in Delhi, says so"\nb,Atlantis,\n')
    assert read_overrides(file, report, ETHNICMER, CLIPS) == {"a": Override("Asian", "born in Delhi, says so")}
    assert "'Atlantis'" in str(report.problems[0])
