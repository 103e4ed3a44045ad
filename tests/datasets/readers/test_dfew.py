"""DFEW: every copy that is handed around gives the same labels, and a file of another base is refused."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from ray_fer.datasets import read
from ray_fer.datasets.reading import DatasetError
from tests.datasets.readers.trees import DFEW_ORDER, dfew_frames, dfew_lists, frames, text, video

VARIANTS = ["official", "s2d", "dfer-clip", "mae-dfer", "jiangxingxun"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_release_gives_the_same_clips(tmp_path: Path, variant: str) -> None:
    truth = dfew_lists(tmp_path, variant)
    dfew_frames(tmp_path, list(truth))
    reading = read("dfew", tmp_path)
    assert reading.variant == variant
    assert reading.report.problems == []
    assert {clip.clip_id: (clip.label, clip.fold) for clip in reading.clips} == {
        f"dfew/{clip}": known for clip, known in truth.items()
    }
    clip = reading.clips[0]
    assert (clip.media, clip.split, Path(clip.path).name) == ("frames", None, clip.clip_id.removeprefix("dfew/"))


@pytest.mark.parametrize("spelling", ["(single_labeled)", "(single-labeled)"])
@pytest.mark.parametrize("variant", ["official", "s2d"])
def test_both_folder_spellings(tmp_path: Path, variant: str, spelling: str) -> None:
    truth = dfew_lists(tmp_path, variant, spelling)
    dfew_frames(tmp_path, list(truth))
    assert len(read("dfew", tmp_path).clips) == 10


def test_original_videos_and_interpolated_frames(tmp_path: Path) -> None:
    truth = dfew_lists(tmp_path, "official")
    for clip in truth:
        video(tmp_path / "Clip" / "original" / f"{clip}.mp4")
    assert {clip.media for clip in read("dfew", tmp_path).clips} == {"video"}
    dfew_frames(tmp_path, list(truth), "Clip/clip_224x224_16f")
    reading = read("dfew", tmp_path)
    assert {clip.media for clip in reading.clips} == {"frames"}
    assert any("interpolated in time" in note for note in reading.report.notes)
    assert any("--media chooses another" in note for note in reading.report.notes)
    assert {c.media for c in read("dfew", tmp_path, media=tmp_path / "Clip/original").clips} == {"video"}


@pytest.mark.parametrize(("variant", "shift"), [("official", -1), ("s2d", 1), ("jiangxingxun", 1)])
def test_a_file_of_another_base_is_refused(tmp_path: Path, variant: str, shift: int) -> None:
    """The most likely silent bug: 1-based numbers read as 0-based make every label another one."""
    truth = dfew_lists(tmp_path, variant)
    dfew_frames(tmp_path, list(truth))
    for path in tmp_path.rglob("*.csv"):
        path.write_text(re.sub(r",(\d)$", lambda m: f",{int(m[1]) + shift}", path.read_text(), flags=re.MULTILINE))
    with pytest.raises(DatasetError, match=r"labels count from [01], but format dfew-.* counts from [01]"):
        read("dfew", tmp_path)


def test_a_file_that_mixes_bases_fits_none(tmp_path: Path) -> None:
    truth = dfew_lists(tmp_path, "official")
    dfew_frames(tmp_path, list(truth))
    text(tmp_path / "EmoLabel_DataSplit/test(single_labeled)/set_1.csv", "video_name,label\n1,0\n6,7\n")
    with pytest.raises(DatasetError, match="mixes two encodings"):
        read("dfew", tmp_path)


def test_rows_that_cannot_be_used_are_named_by_file_and_line(tmp_path: Path) -> None:
    truth = dfew_lists(tmp_path, "official")
    dfew_frames(tmp_path, [clip for clip in truth if clip != "00003"])
    path = tmp_path / "EmoLabel_DataSplit/test(single_labeled)/set_1.csv"
    path.write_bytes(b"\xef\xbb\xbfvideo_name, label \r\n1,1\r\n6,six\r\n\r\nclip6,6\r\n6,6,6\r\n\xff\xfe,6\r\n1,1\r\n")
    reading = read("dfew", tmp_path)
    said = [(problem.line, problem.reason) for problem in reading.report.problems if problem.file == path]
    assert sorted(line for line, _ in said if line is not None) == [3, 5, 6, 7, 8]
    reasons = dict(said)
    assert "'six' is not an integer from 1 to 7 (dfew-official)" in reasons[3]
    assert "no clip name" in reasons[5]
    assert "3 cells under 2 headers" in reasons[6]
    assert "not utf-8 text" in reasons[7]
    assert "listed twice" in reasons[8]
    missing = [problem for problem in reading.report.problems if "no video or frames of clip 00003" in problem.reason]
    assert len(missing) == 1
    assert "dfew/00003" not in {clip.clip_id for clip in reading.clips}
    # Fold 1 tests clip 6 no longer, so that clip can only be trained on.
    assert {clip.clip_id: clip.fold for clip in reading.clips}["dfew/00006"] is None
    assert any("1 clips are in no test list" in note for note in reading.report.notes)


def test_lists_that_contradict_each_other_cost_the_clip(tmp_path: Path) -> None:
    truth = dfew_lists(tmp_path, "official")
    dfew_frames(tmp_path, list(truth))
    train = tmp_path / "EmoLabel_DataSplit/train(single_labeled)"
    train.joinpath("set_2.csv").write_text(train.joinpath("set_2.csv").read_text().replace("\n1,1\n", "\n1,2\n"))
    train.joinpath("set_3.csv").write_text(train.joinpath("set_3.csv").read_text() + "3,3\n")
    test = tmp_path / "EmoLabel_DataSplit/test(single_labeled)"
    test.joinpath("set_4.csv").write_text(test.joinpath("set_4.csv").read_text() + "5,5\n")
    train.joinpath("set_4.csv").write_text(train.joinpath("set_4.csv").read_text().replace("\n5,5\n", "\n"))
    reading = read("dfew", tmp_path)
    reasons = " | ".join(problem.reason for problem in reading.report.problems)
    assert "clip 00001 is Sad here and Happy in set_2.csv:2" in reasons or "clip 00001 is Happy here and Sad" in reasons
    assert "clip 00003 is in train and test of fold 3" in reasons
    assert "clip 00005 is tested in folds 5, 4" in reasons or "clip 00005 is tested in folds 4, 5" in reasons
    kept = {clip.clip_id for clip in reading.clips}
    assert len(kept) == 7
    assert not kept & {"dfew/00001", "dfew/00003", "dfew/00005"}


def test_one_fold_alone_is_a_split(tmp_path: Path) -> None:
    truth = dfew_lists(tmp_path, "official")
    dfew_frames(tmp_path, list(truth))
    for path in tmp_path.rglob("set_[2-5].csv"):
        path.unlink()
    reading = read("dfew", tmp_path)
    assert {clip.clip_id: (clip.split, clip.fold) for clip in reading.clips} == {
        f"dfew/{clip}": ("test", 1) if fold == 1 else ("train", None) for clip, (_, fold) in truth.items()
    }


def test_two_releases_side_by_side_need_a_choice(tmp_path: Path) -> None:
    truth = dfew_lists(tmp_path, "official")
    dfew_lists(tmp_path, "mae-dfer")
    dfew_frames(tmp_path, list(truth))
    with pytest.raises(DatasetError, match="lists of official and mae-dfer are both there; choose one with --variant"):
        read("dfew", tmp_path)
    assert read("dfew", tmp_path, variant="mae-dfer").variant == "mae-dfer"
    with pytest.raises(DatasetError, match="unknown variant 'x'; expected one of official, s2d"):
        read("dfew", tmp_path, variant="x")


def test_lists_and_media_elsewhere(tmp_path: Path) -> None:
    truth = dfew_lists(tmp_path / "code", "dfer-clip")
    dfew_frames(tmp_path / "disk", list(truth), "my frames")
    with pytest.raises(DatasetError, match=r"no lists found; looked for .*set_\{fold\}.csv.* pass --lists"):
        read("dfew", tmp_path / "disk")
    with pytest.raises(DatasetError, match="no folder of clips; looked for Clip/clip_224x224"):
        read("dfew", tmp_path / "code")
    reading = read("dfew", tmp_path / "disk", lists=tmp_path / "code", media=tmp_path / "disk/my frames")
    assert len(reading.clips) == 10
    frames(tmp_path / "disk/my frames/00001", ["00001_00004.jpg", "00001_00005.jpg"])
    reading = read("dfew", tmp_path / "disk", lists=tmp_path / "code", media=tmp_path / "disk/my frames")
    assert any(note.startswith("1 clips hold another number of frames") for note in reading.report.notes)


def test_published_fold_sizes_and_class_counts(tmp_path: Path) -> None:
    """All 11,697 clips, with the sizes of the release and fold 1's test counts."""
    sizes = {1: 2341, 2: 2341, 3: 2340, 4: 2339, 5: 2336}
    first = dict(zip(DFEW_ORDER, (489, 379, 534, 435, 294, 29, 181), strict=True))
    labels = [label for label, count in first.items() for _ in range(count)]
    tested, number = {}, 0
    for fold, size in sizes.items():
        for position in range(size):
            number += 1
            tested[number] = (fold, labels[position])
    media = tmp_path / "Clip/clip_224x224"
    picture = frames(tmp_path / "one", ["a.jpg"]) / "a.jpg"
    for clip in tested:
        folder = media / f"{clip:05d}"
        folder.mkdir(parents=True)
        (folder / "1.jpg").symlink_to(picture)
    for fold in sizes:
        for split in ("train", "test"):
            rows = [
                f"{clip},{DFEW_ORDER.index(label) + 1}"
                for clip, (found, label) in tested.items()
                if (found == fold) == (split == "test")
            ]
            path = tmp_path / "EmoLabel_DataSplit" / f"{split}(single_labeled)" / f"set_{fold}.csv"
            text(path, "video_name,label\n" + "\n".join(rows))
    reading = read("dfew", tmp_path)
    assert len(reading.clips) == 11_697
    assert reading.report.problems == []
    assert [note for note in reading.report.notes if note.startswith("fold ")] == [
        f"fold {fold}: {11_697 - size} train, {size} test, as published" for fold, size in sizes.items()
    ]
    assert Counter(clip.label for clip in reading.clips if clip.fold == 1) == first
    (tmp_path / "EmoLabel_DataSplit/test(single_labeled)/set_5.csv").write_text("video_name,label\n9362,1\n")
    assert (
        "fold 5: 9361 train, 1 test; published are 9361 train, 2336 test" in read("dfew", tmp_path).report.differences
    )


