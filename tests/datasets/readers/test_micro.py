"""CASME II and SAMM: coding sheets, frame numbers, missing apexes, and the two label maps."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import openpyxl
import pytest

from ray_fer.datasets import read
from ray_fer.datasets.au_codes import AUCode, parse_au_codes
from ray_fer.datasets.micro_labels import micro_emotion, micro_label
from ray_fer.datasets.reading import DatasetError
from tests.datasets.readers.trees import frames, text

CASME2_HEADER = [
    "Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None, "Action Units", "Estimated Emotion",
]  # fmt: skip
SAMM_HEADER = [
    "Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame", "Offset Frame", "Duration", "Micro",
    "Action Units", "Estimated Emotion", "Objective Classes", "Notes",
]  # fmt: skip


def sheet(path: Path, rows: list[list[object]], preamble: int = 0) -> Path:
    book = openpyxl.Workbook()
    for number in range(preamble):
        book.active.append([f"About this file, line {number}"])
    for row in rows:
        book.active.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)
    return path


def casme2(root: Path, rows: list[list[object]]) -> Path:
    return sheet(root / "CASME2-coding-updated.xlsx", [CASME2_HEADER, *rows])


def images(folder: Path, first: int, last: int, pattern: str = "reg_img{}.jpg") -> None:
    frames(folder, [pattern.format(number) for number in range(first, last + 1)])


def test_casme2_rows(tmp_path: Path) -> None:
    casme2(
        tmp_path,
        [
            [1, "EP02_01f", None, 46, 59, 86, None, "12", "happiness"],
            [1, "EP03_02", None, 131, "/", 161, None, "4+L10", "disgust"],
            [17, "EP01_06", None, 9, 12, 30, None, "4", "others"],
        ],
    )
    images(tmp_path / "Cropped/sub01/EP02_01f", 46, 110)
    images(tmp_path / "Cropped/sub01/EP03_02", 131, 161)
    reading = read("casme2", tmp_path)
    assert reading.report.problems == []
    assert dict(reading.report.left_out) == {"Others (ethnicmer)": 1}
    happy, disgusted = reading.clips
    assert (happy.label, happy.subject_id, happy.media) == ("Positive", "casme2/sub01", "frames")
    # Positions in the folder, whose names sort img46 before img110.
    assert (happy.onset, happy.apex, happy.offset) == (0, 13, 40)
    assert (disgusted.label, disgusted.onset, disgusted.apex, disgusted.offset) == ("Negative", 0, 15, 30)
    assert not json.loads(happy.annotations or "")["apex_estimated"]
    notes = json.loads(disgusted.annotations or "")
    assert notes["apex_estimated"]
    assert notes["action_units"] == "4+L10"
    assert [(code["au"], code["side"]) for code in notes["aus"]] == [(4, None), (10, "L")]


def test_frames_that_are_not_there(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        [1, "EP01", None, 5, 8, 20, None, "4", "disgust"],  # onset is no frame
        [1, "EP02", None, 10, 99, 20, None, "4", "disgust"],  # apex is no frame
        [1, "EP03", None, 14, 11, 20, None, "4", "disgust"],  # apex before onset
        [1, "EP04", None, 10, 15, 12, None, "4", "disgust"],  # offset before apex: kept, without offset
        [1, "EP05", None, 10, 15, 20, None, "4", "disgust"],  # no folder
        [1, "EP04", None, 10, 15, 20, None, "4", "disgust"],  # twice
        ["x", "EP06", None, 10, 15, 20, None, "4", "disgust"],
        [1, "EP07", None, 10, 15, 20, None, "4", "boredom"],
    ]
    path = casme2(tmp_path, rows)
    for number in (1, 2, 3, 4):
        images(tmp_path / f"Cropped/sub01/EP0{number}", 10, 20)
    reading = read("casme2", tmp_path)
    (clip,) = reading.clips
    assert (clip.label, clip.onset, clip.apex, clip.offset) == ("Negative", 0, 5, None)
    assert "sub01/EP04: offset '12' is no frame after the apex; it is left empty (CASME2-coding-updated.xlsx:5)" in (
        reading.report.notes
    )
    assert [(p.file, p.line) for p in reading.report.problems] == [(path, line) for line in (2, 3, 4, 6, 7, 8, 9)]
    reasons = [problem.reason for problem in reading.report.problems]
    assert reasons[0] == "onset '5' is no frame of sub01/EP01 (reg_img10.jpg to reg_img20.jpg)"
    assert reasons[1] == "apex '99' is no frame of sub01/EP02"
    assert "before its onset" in reasons[2]
    assert "no frames in" in reasons[3]
    assert "listed twice" in reasons[4]
    assert "no subject" in reasons[5]
    assert "emotion 'boredom' is not one of Anger" in reasons[6]


def test_samm_rows(tmp_path: Path) -> None:
    rows: list[list[object]] = [
        SAMM_HEADER,
        ["006", "006_1_2", "x", 5562, 5588, 5632, 71, "Micro", "4+7A", "Anger", 4, ""],
        [11, "011_1_1", "x", 1, -1, 9, 9, "Micro", "14R or 15", "Other", 7, ""],
        [11, "011_1_2", "x", 1, -1, 9, 9, "Micro", "12C", "Happiness", 1, ""],
    ]
    sheet(tmp_path / "SAMM_Micro_FACS_Codes_v2.xlsx", rows, preamble=12)
    images(tmp_path / "006/006_1_2", 5562, 5632, "006_{:05d}.jpg")
    images(tmp_path / "011/011_1_1", 1, 9, "011_{:05d}.jpg")
    images(tmp_path / "011/011_1_2", 1, 9, "011_{:05d}.jpg")
    reading = read("samm", tmp_path)
    assert reading.report.problems == []
    assert dict(reading.report.left_out) == {"Others (ethnicmer)": 1}
    angry, happy = reading.clips
    assert (angry.label, angry.subject_id, angry.onset, angry.apex, angry.offset) == ("Negative", "samm/006", 0, 26, 70)
    assert (happy.label, happy.subject_id, happy.apex) == ("Positive", "samm/011", 4)
    assert [clip.label for clip in read("samm", tmp_path, labels="emotions").clips] == ["Anger", "Others", "Happiness"]


def test_ethnicity_from_a_file_and_from_the_sheet(tmp_path: Path) -> None:
    header = [*CASME2_HEADER, "Race"]
    rows: list[list[object]] = [
        header,
        [1, "EP01", None, 1, 2, 3, None, "4", "disgust", 2],
        [2, "EP01", None, 1, 2, 3, None, "4", "disgust", 0],
        [3, "EP01", None, 1, 2, 3, None, "4", "disgust", "Error"],
    ]
    path = sheet(tmp_path / "CASME2-coding-updated.xlsx", rows)
    for subject in (1, 2, 3):
        images(tmp_path / f"Cropped/sub0{subject}/EP01", 1, 3)
    reading = read("casme2", tmp_path)
    assert [clip.culture for clip in reading.clips] == ["Asian", "Non-Asian", "Unknown"]
    assert [str(problem) for problem in reading.report.problems] == [
        f"{path}:4: subject '3', ethnicity 'Error': expected one of Caucasian, African, Asian, Indian, Others"
    ]
    # Tables I and II: Indian and Others count as Asian, Caucasian and African as Non-Asian.
    table = text(tmp_path / "e.csv", "subject,ethnicity\n1,Indian\nsub02,Others\n03,African\n")
    reading = read("casme2", tmp_path, ethnicity=table)
    assert [clip.culture for clip in reading.clips] == ["Asian", "Asian", "Non-Asian"]
    assert json.loads(reading.clips[0].annotations or "")["ethnicity"] == "Indian"
    text(table, "subject,ethnicity\n1,Indian\n1,African\n")
    reading = read("casme2", tmp_path, ethnicity=table)
    assert reading.report.problems[0].reason == "subject 1 is African here and Indian before; neither is used"
    assert any("--ethnicity FILE" in note for note in reading.report.notes)


def test_sheets_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no coding sheet CASME2-coding"):
        read("casme2", tmp_path)
    (tmp_path / "Cropped").mkdir()
    path = text(tmp_path / "CASME2-coding-updated.xlsx", b"PK\x03\x04 not really")
    with pytest.raises(DatasetError, match=r"not a readable \.xlsx sheet"):
        read("casme2", tmp_path)
    sheet(path, [["Subject", "Filename", "OnsetFrame"]])
    with pytest.raises(DatasetError, match=r"no row holds the headers Subject, Filename, OnsetFrame, ApexFrame"):
        read("casme2", tmp_path)
    sheet(path, [[*CASME2_HEADER, "Subject"]])
    with pytest.raises(DatasetError, match="header 'subject' occurs twice"):
        read("casme2", tmp_path)


# The releases' emotion counts: CASME II 256 rows, SAMM 159 rows.
CASME2_EMOTIONS = {
    "happiness": 32, "disgust": 64, "repression": 27, "surprise": 25, "sadness": 7, "fear": 2, "others": 99,
}  # fmt: skip
SAMM_EMOTIONS = {
    "Anger": 57, "Contempt": 12, "Disgust": 9, "Fear": 8, "Happiness": 26, "Other": 26, "Sadness": 6, "Surprise": 15,
}  # fmt: skip


def mapped(label_map: str, dataset: str, words: dict[str, int], dropped: tuple[str, ...] = ()) -> Counter[str]:
    """Classes of all clips of a release; the `dropped` clips are Disgust, as three of CASME II's are negative."""
    clips = [(word, f"clip{number}") for word, count in words.items() for number in range(count)]
    clips = [clip for clip in clips if clip[0] != "disgust"] + [
        ("disgust", dropped[number] if number < len(dropped) else f"d{number}")
        for number in range(words.get("disgust", 0))
    ]
    found: Counter[str] = Counter()
    for word, clip in clips:
        emotion = micro_emotion(word)
        assert emotion is not None
        label = micro_label(label_map, dataset, emotion, clip)
        if label is not None:
            found[label] += 1
    return found


