"""Named label maps: what the integers and words of each release mean.

Releases of one dataset disagree on integers, so a label never travels as one. A reader takes the map of the file format
that it reads, gives it all values of the file, and gets names of `ray_fer.labels` back, or an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ray_fer.datasets.reading import DatasetError
from ray_fer.labels import EXPRESSIONS


@dataclass(frozen=True)
class IndexedLabels:
    """Integers of one file format: the classes in order, and the integer of the first one (0 or 1)."""

    name: str
    classes: tuple[str, ...]
    base: int

    def check(self, values: Iterable[str], file: Path) -> None:
        """Find the base from all values of a file; raise DatasetError when it is not this format's.

        Evidence is the value that only one base allows: 0, or the number of classes. A file with neither (a short
        one) agrees with any base; a file with both fits none.
        """
        count = len(self.classes)
        numbers = {int(value) for value in values if is_integer(value)}
        if 0 in numbers and count in numbers:
            raise DatasetError(
                f"{file}: labels 0 and {count} both occur, but there are {count} classes; the file mixes two encodings"
            )
        found = 0 if 0 in numbers else 1 if count in numbers else self.base
        if found != self.base:
            raise DatasetError(
                f"{file}: labels count from {found}, but format {self.name} counts from {self.base}; this is another "
                "release's copy: pass --variant, or take the lists of the release that the folder belongs to"
            )

    def resolve(self, value: str) -> str | None:
        """Class name of one value, or None when it is no integer of this format. `check` the file first."""
        if not is_integer(value):
            return None
        position = int(value) - self.base
        return self.classes[position] if 0 <= position < len(self.classes) else None

    def accepted(self) -> str:
        """For messages."""
        return f"an integer from {self.base} to {self.base + len(self.classes) - 1} ({self.name})"


@dataclass(frozen=True)
class NamedLabels:
    """Words of one file format, compared without regard to case and outer spaces."""

    name: str
    words: Mapping[str, str]

    def check(self, values: Iterable[str], file: Path) -> None:
        """Words have no base."""

    def resolve(self, value: str) -> str | None:
        """Class name of one word, or None."""
        return self.words.get(value.strip().casefold())

    def accepted(self) -> str:
        """For messages."""
        return f"one of {', '.join(self.words)} ({self.name})"


LabelMap = IndexedLabels | NamedLabels

DFEW_ORDER = ("Happy", "Sad", "Neutral", "Angry", "Surprise", "Disgust", "Fear")
DFEW_OFFICIAL = IndexedLabels("dfew-official", DFEW_ORDER, 1)
DFEW_ZERO_BASED = IndexedLabels("dfew-zero-based", DFEW_ORDER, 0)
"""DFEW's order counted from 0: S2D, DFER-CLIP, Former-DFER and MAE-DFER, for DFEW, FERV39k and AFEW alike."""

FERV39K_ALPHABETICAL = IndexedLabels("ferv39k-s2d", EXPRESSIONS, 0)

MAFW_ALPHABETICAL = IndexedLabels(
    "mafw-alphabetical",
    ("Angry", "Anxiety", "Contempt", "Disappointment", "Disgust", "Fear", "Happy", "Helplessness", "Neutral", "Sad",
     "Surprise"),
    0,
)  # fmt: skip
"""Alphabetical in the release's own words (Anger, Anxiety, ..., Happiness, ..., Sadness): S2D."""
MAFW_DFER_CLIP = IndexedLabels(
    "mafw-dfer-clip", (*DFEW_ORDER, "Contempt", "Anxiety", "Helplessness", "Disappointment"), 0
)
MAFW_MAE_DFER = IndexedLabels(
    "mafw-mae-dfer",
    ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise", "Contempt", "Anxiety", "Helplessness",
     "Disappointment"),
    0,
)  # fmt: skip

FER2013 = IndexedLabels("fer2013", ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise", "Neutral"), 0)

_BASIC_WORDS = {
    "angry": "Angry", "anger": "Angry", "disgust": "Disgust", "disgusted": "Disgust", "fear": "Fear",
    "fearful": "Fear", "happy": "Happy", "happiness": "Happy", "neutral": "Neutral", "sad": "Sad", "sadness": "Sad",
    "surprise": "Surprise", "surprised": "Surprise",
}  # fmt: skip
BASIC_WORDS = NamedLabels("seven basic expressions", _BASIC_WORDS)
MAFW_WORDS = NamedLabels(
    "eleven expressions of MAFW",
    _BASIC_WORDS
    | {
        "anxiety": "Anxiety",
        "contempt": "Contempt",
        "disappointment": "Disappointment",
        "helplessness": "Helplessness",
    },
)


def is_integer(text: str) -> bool:
    """Whether `text` is an integer of at most nine digits: no label, vote or frame number is longer."""
    digits = text.strip().removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= 9