def test_lists_of_another_dataset_are_refused(tmp_path: Path) -> None:
    """MAE-DFER's lists of DFEW and MAFW have the same names, and their clips the same five digits."""
    truth = dfew_lists(tmp_path, "mae-dfer")
    for clip in truth:
        frames(tmp_path / "frames" / clip, ["1.jpg"])
    with pytest.raises(DatasetError, match="of DFEW; this is no list of mafw"):
        read("mafw", tmp_path, lists=tmp_path / "saved/data/dfew/org")


def test_many_rows_without_the_last_class_prove_another_count(tmp_path: Path) -> None:
    """A 1-based list without the classes 1 and 7 looks like a 0-based one; 500 rows that lack classes are no DFEW."""
    clips = [f"{number:05d}" for number in range(1, 600)]
    text(tmp_path / "single_trainset_1.csv", "video_name,label\n" + "".join(f"{c},{int(c) % 5 + 1}\n" for c in clips))
    dfew_frames(tmp_path, clips[:1], "data")
    with pytest.raises(DatasetError, match="Happy, Fear never occurs in 599 rows; these lists count"):
        read("dfew", tmp_path)


def test_lists_in_both_spellings_and_text_paths(tmp_path: Path) -> None:
    truth = dfew_lists(tmp_path, "official")
    dfew_frames(tmp_path, list(truth))
    base = tmp_path / "EmoLabel_DataSplit"
    (base / "test(single-labeled)").mkdir()
    (base / "test(single_labeled)/set_4.csv").rename(base / "test(single-labeled)/set_4.csv")
    reading = read("dfew", str(tmp_path), media=str(tmp_path / "Clip/clip_224x224"), lists=str(tmp_path))
    assert {clip.fold for clip in reading.clips} == {1, 2, 3, 4, 5}
    (base / "test(single-labeled)/set_4.csv").unlink()
    (base / "train(single_labeled)/set_4.csv").unlink()
    assert any(d.startswith("fold 4: 0 train, 0 test") for d in read("dfew", tmp_path).report.differences)


def test_empty_media_folders_are_not_taken(tmp_path: Path) -> None:
    truth = dfew_lists(tmp_path, "official")
    text(tmp_path / "Clip/clip_224x224/part_1.zip", b"PK")
    dfew_frames(tmp_path, list(truth), "Clip/clip_224x224_16f")
    assert len(read("dfew", tmp_path).clips) == 10


def test_a_label_of_thousands_of_digits_costs_its_row(tmp_path: Path) -> None:
    truth = dfew_lists(tmp_path, "official")
    dfew_frames(tmp_path, list(truth))
    path = tmp_path / "EmoLabel_DataSplit/test(single_labeled)/set_1.csv"
    path.write_text(f"video_name,label\n1,{'1' * 5000}\n6,6\n")
    assert [(p.file, p.line) for p in read("dfew", tmp_path).report.problems] == [(path, 2)]
