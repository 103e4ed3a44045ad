"""From coded emotions to the three classes of micro-expression protocols, in two published ways.

| | CASME II | SAMM | SMIC |
|---|---|---|---|
| `megc` (MEGC 2019 composite) | 145: 88 / 32 / 25 | 133: 92 / 26 / 15 | 164: 70 / 51 / 43 |
| `ethnicmer` (papers/ethnicmer.md, Table III; default) | 157: 100 / 32 / 25 | 133: 92 / 26 / 15 | not used |

(clips: Negative / Positive / Surprise.) They differ in CASME II alone: EthnicMER keeps fear and sadness as Negative,
MEGC drops both, and three clips besides. "Others" is dropped by both. Over both datasets EthnicMER's map gives
192 / 58 / 40 = 290 clips, Table III's numbers.
"""

from __future__ import annotations

from ray_fer.labels import MICRO_EMOTIONS

LABEL_MAPS = ("ethnicmer", "megc", "emotions")
"""`emotions` keeps the coders' words."""

_WORDS = {word.casefold(): word for word in MICRO_EMOTIONS} | {"other": "Others"}
_NEGATIVE = ("Anger", "Contempt", "Disgust", "Fear", "Repression", "Sadness")
_MEGC_DROPPED_EMOTIONS = {"casme2": ("Fear", "Sadness")}
_MEGC_DROPPED_CLIPS = {"casme2": ("sub04/EP12_01f", "sub05/EP12_03f", "sub24/EP02_07")}


def micro_emotion(word: str) -> str | None:
    """One of `labels.MICRO_EMOTIONS` for a coder's word (any case; SAMM's ``Other`` too), or None."""
    return _WORDS.get(word.strip().casefold())


def micro_label(label_map: str, dataset: str, emotion: str, clip: str = "") -> str | None:
    """Class of a clip whose coded emotion is `emotion`; None when the map leaves it out.

    `dataset` is casme2, samm or smic (whose releases code Negative, Positive and Surprise already); `clip` is the name
    inside the dataset, such as ``sub04/EP12_01f``. Raises ValueError for an unknown map.
    """
    if label_map not in LABEL_MAPS:
        raise ValueError(f"unknown label map {label_map!r}; expected one of {', '.join(LABEL_MAPS)}")
    if label_map == "emotions":
        return emotion
    if dataset == "smic":
        return emotion
    if label_map == "megc" and (
        emotion in _MEGC_DROPPED_EMOTIONS.get(dataset, ()) or clip in _MEGC_DROPPED_CLIPS.get(dataset, ())
    ):
        return None
    if emotion in _NEGATIVE:
        return "Negative"
    return {"Happiness": "Positive", "Surprise": "Surprise"}.get(emotion)
