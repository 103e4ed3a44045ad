"""A report on a model: `report.json` for programs, `index.html` for people, figures as PNG, and the predictions.

Nothing in it depends on when it was made: the same predictions give the same report.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ray_fer.bundle import BundleConfig
from ray_fer.evaluation import plots
from ray_fer.evaluation.attention import clip_saliency, method
from ray_fer.evaluation.calibration import calibration
from ray_fer.evaluation.evaluated import VALIDATION, Evaluated
from ray_fer.evaluation.fairness import fairness_report
from ray_fer.evaluation.fairness_plot import fairness_charts
from ray_fer.evaluation.groups import group_report
from ray_fer.evaluation.intervals import (
    FIGURES,
    LEVEL,
    RESAMPLES,
    bootstrap_clusters,
    bootstrap_intervals,
    confidence_intervals,
    wilson_interval,
)
from ray_fer.evaluation.landscape import Landscape
from ray_fer.evaluation.landscape_plot import landscape_chart
from ray_fer.evaluation.metrics import classification_metrics
from ray_fer.evaluation.page import Gallery, Shown, render_page
from ray_fer.evaluation.plots import Picture
from ray_fer.evaluation.predictions import Predictions
from ray_fer.labels import UNKNOWN_CULTURE, culture_index
from ray_fer.preprocessing.store_index import ClipIndex, read_rows
from ray_fer.video.images import decode_image, encode_jpeg

FORMAT = 1
REPORT, PAGE, PREDICTIONS, CLIPS = "report.json", "index.html", "predictions.parquet", "clips"
LANDSCAPE = "landscape.json"
_MISTAKES, _FRAMES = 8, 8

Folds = Sequence[tuple[str, Predictions]]


@dataclass(frozen=True)
class ReportOptions:
    """How the predictions came about, and what to show of them."""

    protocol: str = "fixed"
    """fixed, 5-fold, loso ..."""
    selection: str = VALIDATION
    """On what the epoch was chosen; see `evaluated`."""
    unit: str = "clip"
    """What the bootstrap draws: one of `intervals.UNITS`."""
    told_culture: bool = False
    """Whether the model was told the clips' culture labels."""
    faces: bool = True
    """Show frames of clips; licences of some datasets forbid it."""
    command: str | None = None
    """The command that makes this report again."""
    overwrite: bool = False


def write_report(
    about: Evaluated,
    predictions: Predictions,
    clips: ClipIndex | None,
    output: str | Path,
    options: ReportOptions = ReportOptions(),
    folds: Folds | None = None,
    landscape: Landscape | None = None,
) -> Path:
    """Write the report into folder `output` and return the path of its page.

    `predictions` are all answers, pooled over `folds` where there are several. Example clips are read from `clips`
    (those of them that are in it); without, none is shown. With `landscape` there is a file, a figure and a section of
    it. Raises FileExistsError as `check_output`, ValueError for predictions without clips or of other classes than the
    model's, or for clips that lack the subjects to draw.
    """
    output = Path(output)
    check_output(output, options.overwrite)
    if predictions.classes != about.config.classes:
        raise ValueError(f"the answers of {predictions.model} and the model {about.config.name} have different classes")
    content = report_content(about, predictions, options, folds)
    pooled = folds is not None and len(folds) > 1
    charts = plots.report_charts(about.priors, predictions, content, pooled) | fairness_charts(content)
    galleries = _galleries(about, predictions, clips if options.faces else None, content, options, pooled)
    files = {REPORT: content}
    if landscape is not None:
        content["landscape"], charts["landscape"] = landscape.summary(), landscape_chart(landscape)
        files[LANDSCAPE] = landscape.content()
    output.mkdir(parents=True, exist_ok=True)
    _remove(output)
    predictions.write(output / PREDICTIONS)
    for file, data in files.items():
        (output / file).write_text(json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")
    shown = [one.picture for gallery in galleries.values() for one in gallery.shown if one.picture is not None]
    for picture in [*shown, *(one for one in charts.values() if isinstance(one, Picture))]:
        (output / picture.file).parent.mkdir(exist_ok=True)
        (output / picture.file).write_bytes(picture.data)
    page = output / PAGE
    page.write_text(render_page(about, content, charts, galleries, options.command), "utf-8")
    return page


def check_output(output: str | Path, overwrite: bool) -> None:
    """Raise FileExistsError when the folder has something in it, and is not a report that may be replaced."""
    output = Path(output)
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / REPORT).is_file():
        raise FileExistsError(f"{output} exists and is no report; choose another folder")
    if not overwrite:
        raise FileExistsError(f"{output} holds a report; choose another folder or pass --overwrite")


