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

from ray_fer.evaluation import plots
from ray_fer.evaluation.activation_maps import ActivationMaps
from ray_fer.evaluation.activation_plot import activation_chart
from ray_fer.evaluation.calibration import calibration
from ray_fer.evaluation.evaluated import VALIDATION, Evaluated
from ray_fer.evaluation.fairness import fairness_report
from ray_fer.evaluation.fairness_plot import fairness_charts
from ray_fer.evaluation.galleries import FILES as STRIPS
from ray_fer.evaluation.galleries import clip_facts, galleries, worst_mistakes
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
from ray_fer.evaluation.page import render_page
from ray_fer.evaluation.plots import Picture
from ray_fer.evaluation.predictions import Predictions
from ray_fer.labels import UNKNOWN_CULTURE
from ray_fer.preprocessing.store_index import ClipIndex

FORMAT = 1
REPORT, PAGE, PREDICTIONS = "report.json", "index.html", "predictions.parquet"
LANDSCAPE, ACTIVATIONS = "landscape.json", "activation-maps.json"

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
    activations: ActivationMaps | None = None,
) -> Path:
    """Write the report into folder `output` and return the path of its page.

    `predictions` are all answers, pooled over `folds` where there are several. Example clips are read from `clips`
    (those of them that are in it); without, none is shown. With `landscape`, or `activations`, there is a file, a
    figure and a section of it. Raises FileExistsError as `check_output`, ValueError for predictions without clips or of
    other classes than the model's, or for clips that lack the subjects to draw.
    """
    output = Path(output)
    check_output(output, options.overwrite)
    if predictions.classes != about.config.classes:
        raise ValueError(f"the answers of {predictions.model} and the model {about.config.name} have different classes")
    content = report_content(about, predictions, options, folds)
    pooled = folds is not None and len(folds) > 1
    charts = plots.report_charts(about.priors, predictions, content, pooled) | fairness_charts(content)
    strips = galleries(about, predictions, clips, options.faces, options.told_culture, pooled)
    files = {REPORT: content}
    if landscape is not None:
        content["landscape"], charts["landscape"] = landscape.summary(), landscape_chart(landscape)
        files[LANDSCAPE] = landscape.content()
    if activations is not None:
        content["activation_maps"], charts["activation"] = activations.summary(), activation_chart(activations)
        files[ACTIVATIONS] = activations.content()
    output.mkdir(parents=True, exist_ok=True)
    _remove(output)
    predictions.write(output / PREDICTIONS)
    for file, data in files.items():
        (output / file).write_text(json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")
    shown = [one.picture for gallery in strips.values() for one in gallery.shown if one.picture is not None]
    for picture in [*shown, *(one for one in charts.values() if isinstance(one, Picture))]:
        (output / picture.file).parent.mkdir(exist_ok=True)
        (output / picture.file).write_bytes(picture.data)
    page = output / PAGE
    page.write_text(render_page(about, content, charts, strips, options.command), "utf-8")
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
        "mistakes": [clip_facts(predictions, row) for row in worst_mistakes(predictions)],
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


def _remove(output: Path) -> None:
    """Take away what an earlier report left: it may have had figures that this one has not."""
    for pattern in (PAGE, REPORT, LANDSCAPE, ACTIVATIONS, PREDICTIONS, *plots.FILES, *STRIPS):
        for path in output.glob(pattern):
            path.unlink()
