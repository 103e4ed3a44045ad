"""MAFW: words, and three orders of eleven integers, which only their own layout may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_fer.datasets import read
from ray_fer.datasets.reading import DatasetError
from tests.datasets.readers.trees import text, video

WORDS = {
    "Angry": "anger", "Anxiety": "anxiety", "Contempt": "contempt", "Disappointment": "disappointment",
    "Disgust": "disgust", "Fear": "fear", "Happy": "happiness", "Helplessness": "helplessness", "Neutral": "neutral",
    "Sad": "sadness", "Surprise": "surprise",
}  # fmt: skip
# As the three code bases write them down, in the words of reference/field_notes.md A.3.
ALPHABETICAL = [
    "anger",
    "anxiety",
    "contempt",
    "disappointment",
    "disgust",
    "fear",
    "happiness",
    "helplessness",
    "neutral",
    "sadness",
    "surprise",
]
DFER_CLIP = [
    "happiness",
    "sadness",
    "neutral",
    "anger",
    "surprise",
    "disgust",
    "fear",
    "contempt",
    "anxiety",
    "helplessness",
    "disappointment",
]
MAE_DFER = [
    "anger",
    "disgust",
    "fear",
    "happiness",
    "neutral",
    "sadness",
    "surprise",
    "contempt",
    "anxiety",
    "helplessness",
    "disappointment",
]
TRUTH = {f"{number + 20:05d}": label for number, label in enumerate(WORDS)}


def lists(root: Path, variant: str) -> None:
    for fold in range(1, 6):
        for split in ("train", "test"):
            members = [c for n, c in enumerate(TRUTH) if (n % 5 + 1 == fold) == (split == "test")]
            pairs = [(clip, WORDS[TRUTH[clip]]) for clip in members]
            folder = root / "Train & Test Set" / "single"
            if variant == "official":
                content = "".join(f"{clip}.mp4 {word}\r\n" for clip, word in pairs)
                text(folder / f"no_caption/set_{fold}/{split}.txt", content)
            elif variant == "captions":
                content = "".join(f"{clip}.mp4\t{word}\t一个人在笑\tA person, smiling.\r\n" for clip, word in pairs)
                text(folder / f"with_caption/set_{fold}/{split}.txt", content.encode("gb18030"))
            elif variant == "s2d":
                content = "".join(f"{clip},{ALPHABETICAL.index(word)}\n" for clip, word in pairs)
                text(root / f"anno/single/no_caption/set_{fold}/{split}.csv", "video_name,labels\n" + content)
                index = "".join(f"{n}: '{word.capitalize()}',\n" for n, word in enumerate(ALPHABETICAL))
                text(root / "anno/single/no_caption/id_to_calss.txt", index)
            elif variant == "dfer-clip":
                content = "".join(f"/data/MAFW/data/faces/{clip} 79 {DFER_CLIP.index(word)}\n" for clip, word in pairs)
                text(root / f"annotation/MAFW_set_{fold}_{split}.txt", content)
            else:
                content = "".join(f"/mnt/MAFW/data/frames/{clip} {MAE_DFER.index(word)}\n" for clip, word in pairs)
                text(root / f"saved/data/mafw/single/split0{fold}/{split}.csv", content)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for clip in TRUTH:
        video(tmp_path / "data/clips" / f"{clip}.mp4", count=1)
    return tmp_path


@pytest.mark.parametrize("variant", ["official", "captions", "s2d", "dfer-clip", "mae-dfer"])
def test_every_release_gives_the_same_labels(root: Path, variant: str) -> None:
    lists(root, variant)
    reading = read("mafw", root)
    assert (reading.variant, reading.report.problems) == (variant, [])
    assert {clip.clip_id.removeprefix("mafw/"): clip.label for clip in reading.clips} == TRUTH
    assert sorted(clip.fold or 0 for clip in reading.clips) == [1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5][: len(TRUTH)]


def test_words_are_preferred_where_one_release_has_both(root: Path) -> None:
    lists(root, "official")
    lists(root, "captions")
    assert read("mafw", root).variant == "official"
    captions = read("mafw", root, variant="captions")
    assert '"caption": "A person, smiling."' in (captions.clips[0].annotations or "")
    lists(root, "mae-dfer")
    with pytest.raises(DatasetError, match="choose one with --variant"):
        read("mafw", root)


def test_an_index_file_that_says_otherwise_is_an_error(root: Path) -> None:
    lists(root, "s2d")
    text(root / "anno/single/no_caption/id_to_calss.txt", "0: 'Happiness',\n")
    with pytest.raises(DatasetError, match="says 0 is Happiness, but in mafw-alphabetical it is Angry"):
        read("mafw", root)


def test_a_one_based_copy_is_refused(root: Path) -> None:
    lists(root, "mae-dfer")
    for path in root.rglob("split0*/*.csv"):
        rows = [line.rsplit(" ", 1) for line in path.read_text().splitlines()]
        path.write_text("".join(f"{name} {int(label) + 1}\n" for name, label in rows))
    with pytest.raises(DatasetError, match="labels count from 1, but format mafw-mae-dfer counts from 0"):
        read("mafw", root)