def report_content(
    about: Evaluated, predictions: Predictions, options: ReportOptions, folds: Folds | None = None
) -> dict[str, Any]:
    """`report.json`: all shares from 0 to 1. See `ray_fer.evaluation.compare.Report` for what others read of it."""
    config = about.config
    metrics = classification_metrics(predictions.truth, predictions.predicted, predictions.classes)
    for name, interval in confidence_intervals(predictions, options.unit).items():
        metrics[name] = {"value": interval.value, "low": interval.low, "high": interval.high}
    metrics["recall_intervals"] = {
        name: _bounds(wilson_interval(metrics["confusion"][place][place], metrics["support"][name]))
        if metrics["support"][name] else None
        for place, name in enumerate(predictions.classes)
    }  # fmt: skip
    datasets = sorted(set(predictions.column("dataset")))
    content: dict[str, Any] = {
        "format": FORMAT,
        "model": {"name": config.name, "version": config.version, "registry": config.model},
        "protocol": {"name": options.protocol, "selection": options.selection},
        "datasets": datasets,
        "synthetic": all(name.casefold().startswith("synthfer") for name in datasets),
        "culture_told": options.told_culture,
        "classes": predictions.classes,
        "intervals": {"level": LEVEL, "unit": options.unit, "resamples": RESAMPLES},
        "metrics": metrics,
        "calibration": dataclasses.asdict(calibration(predictions.truth, predictions.probabilities)),
        "groups": {column: _group_part(predictions, column, options.unit) for column in plots.GROUPED},
        "fairness": {column: dataclasses.asdict(fairness_report(predictions, column)) for column in plots.GROUPED},
        "mistakes": [_about(predictions, row) for row in _worst_mistakes(predictions)],
    }
    if folds:
        content["folds"] = [_fold(name, one) for name, one in folds]
    return content


def _group_part(predictions: Predictions, column: str, unit: str) -> dict[str, Any]:
    owners = np.array([value if value is not None else UNKNOWN_CULTURE for value in predictions.column(column)])
    clusters = bootstrap_clusters(predictions, unit)
    part = {}
    for group in group_report(predictions, column).groups:
        own = owners == group.name
        drawn = None if clusters is None else clusters[own]
        found: dict[str, list[float] | None] = dict.fromkeys(FIGURES)
        if drawn is None or len(set(drawn)) > 1:
            intervals = bootstrap_intervals(
                predictions.truth[own], predictions.predicted[own], len(predictions.classes), drawn
            )
            found = {name: _bounds(one) for name, one in intervals.items()}
        figures = {name: group.metrics[name] for name in (*FIGURES, "weighted_f1", "recall", "support")}
        part[group.name] = {**figures, "count": group.count, "few": group.few, "intervals": found}
    return part


def _fold(name: str, predictions: Predictions) -> dict[str, Any]:
    metrics = classification_metrics(predictions.truth, predictions.predicted, predictions.classes)
    return {"name": name} | {figure: metrics[figure] for figure in (*FIGURES, "count")}


def _bounds(interval: Any) -> list[float]:
    return [interval.low, interval.high]


def _worst_mistakes(predictions: Predictions) -> list[int]:
    """Rows of the wrong answers, the most confident first."""
    wrong = np.flatnonzero(predictions.predicted != predictions.truth)
    confidence = predictions.probabilities.max(axis=1)
    ids = predictions.column("clip_id")
    return sorted(wrong.tolist(), key=lambda row: (-float(confidence[row]), ids[row]))[:_MISTAKES]


def _best_answers(predictions: Predictions) -> list[int]:
    """For each class that was ever recognised, the row of its most confident right answer."""
    confidence = predictions.probabilities.max(axis=1)
    rows = []
    for place in range(len(predictions.classes)):
        right = np.flatnonzero((predictions.truth == place) & (predictions.predicted == place))
        if len(right):
            rows.append(int(right[confidence[right].argmax()]))
    return rows


def _about(predictions: Predictions, row: int) -> dict[str, Any]:
    about = {name: predictions.column(name)[row] for name in ("clip_id", "dataset", "culture")}
    return about | {
        "truth": predictions.column("label")[row],
        "predicted": predictions.classes[int(predictions.predicted[row])],
        "probability": round(float(predictions.probabilities[row].max()), 4),
    }


