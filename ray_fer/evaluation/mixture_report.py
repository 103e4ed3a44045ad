"""Tables 5 and 6 of the multi-dataset study, ours beside the published, and accuracy by group as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ray_fer.evaluation.outcome import write_outcome
from ray_fer.evaluation.plots import INK, QUIET
from ray_fer.evaluation.published_tables import table

_COLOURS, _MARKERS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"), "os^DvP"
_OVERALL = (
    ("Weighted F1", "weighted_f1", "Weighted F1 score", 1.0, 3),
    ("Accuracy %", "accuracy", "%Accuracy", 100.0, 1),
    ("Loss", "loss", "Loss", 1.0, 3),
)
"""Head, figure, column of Table 5, scale and decimals."""


def write_sweep(folder: Path, content: Mapping[str, Any]) -> list[Path]:
    """Write sweep.json, .md and .png; `content` is what `training.mixtures.sweep` gave."""
    return write_outcome(folder, "sweep", content, markdown(content), sweep_figure(content))


def markdown(content: Mapping[str, Any]) -> str:
    """Both tables: mean over seeds (± standard deviation of several), in brackets what the paper prints."""
    printed = _printed()
    groups = _groups(content)
    lines = ["| mixture | training | validation | " + " | ".join(head for head, *_ in _OVERALL) + " |"]
    lines.append("| --- |" + " ---: |" * (2 + len(_OVERALL)))
    for name, runs in content["rows"].items():
        sizes = [f"{runs[0]['clips'][part]:,}" if runs else "" for part in ("train", "val")]
        cells = [
            _cell([one[key] for one in runs], scale, decimals, printed.get(name, {}).get(column))
            for _, key, column, scale, decimals in _OVERALL
        ]
        lines.append(f"| {' | '.join([name, *sizes, *cells])} |")
    lines += ["", f"| accuracy %, mixture | {' | '.join(groups)} | std |", "| --- |" + " ---: |" * (len(groups) + 1)]
    for name, runs in content["rows"].items():
        known = printed.get(name, {})
        cells = [
            _cell([one["groups"].get(group) for one in runs], 100.0, 1, known.get(f"%Acc({group})")) for group in groups
        ]
        cells.append(_cell([one["std"] for one in runs], 100.0, 2, known.get("%Std")))
        lines.append(f"| {' | '.join([name, *cells])} |")
    lines += [
        "", f"- Tested on {content['target']} alone. {trained_words(content['recipe'])}",
        "- In brackets: as printed in Tables 5 and 6, where there is such a row. The paper trained once.",
        "- The deviation is that of the groups' accuracies, divided by their number less one.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def trained_words(recipe: Mapping[str, Any]) -> str:
    """A sentence on how all rows were trained; `recipe` is what `training.mixtures.described` gave."""
    phases = " + ".join(map(str, recipe["epochs"]))
    return f"Recipe {recipe['name']}: {phases} epochs, from {', '.join(recipe['weights']) or 'random weights'}."


def sweep_figure(content: Mapping[str, Any]) -> Figure:
    """Accuracy of each group (Figs 8 and 9), by mixture."""
    names = [name for name, runs in content["rows"].items() if runs]
    groups = _groups(content)
    figure = Figure(figsize=(7.5, 1.2 + 0.34 * len(names)), layout="constrained")
    axes = figure.subplots()
    for number, group in enumerate(groups):
        values = [
            100 * np.mean([one["groups"].get(group, np.nan) for one in content["rows"][name]]) for name in names
        ]  # fmt: skip
        count = next((one["counts"].get(group, 0) for name in names for one in content["rows"][name]), 0)
        axes.plot(
            values, range(len(names)), _MARKERS[number % len(_MARKERS)], color=_COLOURS[number % len(_COLOURS)],
            markersize=7, label=f"{group} ({count:,})",
        )  # fmt: skip
    overall = [100 * np.mean([one["accuracy"] for one in content["rows"][name]]) for name in names]
    axes.plot(overall, range(len(names)), "|", color=INK, markersize=13, markeredgewidth=2, label="all")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"accuracy on {content['target']} (%)", color=QUIET)
    axes.grid(axis="x", color="#e6e6e6")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    figure.legend(loc="outside upper center", ncols=len(groups) + 1, frameon=False, fontsize=8)
    return figure


def _printed() -> dict[str, dict[str, Any]]:
    """Rows of Tables 5 and 6, joined."""
    rows: dict[str, dict[str, Any]] = {}
    for name in ("eila-table-5", "eila-table-6"):
        for row in table(name).rows:
            rows.setdefault(row.name, {}).update(row.values)
    return rows


def _groups(content: Mapping[str, Any]) -> list[str]:
    return sorted({group for runs in content["rows"].values() for one in runs for group in one["groups"]})


def _cell(values: Sequence[float | None], scale: float, decimals: int, printed: Any) -> str:
    known = [scale * one for one in values if one is not None]
    if not known:
        return "–"
    text = f"{np.mean(known):.{decimals}f}"
    if len(known) > 1:
        text += f" ± {np.std(known, ddof=1):.{decimals}f}"
    return text if printed is None else f"{text} ({printed:.{decimals}f})"
