"""AFEW, SFEW, FER2013 and FER+, and a user's own folders and CSV."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ray_fer.datasets import read
from ray_fer.datasets.reading import DatasetError
from tests.datasets.readers.trees import DFEW_ORDER, frames, image, text, video

AFEW_WORDS = ("Happiness", "Sadness", "Neutral", "Anger", "Surprise", "Disgust", "Fear")


def test_afew_folders(tmp_path: Path) -> None:
    for split in ("Train_AFEW", "Val_AFEW"):
        for word in ("Angry", "Happy"):
            video(tmp_path / split / word / "000046280.avi", count=1)
    text(tmp_path / "Train_AFEW/Angry/notes.txt", "x")
    image(tmp_path / "Train_AFEW/Bored/1.png")
    reading = read("afew", tmp_path)
    assert {(clip.split, clip.label) for clip in reading.clips} == {
        ("train", "Angry"), ("train", "Happy"), ("val", "Angry"), ("val", "Happy"),
    }  # fmt: skip
    assert len({clip.clip_id for clip in reading.clips}) == 4
    reasons = {problem.file.name: problem.reason for problem in reading.report.problems}
    assert reasons["notes.txt"] == "no video, image or folder of frames"
    assert reasons["Bored"].startswith("1 clips in a folder that is no expression")


def test_afew_lists_agree_with_their_folders(tmp_path: Path) -> None:
    for split, name in (("train", "train"), ("validation", "validation")):
        lines = []
        for number, word in enumerate(AFEW_WORDS):
            frames(tmp_path / "AFEW_Face" / split / word / f"1_4_{number}", ["1.jpg", "2.jpg"])
            lines.append(f"/home/user/datasets/AFEW_Face/{split}/{word}/1_4_{number} 2 {number}")
        text(tmp_path / "annotation" / f"AFEW_{name}.txt", "\n".join(lines) + "\n")
    reading = read("afew", tmp_path)
    assert (reading.variant, reading.report.problems) == ("former-dfer", [])
    assert [clip.label for clip in reading.clips if clip.split == "val"] == list(DFEW_ORDER)
    path = tmp_path / "annotation/AFEW_train.txt"
    path.write_text(path.read_text().replace("Anger/1_4_3 2 3", "Anger/1_4_3 2 4"))
    reading = read("afew", tmp_path)
    assert [str(p) for p in reading.report.problems] == [f"{path}:4: clip train/Anger/1_4_3 is labelled Surprise"]


def test_afew_lists_of_the_other_split(tmp_path: Path) -> None:
    frames(tmp_path / "AFEW_Face/validation/Fear/1", ["1.jpg"])
    frames(tmp_path / "AFEW_Face/train/Fear/1", ["1.jpg"])
    path = text(tmp_path / "AFEW_train.txt", "/x/AFEW_Face/validation/Fear/1 1 6\n/x/AFEW_Face/train/Fear/1 1 6\n")
    reading = read("afew", tmp_path)
    assert [clip.split for clip in reading.clips] == ["train"]
    assert [str(p) for p in reading.report.problems] == [f"{path}:1: clip validation/Fear/1 is listed for split train"]


def test_sfew(tmp_path: Path) -> None:
    image(tmp_path / "Train_Aligned_Faces/Fear/a_001.png")
    image(tmp_path / "Val_Aligned_Faces_new/Fear/a_001.png")
    clips = read("sfew", tmp_path).clips
    assert [(c.split, c.label, c.media) for c in clips] == [("train", "Fear", "image"), ("val", "Fear", "image")]
    with pytest.raises(DatasetError, match="none of the folders Train_Aligned_Faces"):
        read("sfew", tmp_path / "Train_Aligned_Faces")


PIXELS = [" ".join([str(value)] * 2304) for value in (0, 90, 255)]


def fer2013(path: Path, header: str = "emotion,pixels,Usage") -> Path:
    usages = ("Training", "PublicTest", "PrivateTest")
    rows = [f"{n % 7},{PIXELS[n % 3]},{usages[n % 3]}" for n in range(9)]
    if header.startswith("emotion, Usage"):
        rows = [f"{r.split(',')[0]},{r.split(',')[2]},{r.split(',')[1]}" for r in rows]
    if "sage" not in header:
        rows = [row.rsplit(",", 1)[0] for row in rows]
    return text(path, "\n".join([header, *rows]) + "\n")


FER2013_ORDER = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral")


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("fer2013.csv", "emotion,pixels,Usage"),
        ("icml_face_data.csv", "emotion, Usage, pixels"),
        ("train.csv", "emotion,pixels"),
    ],
)
def test_fer2013_tables(tmp_path: Path, name: str, header: str) -> None:
    fer2013(tmp_path / name, header)
    reading = read("fer2013", tmp_path, images=tmp_path / "png")
    assert reading.report.problems == []
    assert [clip.label for clip in reading.clips] == [FER2013_ORDER[n % 7] for n in range(9)]
    splits = ["train"] * 9 if "sage" not in header else ["train", "val", "test"] * 3
    assert [clip.split for clip in reading.clips] == splits
    picture = cv2.imread(reading.clips[1].path, cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(picture, np.full((48, 48), 90, np.uint8))


def test_fer2013_bad_rows_and_another_base(tmp_path: Path) -> None:
    path = fer2013(tmp_path / "fer2013.csv")
    whole = path.read_text()
    path.write_text(
        whole + f"9,{PIXELS[0]},Training\n1,1 2 3,Training\n1,{PIXELS[0]},Later\n1,{PIXELS[0][:-1]}999,Training\n"
        f"1,{PIXELS[0]},\n"
    )
    reading = read("fer2013", tmp_path, images=tmp_path / "png")
    reasons = [(problem.line, problem.reason) for problem in reading.report.problems]
    assert [line for line, _ in reasons] == [11, 12, 13, 14, 15]
    assert "label '9' is not an integer from 0 to 6 (fer2013)" in reasons[0][1]
    assert "not 2304 integers" in reasons[1][1]
    assert "Usage 'Later'" in reasons[2][1]
    assert len(reading.clips) == 9
    path.write_text(f"emotion,pixels\n1,{PIXELS[0]}\n7,{PIXELS[0]}\n")
    with pytest.raises(DatasetError, match="labels count from 1, but format fer2013 counts from 0"):
        read("fer2013", tmp_path, images=tmp_path / "png")
    with pytest.raises(DatasetError, match="say where to write them with --images"):
        read("fer2013", tmp_path)


FERPLUS = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def test_ferplus_votes(tmp_path: Path) -> None:
    fer2013(tmp_path / "fer2013.csv")
    votes = ["0,0,0,0,8,2,0,0,0,0", "0,0,0,0,0,0,0,9,1,0", "5,5,0,0,0,0,0,0,0,0", "0,0,0,0,0,0,0,0,0,10",
             "0,6,4,0,0,0,0,0,0,0", "0,0,0,0,0,0,0,0,10,0", "6,0,0,4,0,0,0,0,0,0", "0,0,0,0,0,0,10,0,0,0",
             "0,0,0,6,0,4,0,0,0,0"]  # fmt: skip
    usages = ("Training", "PublicTest", "PrivateTest")
    rows = [f"{usages[n % 3]},fer{n:07d}.png,{vote}" for n, vote in enumerate(votes)]
    table = text(tmp_path / "fer2013new.csv", "\n".join([FERPLUS, *rows]))
    reading = read("fer2013", tmp_path, variant="ferplus", images=tmp_path / "png")
    assert [clip.label for clip in reading.clips] == ["Angry", "Contempt", "Happy", "Neutral", "Fear", "Sad"]
    assert dict(reading.report.left_out) == {
        "FER+: no label has more than half of the votes": 1,
        "FER+: not a face": 1,
        "FER+: unknown expression": 1,
    }
    assert json.loads(reading.clips[0].annotations or "")["votes"]["anger"] == 8
    text(table, "\n".join([FERPLUS, *rows[:-1]]))
    with pytest.raises(DatasetError, match="8 votes for 9 images"):
        read("fer2013", tmp_path, variant="ferplus", images=tmp_path / "png")
    text(table, "\n".join([FERPLUS, *rows[3:], *rows[:3]]))
    with pytest.raises(DatasetError, match=r"fer0000003.png where fer0000000.png is expected"):
        read("fer2013", tmp_path, variant="ferplus", images=tmp_path / "png")


def test_fer2013_folders(tmp_path: Path) -> None:
    image(tmp_path / "train/angry/1.png")
    image(tmp_path / "test/happy/2.png")
    reading = read("fer2013", tmp_path)
    assert [(clip.label, clip.split) for clip in reading.clips] == [("Angry", "train"), ("Happy", "test")]
    assert reading.report.notes[0] == f"no folder of split val in {tmp_path}"


def test_own_folder(tmp_path: Path) -> None:
    video(tmp_path / "happy/a.mp4", count=1)
    frames(tmp_path / "sadness/b", ["1.png"])
    clips = read("folder", tmp_path).clips
    assert [(clip.label, clip.media, clip.split) for clip in clips] == [
        ("Happy", "video", None),
        ("Sad", "frames", None),
    ]
    image(tmp_path / "0/c.png")
    reading = read("folder", tmp_path)
    assert len(reading.clips) == 2
    assert "in a folder that is no expression" in reading.report.problems[0].reason
    text(tmp_path / "map.csv", "label,expression\nhappy,Happy\nsadness,Sad\n0,Pain\n")
    assert {clip.label for clip in read("folder", tmp_path, label_map=tmp_path / "map.csv").clips} == {
        "Happy", "Sad", "Pain",
    }  # fmt: skip


def test_folders_beside_the_splits_are_reported(tmp_path: Path) -> None:
    for folder in ("train/sad", "validation/sad", "happy", "extra/sad"):
        image(tmp_path / folder / "1.png")
    image(tmp_path / "train/stray.png")
    reading = read("folder", tmp_path)
    assert sorted(clip.split or "" for clip in reading.clips) == ["train", "val"]
    assert {problem.file.name for problem in reading.report.problems} == {"happy", "extra", "stray.png"}


def test_own_segments_of_one_video(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4", count=4)
    rows = "a.mp4,sad,0,2,x\na.mp4,sad,2,4,x\na.mp4,sad,3,3,x\n"
    table = text(tmp_path / "t.csv", "path,label,start_frame,end_frame,subject\n" + rows)
    reading = read("csv", str(table))
    assert [clip.clip_id for clip in reading.clips] == ["a.mp4#0-2", "a.mp4#2-4"]
    assert "frames 3 to 3 hold nothing" in reading.report.problems[0].reason
    assert "columns subject are not read" in reading.report.notes[0]
    with pytest.raises(DatasetError, match="not a CSV file; `ray-fer import folder` reads folders"):
        read("csv", tmp_path)


def test_own_words_become_the_known_names(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    table = text(tmp_path / "t.csv", "path,label,culture\na.png,Joy,south asian\n")
    labels = text(tmp_path / "m.csv", "label,expression\njoy,happiness\n")
    (clip,) = read("csv", table, label_map=str(labels)).clips
    assert (clip.label, clip.culture) == ("Happy", "South Asian")


def test_own_csv(tmp_path: Path) -> None:
    video(tmp_path / "v/a b.mp4", count=2)
    table = text(
        tmp_path / "mine.csv",
        "path,label,culture,subject_id,split,fold,onset\n"
        'v/a b.mp4,happy,African,p1,train,2,0\n"v/a b.mp4",happy,African,,,,\nv/a b.mp4,3,,,,,\nv/none.mp4,sad,,,,,\n'
        "v/a b.mp4,sad,,,dev,,\nv/a b.mp4,sad,,,,two,\n",
    )
    reading = read("csv", table)
    (clip,) = reading.clips
    assert (clip.label, clip.culture, clip.subject_id, clip.split, clip.fold, clip.onset, clip.apex) == (
        "Happy", "African", "p1", "train", 2, 0, None,
    )  # fmt: skip
    assert {problem.line: problem.reason.split(" ")[0] for problem in reading.report.problems} == {
        3: "clip", 4: "label", 5: "no", 6: "split", 7: "fold",
    }  # fmt: skip
    text(tmp_path / "map.csv", "label,expression\n3,Happy\n3,Sad\n")
    with pytest.raises(DatasetError, match="label '3' has two meanings"):
        read("csv", table, label_map=tmp_path / "map.csv")


def test_unknown_names_and_options(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="unknown dataset 'affectnet'; expected one of dfew"):
        read("affectnet", tmp_path)
    with pytest.raises(DatasetError, match="sfew does not take --variant; its options: none"):
        read("sfew", tmp_path, variant="x")
    with pytest.raises(DatasetError, match="no such file or folder"):
        read("dfew", tmp_path / "absent")
    (tmp_path / "happy").mkdir()
    with pytest.raises(DatasetError, match="no clip of folder can be used"):
        read("folder", tmp_path)
