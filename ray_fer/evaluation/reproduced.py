"""A published table made again: our figures beside those of the paper.

Where the clips are not those of the paper (SynthFER, another dataset) the table has our figures alone, under names of
our own: a published figure never stands beside one that it does not compare to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_fer.evaluation.measured import MEASURES, Measured
from ray_fer.evaluation.published_tables import Column, PublishedTable, Row, dataset_key
from ray_fer.evaluation.tables import (
    NOTED,
    SYNTHETIC,
    TEST_FOLD,
    Block,
    Cell,
    Comparison,
    published_cell,
    published_notes,
    published_title,
)

COUNTED = "Here: clips of the clip store; those that preprocessing left out are not counted."
TOTAL, TRAINING = "Total", "Training set"
"""Rows of a composition that are no culture: all clips, and those of split "train"."""
_BESIDE = 4  # columns of figures from which "here", "published" and "difference" are blocks, or it gets too wide


@dataclass(frozen=True)
class Source:
    """Where our figures are from: the datasets of the clips."""

    datasets: Sequence[str]
    apart: str | None = None
    """Why published figures do not compare to ours; None where they do."""

    @property
    def key(self) -> frozenset[str]:
        """The datasets, to compare with those of a table."""
        return dataset_key(list(self.datasets))

    @property
    def published(self) -> bool:
        """Whether published figures may stand beside ours."""
        return self.apart is None

    @property
    def synthetic(self) -> bool:
        """Whether any of it is SynthFER."""
        return any(one.startswith("synthfer") for one in self.key)


def reproduced(
    table: PublishedTable,
    rows: Sequence[Row],
    measured: Mapping[str, Measured],
    source: Source,
    notes: Sequence[str] = (),
) -> Comparison:
    """`rows` of a table with what was `measured`, by the name of the row; `notes` say what is not in it and why."""
    own = own_figures(table, rows, measured, source)
    made = laid_out(table, rows, own, source)
    made.notes += [*figure_notes(table, rows, measured, source), *notes]
    return made


def can_count(table: PublishedTable) -> bool:
    """Whether `composition` can make it: a table of clips by expression."""
    by_class = any(one.measure == "count" and one.of in table.protocol.classes for one in table.columns)
    return table.kind == "composition" and by_class


def composition(table: PublishedTable, clips: Sequence[Mapping[str, Any]], source: Source) -> Comparison:
    """A composition counted from the `label`, `culture` and `split` of clips; see `can_count`."""
    names = [row.name for row in table.rows]
    if not source.published and TRAINING not in names:
        names = [*sorted({str(one["culture"]) for one in clips if one["culture"]}), TOTAL]
    own = []
    for name in names:
        mine = [
            one for one in clips
            if name == TOTAL or (one["split"] == "train" if name == TRAINING else one["culture"] == name)
        ]  # fmt: skip
        counts = {one.name: sum(one.of in (None, clip["label"]) for clip in mine) for one in table.columns}
        cells = {
            own_name(one, source): Cell(value=counts[one.name], decimals=0)
            for one in table.columns
            if one.measure == "count"
        }
        own.append((name, cells))
    made = laid_out(table, table.rows, own, source)
    made.notes.append(COUNTED)
    return made


Own = list[tuple[str, dict[str, Cell]]]
"""Row -> our figures, by `own_name` of their column."""


def own_name(column: Column, source: Source) -> str:
    """The paper's name of a column, or ours: the paper's may hold a dataset that the figures are not of."""
    if source.published:
        return column.name
    return f"{column.of} {MEASURES[column.measure]}" if column.of else MEASURES[column.measure]


def shown(column: Column, source: Source) -> tuple[float, int]:
    """(factor, decimals) with which a figure of ours is shown: as the paper has it, or else as a percentage."""
    if column.measure == "count":
        return 1.0, 0
    if column.measure == "loss" or (source.published and column.unit != "percent"):
        return 1.0, column.decimals
    return 100.0, 2


def own_figures(table: PublishedTable, rows: Sequence[Row], measured: Mapping[str, Measured], source: Source) -> Own:
    """What was measured for each row, under the names that columns have where published figures are left out."""
    if source.published:
        return [(row.name, _cells(table, measured.get(row.name), _part(table, row), source)) for row in rows]
    if table.kind != "breakdown":
        return [(row.name, _cells(table, measured.get(row.name), None, source)) for row in rows if row.model]
    # The paper's classes or cultures are those of its own dataset; all rows of a breakdown are one system.
    one = next(iter(measured.values()), None)
    by_class = {row.name for row in table.rows} <= set(table.protocol.classes)
    parts = [] if one is None else one.classes() if by_class else one.cultures()
    return [(part, _cells(table, one, part, source)) for part in parts]


def _part(table: PublishedTable, row: Row) -> str | None:
    return row.name if table.kind == "breakdown" else None


def _cells(table: PublishedTable, measured: Measured | None, part: str | None, source: Source) -> dict[str, Cell]:
    """Our figures of a row, those of one class or culture where it is about a `part`."""
    cells: dict[str, Cell] = {}
    for column in table.columns:
        elsewhere = source.published and dataset_key(column.dataset or table.dataset) != source.key
        if measured is None or column.measure not in MEASURES or elsewhere:
            continue
        value, deviation = measured.figure(column.measure, column.of or part)
        if value is None:
            continue
        scale, decimals = shown(column, source)
        mark = TEST_FOLD if measured.on_test_fold and decimals else ""
        std = None if deviation is None else scale * deviation
        cells[own_name(column, source)] = Cell(value=scale * value, std=std, decimals=decimals, marks=mark)
    return cells


def laid_out(table: PublishedTable, rows: Sequence[Row], own: Own, source: Source) -> Comparison:
    """Our figures of `rows` beside or above the published ones, or alone where these do not compare; no notes on how
    ours came about."""
    if not source.published:
        return _alone(table, rows, own, source)
    figures = [column for column in table.columns if column.measure in MEASURES]
    return _beside(table, rows, dict(own)) if len(figures) <= _BESIDE else _in_blocks(table, rows, dict(own))


def _alone(table: PublishedTable, rows: Sequence[Row], own: Own, source: Source) -> Comparison:
    """Our figures, and the settings that tell systems apart."""
    data = " + ".join(source.datasets)
    title = "SynthFER (synthetic)" if source.synthetic else data
    names = dict.fromkeys(name for _, cells in own for name in cells)
    settings = {row.name: settings_words(row) for row in rows}
    told = ["Settings"] if any(settings.values()) and table.kind not in ("breakdown", "composition") else []
    made = Comparison(f"{title}: the systems of {table.id}", ["Row", *told, *names])
    words = [{"Settings": Cell(settings[name])} if told else {} for name, _ in own]
    made.blocks.append(
        Block("", [{"Row": Cell(name), **one, **cells} for (name, cells), one in zip(own, words, strict=True)])
    )
    made.notes.append(SYNTHETIC if source.synthetic else f"No published figure is here: {source.apart}.")
    if table.kind != "composition":
        loss = ", the cross-entropy is in nats" if any(one.measure == "loss" for one in table.columns) else ""
        made.notes.append(f"Figures are percentages{loss}.")
    return made


def settings_words(row: Row) -> str:
    """The system of a row: "cafer: conditioning=au"."""
    words = [f"{name.removeprefix('model_config_.')}={value}" for name, value in row.settings.items()]
    return f"{row.model}: {', '.join(words)}" if words else row.model or ""


def _beside(table: PublishedTable, rows: Sequence[Row], own: Mapping[str, dict[str, Cell]]) -> Comparison:
    """Each figure of ours, the published one, and the difference side by side."""
    made = Comparison(published_title(table), ["Row"])
    for column in table.columns:
        three = [f"{column.name} {one}" for one in ("here", "published", "difference")]
        made.columns += three if column.measure in MEASURES else [column.name]
    for group in dict.fromkeys(row.group for row in rows):
        block = Block(group or "", [])
        for row in (row for row in rows if row.group == group):
            cells = {"Row": Cell(row.name, marks=NOTED if row.note else "")}
            for column in table.columns:
                mine, theirs = own[row.name].get(column.name), published_cell(column, row.values[column.name])
                if column.measure not in MEASURES:
                    cells[column.name] = theirs
                    continue
                cells |= {f"{column.name} here": mine or Cell(), f"{column.name} published": theirs}
                cells[f"{column.name} difference"] = _difference(mine, theirs)
            block.rows.append(cells)
        made.blocks.append(block)
    return made


def _in_blocks(table: PublishedTable, rows: Sequence[Row], own: Mapping[str, dict[str, Cell]]) -> Comparison:
    """Our figures, the published ones, and the differences below each other, all under the paper's columns."""
    made = Comparison(published_title(table), ["Row", *(column.name for column in table.columns)])
    here, published = Block("Here", []), Block("Published", [], published=True)
    difference = Block("Difference: here less published", [])
    for row in rows:
        name = Cell(row.name, marks=NOTED if row.note else "")
        theirs = {column.name: published_cell(column, row.values[column.name]) for column in table.columns}
        published.rows.append({"Row": name, **theirs})
        if own[row.name]:
            words = {column.name: theirs[column.name] for column in table.columns if column.unit == "text"}
            here.rows.append({"Row": Cell(row.name), **words, **own[row.name]})
            apart = {column: _difference(cell, theirs[column]) for column, cell in own[row.name].items()}
            difference.rows.append({"Row": Cell(row.name), **words, **apart})
    made.blocks += [block for block in (here, published, difference) if block.rows]
    return made