def _galleries(
    about: Evaluated,
    predictions: Predictions,
    clips: ClipIndex | None,
    content: dict[str, Any],
    options: ReportOptions,
    pooled: bool,
) -> dict[str, Gallery]:
    """Strips of frames: "saliency" and "mistakes"."""
    best, worst = _best_answers(predictions), _worst_mistakes(predictions)
    frames = {} if clips is None else _read_frames(predictions, clips, [*best, *worst])
    hidden = f"No frames are shown: {'the clips were not at hand' if options.faces else 'left out on purpose'}."
    mistakes = Gallery("" if worst else "There is no mistake to show.")
    for place, (row, facts) in enumerate(zip(worst, content["mistakes"], strict=True)):
        picture = None
        if row in frames:
            chosen = ((np.arange(_FRAMES) + 0.5) / _FRAMES * len(frames[row])).astype(int)
            picture = _strip(
                frames[row][chosen], f"mistake-{place + 1}", f"{facts['truth']} taken for {facts['predicted']}"
            )
        mistakes.shown.append(Shown(facts, picture))
    if worst and not frames:
        mistakes.reason = hidden
    if pooled:
        looked = Gallery("Left out: each fold has a model of its own.")
    elif about.model is None:
        looked = Gallery("Left out: the model was not kept.")
    elif method(about.model) is None:
        looked = Gallery(f"Of {about.config.model} neither attention nor convolutions are known here.")
    elif not frames:
        looked = Gallery(hidden)
    else:
        looked = _saliency(about.config, about.model, predictions, frames, best, options.told_culture)
    return {"saliency": looked, "mistakes": mistakes}


def _saliency(
    config: BundleConfig,
    model: nn.Module,
    predictions: Predictions,
    frames: dict[int, np.ndarray],
    rows: Sequence[int],
    told: bool,
) -> Gallery:
    name = method(model) or ""
    looked = Gallery("", name)
    for row in [row for row in rows if row in frames]:
        facts = _about(predictions, row)
        culture = culture_index(facts["culture"], config.cultures) if told else None
        try:
            seen, maps = clip_saliency(model, config.preprocessing, frames[row], culture, _FRAMES)
        except ValueError as error:  # a model that cannot be looked into still gets its report
            return Gallery(f"Left out: {error}.", name)
        both = np.concatenate([plots.frame_strip(seen), plots.frame_strip(plots.overlay(seen, maps))])
        picture = Picture(f"{CLIPS}/saliency-{facts['truth']}.jpg", encode_jpeg(both, 88), f"{name}, {facts['truth']}")
        looked.shown.append(Shown(facts, picture))
    return looked


def _strip(frames: np.ndarray, name: str, alt: str) -> Picture:
    return Picture(f"{CLIPS}/{name}.jpg", encode_jpeg(plots.frame_strip(frames), 88), alt)


def _read_frames(predictions: Predictions, clips: ClipIndex, rows: Sequence[int]) -> dict[int, np.ndarray]:
    """Aligned crops uint8 [T,H,W,3] of those rows of `predictions` that `clips` has, each shard read once."""
    keys = zip(clips.column("dataset"), clips.column("clip_id"), strict=True)
    places = dict(zip(keys, zip(clips.column("shard"), clips.column("row"), strict=True), strict=True))
    own = list(zip(predictions.column("dataset"), predictions.column("clip_id"), strict=True))
    wanted: dict[int, list[tuple[int, int]]] = {}
    for row in rows:
        if own[row] in places:
            shard, place = places[own[row]]
            wanted.setdefault(shard, []).append((row, place))
    found = {}
    for shard, pairs in wanted.items():
        table = read_rows(clips.store, shard, [place for _, place in pairs], ["frames"])
        for (row, _), images in zip(pairs, table.column("frames"), strict=True):
            found[row] = np.stack([decode_image(data) for data in images.as_py()])
    return found


def _remove(output: Path) -> None:
    """Take away what an earlier report left: it may have had figures that this one has not."""
    strips = (f"{CLIPS}/mistake-*.jpg", f"{CLIPS}/saliency-*.jpg")
    for pattern in (PAGE, REPORT, LANDSCAPE, PREDICTIONS, *plots.FILES, *strips):
        for path in output.glob(pattern):
            path.unlink()