def test_megc_gives_145_133_and_164_clips() -> None:
    dropped = ("sub04/EP12_01f", "sub05/EP12_03f", "sub24/EP02_07")
    casme = mapped("megc", "casme2", CASME2_EMOTIONS, dropped)
    assert (casme["Negative"], casme["Positive"], casme["Surprise"], sum(casme.values())) == (88, 32, 25, 145)
    samm = mapped("megc", "samm", SAMM_EMOTIONS)
    assert (samm["Negative"], samm["Positive"], samm["Surprise"], sum(samm.values())) == (92, 26, 15, 133)
    smic = Counter(
        micro_label("megc", "smic", word) for word in ["Negative"] * 70 + ["Positive"] * 51 + ["Surprise"] * 43
    )
    assert sum(smic.values()) == 164
    assert smic["Negative"] == 70


def test_ethnicmer_gives_table_iii() -> None:
    casme, samm = mapped("ethnicmer", "casme2", CASME2_EMOTIONS), mapped("ethnicmer", "samm", SAMM_EMOTIONS)
    assert sum(casme.values()) == 157
    assert sum(samm.values()) == 133
    assert casme + samm == Counter({"Negative": 192, "Positive": 58, "Surprise": 40})


@pytest.mark.parametrize(
    ("written", "codes", "strange"),
    [
        ("4+L10", [AUCode(4), AUCode(10, "L")], []),
        ("12+15", [AUCode(12), AUCode(15)], []),
        ("R14", [AUCode(14, "R")], []),
        ("12R+14B", [AUCode(12, "R"), AUCode(14, None, "B")], []),
        ("AU9 or 10", [AUCode(9, certain=False), AUCode(10, certain=False)], []),
        ("4+?", [AUCode(4)], ["?"]),
        ("", [], []),
        ("4+123", [AUCode(4)], ["123"]),
    ],
)
def test_au_codes(written: str, codes: list[AUCode], strange: list[str]) -> None:
    assert parse_au_codes(written) == (codes, strange)


