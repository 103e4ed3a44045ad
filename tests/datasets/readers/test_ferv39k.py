"""FERV39k: words and two orders of integers, each checked against the emotion in the path."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_fer.datasets import read
from ray_fer.datasets.reading import DatasetError
from ray_fer.labels import EXPRESSIONS
from tests.datasets.readers.trees import DFEW_ORDER, frames, text

CLIPS = [f"{scene}/{emotion}/{number:04d}" for number, emotion in enumerate(EXPRESSIONS) for scene in ("War", "Action")]
TRAIN, TEST = CLIPS[:10], CLIPS[10:]


def lists(root: Path, variant: str) -> None:
    for split, clips in (("train", TRAIN), ("test", TEST)):
        emotions = [clip.split("/")[1] for clip in clips]
        pairs = list(zip(clips, emotions, strict=True))
        if variant == "official":
            text(root / f"4_setups/All_scenes/{split}_All.csv", "\n".join(f"{c} {e}" for c, e in pairs))
        elif variant == "s2d":
            lines = ["path,id", *(f"{c},{sorted(EXPRESSIONS).index(e)}" for c, e in pairs)]
            text(root / f"Annotation/{split}.csv", "\r\n".join(lines))
            index = "".join(f"{name} {number}\r\n" for number, name in enumerate(sorted(EXPRESSIONS)))
            text(root / "Annotation/label_index.txt", index)
        elif variant == "dfer-clip":
            lines = [f"/data/FERV39K/2_ClipsforFaceCrop/{c} 2 {DFEW_ORDER.index(e)}" for c, e in pairs]
            text(root / f"annotation/FERV39K_{split}.txt", "\n".join(lines))
        else:
            lines = [f"/mnt/FERV39k/2_ClipsforFaceCrop/{c} {DFEW_ORDER.index(e)}" for c, e in pairs]
            text(root / f"saved/data/ferv39k/all_scenes/{split}.csv", "\n".join(lines))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for clip in CLIPS:
        frames(tmp_path / "2_ClipsforFaceCrop" / clip, ["0001.jpg", "0002.jpg"])
    return tmp_path


@pytest.mark.parametrize("variant", ["official", "s2d", "dfer-clip", "mae-dfer"])
def test_every_release_gives_the_same_clips(root: Path, variant: str) -> None:
    lists(root, variant)
    reading = read("ferv39k", root)
    assert (reading.variant, reading.report.problems) == (variant, [])
    assert {c.clip_id.removeprefix("ferv39k/"): (c.label, c.split, c.fold) for c in reading.clips} == {
        clip: (clip.split("/")[1], "train" if clip in TRAIN else "test", None) for clip in CLIPS
    }


def test_a_label_that_differs_from_the_path_is_refused(root: Path) -> None:
    lists(root, "dfer-clip")
    path = root / "annotation/FERV39K_train.txt"
    path.write_text(path.read_text().replace("War/Angry/0000 2 3", "War/Angry/0000 2 0"))
    reading = read("ferv39k", root)
    (problem,) = reading.report.problems
    assert str(problem) == f"{path}:1: clip War/Angry/0000 is labelled Happy"
    assert len(reading.clips) == len(CLIPS) - 1


def test_lists_in_the_other_order_give_no_clip(root: Path) -> None:
    """S2D's file with DFEW-order integers: the two orders agree on no class."""
    lists(root, "s2d")
    for split, clips in (("train", TRAIN), ("test", TEST)):
        lines = ["path,id", *(f"{clip},{DFEW_ORDER.index(clip.split('/')[1])}" for clip in clips)]
        text(root / f"Annotation/{split}.csv", "\n".join(lines))
    with pytest.raises(DatasetError, match=r"no clip of ferv39k can be used; the first of 14 problems: .* is labelled"):
        read("ferv39k", root)


def test_an_index_file_that_says_otherwise_is_an_error(root: Path) -> None:
    lists(root, "s2d")
    text(root / "Annotation/label_index.txt", "Happy 0\nSad 1\n")
    with pytest.raises(DatasetError, match=r"label_index.txt:1: says 0 is Happy, but in ferv39k-s2d it is Angry"):
        read("ferv39k", root)


def test_unknown_words_and_paths(root: Path) -> None:
    lists(root, "official")
    with (root / "4_setups/All_scenes/train_All.csv").open("a") as file:
        file.write(
            "\nWar/Angry/0000 Furious\nWar/0001 Angry\nWar/Bored/0001 Angry\nWar/Angry/9999 Angry\n../../Angry/1 Angry"
        )
    reading = read("ferv39k", root)
    reasons = [problem.reason for problem in reading.report.problems]
    assert any("label 'Furious' is not one of angry, anger" in reason for reason in reasons)
    assert any("'War/0001' is no clip name" in reason for reason in reasons)
    assert any("the path names no emotion: 'Bored'" in reason for reason in reasons)
    assert any("no video or frames of clip War/Angry/9999" in reason for reason in reasons)
    assert any("'../../Angry/1' is no clip name" in reason for reason in reasons)
    assert len(reading.clips) == len(CLIPS)
