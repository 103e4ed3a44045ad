"""Clips that a report shows, as strips of frames: where the model looked, and its worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ray_fer.evaluation import plots
from ray_fer.evaluation.attention import clip_saliency, looked_into, method
from ray_fer.evaluation.evaluated import Evaluated
from ray_fer.evaluation.inputs import COLUMNS, check_inputs
from ray_fer.evaluation.page import Gallery, Shown
from ray_fer.evaluation.plots import Picture
from ray_fer.evaluation.predictions import Predictions
from ray_fer.labels import culture_index
from ray_fer.models import reads
from ray_fer.preprocessing.store_index import ClipIndex, read_rows
from ray_fer.video.images import decode_image, encode_jpeg

FOLDER = "clips"
"""Where the pictures lie in a report's folder."""
FILES = (f"{FOLDER}/mistake-*.jpg", f"{FOLDER}/saliency-*.jpg")
_MISTAKES, _FRAMES = 8, 8
_SMALL, _LARGE = 112, 224
"""Pixels of a frame among others, and of a single one."""

Stored = dict[str, Any]
"""Columns of one clip in a store."""


def galleries(
    about: Evaluated, predictions: Predictions, clips: ClipIndex | None, faces: bool, told: bool, pooled: bool
) -> dict[str, Gallery]:
    """The galleries "saliency" and "mistakes".

    Clips are read from `clips`, and not shown without; `faces` is whether they may be. With `told` the model is told
    the clips' cultures. With `pooled`, the answers are those of several models.
    """
    best, worst = _best_answers(predictions), worst_mistakes(predictions)
    shown = clips if faces else None
    hidden = f"No frames are shown: {'the clips were not at hand' if faces else 'left out on purpose'}."
    frames = {} if shown is None else _read(predictions, shown, worst, ["frames"])
    mistakes = Gallery("" if worst else "There is no mistake to show.")
    for place, row in enumerate(worst):
        facts, picture = clip_facts(predictions, row), None
        if row in frames:
            images = frames[row]["frames"]
            mistakes.still = len(images) == 1
            count = min(_FRAMES, len(images))
            chosen = ((np.arange(count) + 0.5) / count * len(images)).astype(int)
            strip = plots.frame_strip(_decoded([images[moment] for moment in chosen]), _side(mistakes))
            said = f"{facts['truth']} taken for {facts['predicted']}"
            picture = Picture(f"{FOLDER}/mistake-{place + 1}.jpg", encode_jpeg(strip, 88), said)
        mistakes.shown.append(Shown(facts, picture))
    if worst and not frames:
        mistakes.reason = hidden
    if pooled:
        looked = Gallery("Left out: each fold has a model of its own.")
    elif about.model is None:
        looked = Gallery("Left out: the model was not kept.")
    elif method(about.model) is None:
        looked = Gallery(f"Of {about.config.model} neither attention nor convolutions are known here.")
    elif shown is None:
        looked = Gallery(hidden)
    else:
        looked = _saliency(about, predictions, shown, best, told) or Gallery(hidden)
    return {"saliency": looked, "mistakes": mistakes}


def worst_mistakes(predictions: Predictions) -> list[int]:
    """Rows of the wrong answers, the most confident first."""
    wrong = np.flatnonzero(predictions.predicted != predictions.truth)
    confidence = predictions.probabilities.max(axis=1)
    ids = predictions.column("clip_id")
    return sorted(wrong.tolist(), key=lambda row: (-float(confidence[row]), ids[row]))[:_MISTAKES]


def clip_facts(predictions: Predictions, row: int) -> dict[str, Any]:
    """What `Shown.about` is of one clip."""
    facts = {name: predictions.column(name)[row] for name in ("clip_id", "dataset", "culture")}
    return facts | {
        "truth": predictions.column("label")[row],
        "predicted": predictions.classes[int(predictions.predicted[row])],
        "probability": round(float(predictions.probabilities[row].max()), 4),
    }


def _best_answers(predictions: Predictions) -> list[int]:
    """For each class that was ever recognised, the row of its most confident right answer."""
    confidence = predictions.probabilities.max(axis=1)
    rows = []
    for place in range(len(predictions.classes)):
        right = np.flatnonzero((predictions.truth == place) & (predictions.predicted == place))
        if len(right):
            rows.append(int(right[confidence[right].argmax()]))
    return rows


def _saliency(
    about: Evaluated, predictions: Predictions, clips: ClipIndex, rows: Sequence[int], told: bool
) -> Gallery | None:
    """None when there are some, and `clips` has none of them."""
    config, model = about.config, about.model
    assert model is not None
    name, (trunk, _) = method(model) or "", looked_into(model)
    looked = Gallery("", name, trunk=trunk)
    inputs = reads(config.model, config.model_config_)
    # Motion is shown on the apex, which lies in the same crop.
    picture = "frames" if "frames" in inputs else COLUMNS["apex"]
    try:
        check_inputs(clips.store, inputs)
        stored = _read(predictions, clips, rows, [*(COLUMNS[one] for one in inputs), picture])
        for row, columns in stored.items():
            facts = clip_facts(predictions, row)
            culture = culture_index(facts["culture"], config.cultures) if told else None
            faces = _decoded(columns[picture] if picture == "frames" else [columns[picture]])
            given = {one: columns[COLUMNS[one]] for one in inputs}
            looked.still = len(faces) == 1
            seen, maps = clip_saliency(model, config.preprocessing, given, faces, culture, _FRAMES)
            both = np.concatenate([plots.frame_strip(one, _side(looked)) for one in (seen, plots.overlay(seen, maps))])
            file = f"{FOLDER}/saliency-{facts['truth']}.jpg"
            looked.shown.append(Shown(facts, Picture(file, encode_jpeg(both, 88), f"{name}, {facts['truth']}")))
    except ValueError as error:  # a model that cannot be looked into still gets its report
        return Gallery(f"Left out: {error}.", name)
    return looked if looked.shown or not rows else None


def _side(gallery: Gallery) -> int:
    return _LARGE if gallery.still else _SMALL


def _decoded(images: Sequence[bytes]) -> np.ndarray:
    """uint8 [T,H,W,3]"""
    return np.stack([decode_image(data) for data in images])


def _read(predictions: Predictions, clips: ClipIndex, rows: Sequence[int], columns: Sequence[str]) -> dict[int, Stored]:
    """`columns` of those rows of `predictions` that `clips` has, in the order of `rows`; each shard is read once."""
    keys = zip(clips.column("dataset"), clips.column("clip_id"), strict=True)
    places = dict(zip(keys, zip(clips.column("shard"), clips.column("row"), strict=True), strict=True))
    own = list(zip(predictions.column("dataset"), predictions.column("clip_id"), strict=True))
    wanted: dict[int, list[tuple[int, int]]] = {}
    for row in rows:
        if own[row] in places:
            shard, place = places[own[row]]
            wanted.setdefault(shard, []).append((row, place))
    found: dict[int, Stored] = {}
    for shard, pairs in wanted.items():
        table = read_rows(clips.store, shard, [place for _, place in pairs], list(dict.fromkeys(columns)))
        found |= dict(zip((row for row, _ in pairs), table.to_pylist(), strict=True))
    return {row: found[row] for row in rows if row in found}