def test_which_sheet_is_read(tmp_path: Path) -> None:
    images(tmp_path / "Cropped/sub01/EP01", 1, 3)
    rows = {"20140508": "disgust", "updated": "surprise"}
    for name, emotion in rows.items():
        row: list[object] = [1, "EP01", None, 1, 2, 3, None, "4", emotion]
        sheet(tmp_path / f"CASME2-coding-{name}.xlsx", [CASME2_HEADER, row])
    assert read("casme2", tmp_path).clips[0].label == "Surprise"
    assert read("casme2", tmp_path, lists=tmp_path / "CASME2-coding-20140508.xlsx").clips[0].label == "Negative"
    sheet(tmp_path / "CASME2-coding-2013.xlsx", [CASME2_HEADER])
    (tmp_path / "CASME2-coding-updated.xlsx").unlink()
    with pytest.raises(DatasetError, match=r"are all there; choose one with --lists FILE"):
        read("casme2", tmp_path)


def test_an_exported_sheet_with_line_breaks_in_cells(tmp_path: Path) -> None:
    images(tmp_path / "006/006_1_2", 1, 9, "006_{:05d}.jpg")
    images(tmp_path / "006/006_1_3", 1, 9, "006_{:05d}.jpg")
    header = ",".join(SAMM_HEADER)
    rows = [
        '006,006_1_2,x,1,3,9,9,Micro,4,Anger,4,"two\nlines"',
        "006,006_1_3,x,1,3,9,9,Micro,4,Anger,4,fine",
        '006,006_1_4,x,1,3,9,9,Micro,4,Anger,4,"broken" quote',
    ]
    path = text(tmp_path / "SAMM_Micro_FACS_Codes_v2.csv", "About\n" + header + "\n" + "\n".join(rows) + "\n")
    reading = read("samm", tmp_path)
    assert [clip.clip_id for clip in reading.clips] == ["samm/006/006_1_2", "samm/006/006_1_3"]
    assert [(problem.file, problem.line) for problem in reading.report.problems] == [(path, 6)]


def test_hidden_files_are_no_frames(tmp_path: Path) -> None:
    casme2(tmp_path, [[1, "EP01", None, 1, 2, 3, None, "4", "disgust"]])
    images(tmp_path / "Cropped/sub01/EP01", 1, 3)
    images(tmp_path / "Cropped/sub01/EP01", 1, 3, "._reg_img{}.jpg")
    assert read("casme2", tmp_path).clips[0].apex == 1
