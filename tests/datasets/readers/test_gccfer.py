"""GCC-FER: the sample's folders, a CSV, and DFEW's clips by ethnicity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_fer.datasets import read
from ray_fer.datasets.reading import DatasetError
from ray_fer.video.frame_folder import frame_files
from tests.datasets.readers.trees import dfew_frames, dfew_lists, frames, text, video

PLAIN = [f"face_{number:02d}.jpg" for number in range(1, 17)]


@pytest.mark.parametrize(
    "second",
    [
        [f"face_{number:02d}n (2).jpg" for number in range(1, 17)],
        [f"face_01n ({number}).jpg" for number in range(1, 17)],
    ],
    ids=["first number counts", "bracket counts"],
)
def test_two_clips_share_a_folder(tmp_path: Path, second: list[str]) -> None:
    folder = tmp_path / "GCCFER_sample" / "South Asian" / "Happy"
    frames(folder, PLAIN + second)
    frames(tmp_path / "GCCFER_sample" / "Africa" / "Surprise", PLAIN)
    frames(tmp_path / "GCCFER_sample" / "Africa" / "Bored", PLAIN)
    frames(tmp_path / "GCCFER_sample" / "Atlantis" / "Sad", PLAIN)
    reading = read("gccfer", tmp_path)
    assert {problem.file.name for problem in reading.report.problems} == {"Bored", "Atlantis"}
    assert sorted((clip.culture, clip.label) for clip in reading.clips) == [
        ("African", "Surprise"), ("South Asian", "Happy"), ("South Asian", "Happy"),
    ]  # fmt: skip
    found = [[file.name for file in frame_files(c.path)] for c in reading.clips if c.culture == "South Asian"]
    assert sorted(found) == sorted([PLAIN, second])


def test_a_folder_with_brackets_in_its_name(tmp_path: Path) -> None:
    frames(tmp_path / "[1] sample" / "Caucasian" / "Sad", PLAIN)
    (clip,) = read("gccfer", tmp_path / "[1] sample").clips
    assert len(frame_files(clip.path)) == 16


def test_strange_files_and_short_clips(tmp_path: Path) -> None:
    folder = frames(tmp_path / "East Asia" / "Fear", [*PLAIN[:5], "me.jpg"])
    reading = read("gccfer", tmp_path)
    assert [str(problem) for problem in reading.report.problems] == [
        f"{folder / 'me.jpg'}: the name is not like face_01.jpg or face_01n (2).jpg"
    ]
    assert any("has 5 frames, not 16" in note for note in reading.report.notes)
    assert "East Asian: 1 clips; published are 4,556" in reading.report.differences


def test_table(tmp_path: Path) -> None:
    video(tmp_path / "clips/a.mp4", count=1)
    table = text(
        tmp_path / "all.csv",
        "path,culture,expression\n"
        "clips/a.mp4,south_asian,Happy\nclips/a.mp4,South Asian,happy\nclips/b.mp4,African,Sad\n"
        "clips/a.mp4,Martian,Sad\nclips/a.mp4,African,3\n",
    )
    reading = read("gccfer", tmp_path)
    assert [(clip.culture, clip.label, clip.media) for clip in reading.clips] == [("South Asian", "Happy", "video")]
    assert [(problem.file, problem.line) for problem in reading.report.problems] == [(table, n) for n in (3, 4, 5, 6)]


@pytest.mark.parametrize("form", ["names", "records by name", "list", "by culture"])
def test_dfew_clips_by_ethnicity(tmp_path: Path, form: str) -> None:
    dfew = tmp_path / "dfew"
    truth = dfew_lists(dfew, "official")
    dfew_frames(dfew, list(truth))
    known = {"1": "Caucasian", "00002": "East Asian", "00099": "Caucasian"}
    content: object = known
    if form == "records by name":
        content = {name: {"ethnicity": culture} for name, culture in known.items()}
    elif form == "list":
        content = [{"video_name": name, "ethnicity": culture} for name, culture in known.items()]
    elif form == "by culture":
        content = {c: [name for name, culture in known.items() if culture == c] for c in ("Caucasian", "East Asian")}
    root = tmp_path / "gccfer"
    frames(root / "African" / "Sad", PLAIN)
    path = text(root / "dfew_ethnicity.json", json.dumps(content))
    reading = read("gccfer", root, dfew=dfew)
    from_dfew = [clip for clip in reading.clips if "/dfew/" in clip.clip_id]
    assert {clip.clip_id: (clip.culture, clip.label, clip.fold) for clip in from_dfew} == {
        "gccfer/dfew/00001": ("Caucasian", truth["00001"][0], None),
        "gccfer/dfew/00002": ("East Asian", truth["00002"][0], None),
    }
    assert len(reading.clips) == 3
    assert [str(problem) for problem in reading.report.problems] == [f"{path}: clip 00099 is not in {dfew}"]
    assert reading.report.left_out["DFEW clips without an ethnicity"] == 8


def test_json_that_cannot_be_used(tmp_path: Path) -> None:
    truth = dfew_lists(tmp_path / "dfew", "official")
    dfew_frames(tmp_path / "dfew", list(truth))
    path = text(tmp_path / "e.json", '{"00001": "Caucasian", "1": "East Asian"}')
    with pytest.raises(DatasetError, match="clip 00001 is both Caucasian and East Asian"):
        read("gccfer", tmp_path, dfew=tmp_path / "dfew", ethnicity=path)
    path.write_text('{"00001": "Caucasian", "00001": "East Asian"}')
    with pytest.raises(DatasetError, match="clip 00001 is both Caucasian and East Asian"):
        read("gccfer", tmp_path, dfew=tmp_path / "dfew", ethnicity=path)
    for content, reason in ((b"{", "not JSON"), (b"3", "expected an object"), (b"\xff", "not JSON")):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=reason):
            read("gccfer", tmp_path, dfew=tmp_path / "dfew", ethnicity=path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="neither a CSV of path,culture,expression nor folders"):
        read("gccfer", tmp_path / "empty")
    with pytest.raises(DatasetError, match="not a folder; variant folders"):
        read("gccfer", path, variant="folders")


def test_many_clips_in_one_folder_and_unpadded_numbers(tmp_path: Path) -> None:
    """18 clips: grouping by the bracket would give 16 "clips" of 18 frames, each of another video."""
    names = [f"face_{frame:02d}n ({clip}).jpg" for clip in range(2, 20) for frame in range(1, 17)]
    folder = frames(tmp_path / "African" / "Sad", names + [f"face_{frame}.jpg" for frame in range(1, 17)])
    reading = read("gccfer", tmp_path)
    assert reading.report.problems == []
    assert sorted(len(frame_files(clip.path)) for clip in reading.clips) == [16] * 19
    assert all(len({file.name.split("(")[-1] for file in frame_files(c.path)}) in (1, 16) for c in reading.clips)
    (folder / names[0]).unlink()
    reading = read("gccfer", tmp_path)
    assert len(reading.clips) == 1  # the plain one
    assert [str(problem) for problem in reading.report.problems] == [
        f"{folder}: 287 files like face_01n (2).jpg do not group into clips of 16 frames by either number"
    ]


def test_videos_folders_and_strange_names_in_an_expression(tmp_path: Path) -> None:
    video(tmp_path / "Africa/Happy/a.mp4", count=1)
    frames(tmp_path / "Africa/Happy/clip1", PLAIN)
    text(tmp_path / "Africa/Happy/face_01{a} (1).txt", "x")
    text(tmp_path / "Africa/notes.txt", "x")
    frames(tmp_path / "Africa/Happy", ["._face_01.jpg"])
    reading = read("gccfer", tmp_path)
    assert {Path(clip.path).name: clip.media for clip in reading.clips} == {"a.mp4": "video", "clip1": "frames"}
    assert {problem.file.name for problem in reading.report.problems} == {"face_01{a} (1).txt", "notes.txt"}
