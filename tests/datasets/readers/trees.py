"""Small copies of what the datasets' releases look like on disk."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

DFEW_ORDER = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")


def image(path: Path, value: int = 120) -> Path:
    """A small grey JPEG or PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((8, 8, 3), value, np.uint8))
    return path


def frames(folder: Path, names: list[str]) -> Path:
    """A folder of frames. One picture, linked: names are what the readers look at."""
    folder.mkdir(parents=True, exist_ok=True)
    first = image(folder / names[0])
    for name in names[1:]:
        os.link(first, folder / name)
    return folder


def video(path: Path, count: int = 3, width: int = 64, height: int = 48) -> Path:
    """A short H.264 video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            picture = np.full((height, width, 3), 40 * (number % 6), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def text(path: Path, content: str | bytes) -> Path:
    """A text file, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def dfew_lists(root: Path, variant: str, spelling: str = "(single_labeled)") -> dict[str, tuple[str, int]]:
    """DFEW's lists with ten clips, two tested by each fold, in the layout of `variant`; clip -> (label, fold)."""
    truth = {f"{number + 1:05d}": (DFEW_ORDER[number % 7], number % 5 + 1) for number in range(10)}
    for fold in range(1, 6):
        for split in ("train", "test"):
            members = [clip for clip, (_, tested) in truth.items() if (tested == fold) == (split == "test")]
            zero = [(clip, DFEW_ORDER.index(truth[clip][0])) for clip in members]
            if variant == "official":  # 1-based, leading zeros lost
                lines = ["video_name,label", *(f"{int(clip)},{label + 1}" for clip, label in zero)]
                path = root / "EmoLabel_DataSplit" / f"{split}{spelling}" / f"set_{fold}.csv"
            elif variant == "s2d":
                lines = ["video_name,label", *(f"{int(clip)},{label}" for clip, label in zero)]
                path = root / "EmoLabel_DataSplit" / f"{split}{spelling}" / f"{split}_set_{fold}.csv"
            elif variant == "dfer-clip":
                lines = [f"/data/old place/DFEW/DFEW_Frame_Face/{clip} 3 {label}" for clip, label in zero]
                path = root / "annotation" / f"DFEW_set_{fold}_{split}.txt"
            elif variant == "mae-dfer":
                lines = [f"/mnt/data1/DFEW/Clip/jpg_256/{clip} {label}" for clip, label in zero]
                path = root / "saved/data/dfew/org" / f"split0{fold}" / f"{split}.csv"
                if split == "test":
                    text(path.with_name("val.csv"), "\n".join(lines) + "\n")
            else:
                lines = ["video_name,label", *(f"{int(clip)},{label}" for clip, label in zero)]
                path = root / "label" / f"single_{split}set_{fold}.csv"
            text(path, "\n".join(lines) + "\n")
    return truth


def dfew_frames(root: Path, clips: list[str], folder: str = "Clip/clip_224x224") -> None:
    """Three frames of each clip."""
    for clip in clips:
        frames(root / folder / clip, [f"{clip}_{number:05d}.jpg" for number in (1, 2, 3)])
