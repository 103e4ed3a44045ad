"""A table of the papers on SynthFER: its systems at several strengths of the planted display rules.

At strength 0 the culture groups show their expressions alike, so that nothing can be gained from knowing the group; at
1 one pattern means different expressions in different groups (see `datasets.synthfer.rules`). What a system gains over
the culture-agnostic one as the strength rises is what it makes of the group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from ray_fer.evaluation.measured import Measured
from ray_fer.evaluation.plots import INK, QUIET, bare, colours_of
from ray_fer.evaluation.published_tables import PublishedTable, Row
from ray_fer.evaluation.repeated import gain, pooled_gain
from ray_fer.evaluation.reproduced import Source, figure_notes, own_figures, settings_words
from ray_fer.evaluation.tables import SYNTHETIC, Block, Cell, Comparison

_AGNOSTIC = {"cafer": {"model_config_.conditioning": "none"}, "ethnicmer": {"model_config_.ethnicity": "none"}}


@dataclass(frozen=True)
class Planted:
    """What systems answered at one strength."""

    strength: float
    measured: Mapping[str, Measured]
    """By the name of the row."""
    source: Source
    ceiling: float
    """Highest UAR, from 0 to 1, that a model can reach which does not know the group."""

    @property
    def column(self) -> str:
        """Its column in the table."""
        return f"strength {self.strength:g}"


def agnostic_row(rows: Sequence[Row]) -> str | None:
    """The row of the system that knows no groups, which others are compared with; None when it is not among them."""
    return next((row.name for row in rows if row.model and row.settings == _AGNOSTIC.get(row.model)), None)


def planted_table(
    table: PublishedTable, rows: Sequence[Row], parts: Sequence[Planted], notes: Sequence[str] = ()
) -> Comparison:
    """One column per strength; a block for each figure, and one for what systems gain over the culture-agnostic one."""
    made = Comparison(f"SynthFER (synthetic): the systems of {table.id}", ["Row"])
    own = [dict(own_figures(table, rows, part.measured, part.source)) for part in parts]
    words = {row.name: settings_words(row) for row in rows} if table.kind != "breakdown" else {}
    made.columns += [*(["Settings"] if words else []), *(part.column for part in parts)]
    made.scores = [part.column for part in parts]
    figures = list(dict.fromkeys(figure for one in own for cells in one.values() for figure in cells))
    for figure in figures:
        block = Block(figure, [])
        for name in dict.fromkeys(name for one in own for name in one):
            cells = {
                part.column: one[name][figure]
                for part, one in zip(parts, own, strict=True)
                if figure in one.get(name, {})
            }
            block.rows.append(_named(name, words) | cells)
        made.blocks.append(block)
    gains = _gains(rows, parts, words)
    if gains is not None:
        made.blocks.append(gains)
    made.notes += [SYNTHETIC, "Figures are percentages."]
    reached = ", ".join(f"{100 * part.ceiling:.1f} at strength {part.strength:g}" for part in parts)
    made.notes.append(f"A model that can't tell the culture group can reach a UAR of at most {reached}.")
    made.notes += list(
        dict.fromkeys(note for part in parts for note in figure_notes(table, rows, part.measured, part.source))
    )
    if gains is not None:
        how = (
            "differences of pooled figures, with 95 % intervals over draws of subjects"
            if _pooled(parts)
            else "means over folds and seeds, paired, with 95 % intervals for folds that share training clips (Nadeau "
            "and Bengio 2003)"
        )
        made.notes.append(f"Gains are {how}. At strength 0 nothing is to be gained.")
    made.notes += notes
    return made


def _named(name: str, words: Mapping[str, str]) -> dict[str, Cell]:
    return {"Row": Cell(name), **({"Settings": Cell(words[name])} if name in words else {})}


def _gains(rows: Sequence[Row], parts: Sequence[Planted], words: Mapping[str, str]) -> Block | None:
    base = agnostic_row(rows)
    if base is None or not words:
        return None
    pooled = _pooled(parts)
    block = Block(f"{'macro F1' if pooled else 'UAR'} less that of {base}", [])
    for row in (row for row in rows if row.name != base):
        cells = {}
        for part in parts:
            if row.name not in part.measured or base not in part.measured:
                continue
            found = (pooled_gain if pooled else gain)(part.measured[row.name], part.measured[base])
            if found is not None:
                cells[part.column] = Cell(
                    value=100 * found.value, low=100 * found.low, high=100 * found.high, decimals=1, signed=True
                )
        if cells:
            block.rows.append(_named(row.name, words) | cells)
    return block if block.rows else None


def _pooled(parts: Sequence[Planted]) -> bool:
    """Whether each fold is a subject, so that there are no figures of folds."""
    return any(one.split == "loso" for part in parts for one in part.measured.values())


def planted_figure(rows: Sequence[Row], parts: Sequence[Planted], chance: float) -> Figure:
    """UAR of each system with its deviation, a panel for each strength; the dashed line is the agnostic ceiling."""
    names = [row.name for row in rows if any(row.name in part.measured for part in parts)]
    colours = colours_of(names)
    figure = Figure(figsize=(2.2 + 3.0 * len(parts), 0.9 + 0.36 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for axes, part in zip(panels, parts, strict=True):
        for place, name in enumerate(names):
            value, deviation = part.measured[name].figure("uar") if name in part.measured else (None, None)
            if value is None:
                continue
            axes.errorbar(
                100 * value, place, xerr=None if deviation is None else 100 * deviation, fmt="o", color=colours[name],
                ecolor=INK, elinewidth=1.1, capsize=3, markersize=7,
            )  # fmt: skip
            axes.text(100 * value, place - 0.18, f"{100 * value:.0f}", ha="center", va="bottom", fontsize=8, color=INK)
        axes.axvline(100 * part.ceiling, color=INK, linewidth=1, linestyle="--")
        axes.axvline(100 * chance, color=QUIET, linewidth=1, linestyle=":")
        axes.set(xlim=(0, 104), ylim=(len(names) - 0.5, -0.7), xlabel="UAR (%)", title=f"planted {part.column}")
        axes.grid(axis="x", color="#e6e9ed", linewidth=0.7)
        axes.set_axisbelow(True)
        bare(axes, "top", "right", "left")
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(names)), names)
    return figure
