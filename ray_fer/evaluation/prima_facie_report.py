"""What the prima facie study found, as a table beside the paper's and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ray_fer.evaluation.outcome import write_outcome
from ray_fer.evaluation.plots import INK, QUIET
from ray_fer.evaluation.prima_facie import FIGURES, MIXED
from ray_fer.evaluation.published_tables import table

TABLE = "ethnicmer-table-4"
_COLOUR, _PAPER = "#0072b2", "#d55e00"


def published() -> dict[str, dict[str, float]]:
    """Table IV's figures by group ("Asian", "Non-Asian", MIXED)."""
    return {
        row.name.split(" to ")[0]: {figure: float(str(row.values[figure])) for figure in FIGURES}
        for row in table(TABLE).rows
    }


def write_study(folder: Path, content: Mapping[str, Any]) -> list[Path]:
    """Write prima-facie.json, .md and .png; `content` is what `prima_facie_run.study` gave."""
    return write_outcome(folder, "prima-facie", content, markdown(content), study_figure(content))


def markdown(content: Mapping[str, Any]) -> str:
    """Table IV over many draws, and what is to be said of it."""
    paper = published()
    lines = [
        f"| subjects | {' | '.join(FIGURES)} | paper, average |",
        f"| --- |{' ---: |' * (len(FIGURES) + 1)}",
    ]
    for name, figures in content["rows"].items():
        printed = f"{paper[name]['Average']:.4f}" if name in paper else ""
        lines.append(f"| {_who(name, content)} | {' | '.join(_cell(figures[one]) for one in FIGURES)} | {printed} |")
    lines += ["", *(f"- {one}" for one in notes(content)), ""]
    return "\n".join(lines)


def notes(content: Mapping[str, Any]) -> list[str]:
    """Sentences below the table."""
    gap, level = content["difference"], f"{content['level']:.0%}"
    clips = ", ".join(f"{count} of {name}" for name, count in content["clips"].items())
    said = [
        f"Mean F1 over {content['draws']} draws of subjects, {level} of the draws in brackets; the paper drew once.",
        f"The mixed average is below both groups' own in {content['below']:.0%} of the draws, and differs from their "
        f"mean by {gap['mean']:+.3f} ({gap['interval'][0]:+.3f} to {gap['interval'][1]:+.3f}).",
        f"{sum(content['clips'].values())} clips ({clips}), {content['negative']} of them negative; features: "
        f"{content['features']}; forests of {content['trees']} trees; each subject is left out once.",
        "The draws are of the same people, so the brackets say what a draw decides, and not how sure the figures are.",
    ]
    if content["left_out"]:
        reasons = ", ".join(f"{count} ({reason})" for reason, count in content["left_out"].items())
        said.append(f"Left out: {reasons}.")
    return said


def study_figure(content: Mapping[str, Any]) -> Figure:
    """Each draw's average as a point, their mean as a line, and the paper's draw as a diamond."""
    rows, paper = content["rows"], published()
    figure = Figure(figsize=(7, 0.8 + 0.8 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (name, figures) in enumerate(reversed(rows.items())):
        values = figures["Average"]["values"]
        # Spread by number, so that equal values can be told apart and nothing depends on chance.
        heights = [place + 0.5 * ((number * 0.618) % 1 - 0.5) for number in range(len(values))]
        axes.scatter(values, heights, s=12, color=_COLOUR, alpha=0.45, linewidths=0)
        axes.plot([figures["Average"]["mean"]] * 2, [place - 0.32, place + 0.32], color=INK, linewidth=2)
        if name in paper:
            axes.scatter(
                [paper[name]["Average"]], [place], marker="D", s=48, color=_PAPER, edgecolors="white", zorder=3
            )
    axes.set_yticks(range(len(rows)), [_who(name, content) for name in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0, 1)
    axes.set_xlabel("mean F1 of negative and other clips; points: draws, line: their mean, diamond: the paper's draw")
    axes.xaxis.label.set_fontsize(8)
    axes.grid(axis="x", color="#e6e6e6")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.tick_params(axis="x", labelcolor=QUIET)
    return figure


def _who(name: str, content: Mapping[str, Any]) -> str:
    count = content["drawn"]
    return f"{count // 2} and {count // 2}, mixed" if name == MIXED else f"{count} {name}"


def _cell(figure: Mapping[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{figure['mean']:.3f} [{low:.3f}, {high:.3f}]"
