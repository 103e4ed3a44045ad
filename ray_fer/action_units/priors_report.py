"""Culture priors for people: a table of the ANOVA, a heat map of the profiles and a chart of the effect sizes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ray_fer.action_units.anova import LEVEL
from ray_fer.action_units.profiles import Priors
from ray_fer.labels import AU_NAMES, AU_STATISTICS

_SHOWN = 20
_DIFFERS, _SAME = "#1f5a99", "#b8c4d0"
_CORRECTIONS = {
    "holm": "Holm-corrected",
    "bonferroni": "Bonferroni-corrected",
    "fdr_bh": "Benjamini-Hochberg-corrected",
}
_NAMES = {
    "AU01": "inner brow raiser", "AU02": "outer brow raiser", "AU04": "brow lowerer", "AU05": "upper lid raiser",
    "AU06": "cheek raiser", "AU07": "lid tightener", "AU09": "nose wrinkler", "AU10": "upper lip raiser",
    "AU11": "nasolabial deepener", "AU12": "lip corner puller", "AU14": "dimpler", "AU15": "lip corner depressor",
    "AU17": "chin raiser", "AU20": "lip stretcher", "AU23": "lip tightener", "AU24": "lip pressor",
    "AU25": "lips part", "AU26": "jaw drop", "AU28": "lip suck", "AU43": "eyes closed",
}  # fmt: skip


def write_report(priors: Priors, stem: str | Path, level: float = LEVEL) -> list[Path]:
    """Write ``<stem>.csv``, ``<stem>_profiles.png`` and ``<stem>_eta_squared.png``, and return their paths.

    `level` is the corrected p below which a difference counts.
    """
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}{end}") for end in (".csv", "_profiles.png", "_eta_squared.png")]
    _write_table(priors, paths[0], level)
    _save(profile_heat_map(priors), paths[1])
    _save(effect_chart(priors, level), paths[2])
    return paths


def _write_table(priors: Priors, path: Path, level: float) -> None:
    """One row per statistic: the ANOVA, and with the means each culture's mean intensity and its scaled value."""
    cultures = priors.cultures
    header = ["au", "statistic", "f", "p", "p_corrected", "significant", "eta_squared"]
    header += [f"mean_{name}" for name in cultures] + [f"normalised_{name}" for name in cultures]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in priors.anova:
            statistic, au = row.statistic.rsplit("_", 1)
            cells: list[float] | list[str] = [""] * 2 * len(cultures)
            if statistic == AU_STATISTICS[0] and au not in priors.missing:
                place = AU_NAMES.index(au)
                cells = [table[name][place] for table in (priors.profiles, priors.normalised) for name in cultures]
            tests = [row.f, row.p, row.p_corrected, row.significant(level), row.eta_squared]
            writer.writerow([au, statistic, *tests, *cells])


def profile_heat_map(priors: Priors) -> Figure:
    """AU x culture: colour is the scaled profile (equation 4), the number in a cell the mean intensity (equation 3)."""
    cultures = priors.cultures
    scaled = np.array([priors.normalised[name] for name in cultures]).T
    means = np.array([priors.profiles[name] for name in cultures]).T
    lacking = np.array([au in priors.missing for au in AU_NAMES])
    scaled[lacking] = np.nan
    figure = Figure(figsize=(3.6 + 1.05 * len(cultures), 8.2), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(np.ma.masked_invalid(scaled), cmap="YlGnBu", vmin=0, vmax=1, aspect="auto")
    axes.set_facecolor("#eeeeee")
    axes.set_xticks(range(len(cultures)), [f"{name}\n({priors.clips[name]} clips)" for name in cultures])
    axes.set_yticks(range(len(AU_NAMES)), [f"{au}  {_NAMES[au]}" for au in AU_NAMES])
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    for row in range(len(AU_NAMES)):
        for column in range(len(cultures)):
            text = "–" if lacking[row] else f"{means[row, column]:.3f}"
            dark = not lacking[row] and scaled[row, column] > 0.6
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if dark else "#222222")
    axes.set_xticks(np.arange(len(cultures) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(AU_NAMES) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=25, ticks=[0, 0.5, 1])
    bar.ax.set_yticklabels(["lowest", "", "highest"])
    bar.set_label("among the groups, AU by AU")
    bar.outline.set_visible(False)
    figure.suptitle(f"Mean AU intensity of each group\n{priors.extractor}", fontsize=11)
    return figure


def effect_chart(priors: Priors, level: float = LEVEL, shown: int = _SHOWN) -> Figure:
    """Statistics ranked by eta squared, the greatest `shown` of them; those that differ significantly stand out."""
    ranked = priors.ranked()
    rows = ranked[:shown][::-1]
    figure = Figure(figsize=(7.2, 1.6 + 0.27 * max(len(rows), 4)), layout="constrained")
    axes = figure.add_subplot()
    names = [_readable(row.statistic) for row in rows]
    sizes = [row.eta_squared for row in rows]
    axes.barh(names, sizes, color=[_DIFFERS if row.significant(level) else _SAME for row in rows], height=0.72)
    for place, row in enumerate(rows):
        axes.annotate(
            f"{row.eta_squared:.3f}", (row.eta_squared, place), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=8, color="#333333",
        )  # fmt: skip
    axes.set_xlim(0, max([*sizes, 0.01]) * 1.12)
    axes.set_ylim(-0.6, max(len(rows), 1) - 0.4)
    axes.set_xlabel("η²: share of the variance that lies between groups")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    count = sum(row.significant(level) for row in ranked)
    how = _CORRECTIONS.get(priors.correction or "none", "not corrected")
    axes.legend(
        handles=[Patch(color=_DIFFERS, label=f"p < {level:g} ({how})"), Patch(color=_SAME, label="not significant")],
        loc="lower right", frameon=False, fontsize=9,
    )  # fmt: skip
    figure.suptitle(
        f"Where groups differ: {count} of {len(ranked)} AU statistics\n{priors.extractor}, "
        f"ANOVA over {priors.unit}s", fontsize=11,
    )  # fmt: skip
    return figure


def _readable(statistic: str) -> str:
    kind, au = statistic.rsplit("_", 1)
    return f"{au} {_NAMES[au]}, {kind}"


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure).print_figure(path, dpi=150)