def _difference(mine: Cell | None, theirs: Cell) -> Cell:
    if mine is None or mine.value is None or theirs.value is None:
        return Cell()
    return Cell(value=mine.value - theirs.value, decimals=mine.decimals, signed=True)


def figure_notes(
    table: PublishedTable, rows: Sequence[Row], measured: Mapping[str, Measured], source: Source
) -> list[str]:
    """How the figures came about."""
    notes = []
    if source.published:
        notes.append(f"Published: {table.paper}. {table.protocol.split}, epoch chosen on: {table.protocol.selection}.")
    for split, selection in dict.fromkeys((one.split, one.selection) for one in measured.values()):
        notes.append(f"Here: {split}, epoch chosen on: {selection}.")
    if any(one.on_test_fold for one in measured.values()):
        notes.append(f"{TEST_FOLD} The epoch was chosen on the test fold (paper protocol): the figures are optimistic.")
    seeds = {len(one.seeds) for one in measured.values()}
    folds = any(one.several_folds for one in measured.values())
    if folds:
        notes.append(
            "UAR, WAR and macro F1 of all clips are means over folds (under loso, and everything by class or culture: "
            "of the pooled answers of all folds)."
        )
    if seeds == {1} and any(one.several_folds and one.split != "loso" for one in measured.values()):
        notes.append("± is the standard deviation over folds (n-1).")
    elif max(seeds, default=0) > 1:
        notes.append("Figures are means of the seeds' figures, ± the standard deviation over seeds (n-1).")
    if source.published:
        counts = {one.figure("count")[0] for one in measured.values() if one.split == table.protocol.split}
        if table.protocol.clips is not None and counts - {table.protocol.clips}:
            listed = ", ".join(f"{count:.0f}" for count in sorted(filter(None, counts)))
            notes.append(f"Not the same clips: {listed} were tested here, {table.protocol.clips} in the paper.")
        notes += [*_other_groups(table, measured), *published_notes(table, rows)]
    return notes


def _other_groups(table: PublishedTable, measured: Mapping[str, Measured]) -> list[str]:
    """A warning where a deviation over groups is of others than in the paper, which names them in its columns."""
    if not any(column.measure == "std" for column in table.columns):
        return []
    theirs = sorted({column.of for column in table.columns if column.of and column.of not in table.protocol.classes})
    ours = {tuple(one.cultures()) for one in measured.values()} - {tuple(theirs)}
    return [f"Not the same groups: the deviation is over {', '.join(one) or 'none'} here, over {', '.join(theirs)} in "
            "the paper." for one in sorted(ours)]  # fmt: skip
