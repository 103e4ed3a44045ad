"""Tables of figures: the papers' own as they are printed, and any of them written as Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ray_fer.evaluation.published_tables import Column, PublishedTable, Row, Value, table, tables

Format = Literal["markdown", "latex", "csv"]
FORMATS: dict[str, Format] = {".md": "markdown", ".tex": "latex", ".csv": "csv"}
"""By the suffix of a file."""
TEST_FOLD, NOTED = "†", "‡"
MISSING = "-"
SYNTHETIC = (
    "SynthFER is synthetic and its rules are planted: these figures compare to nothing published, "
    "and say nothing about people."
)


@dataclass(frozen=True)
class Cell:
    """A text, or a number with its interval or its deviation over folds; scores are in percent."""

    text: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    std: float | None = None
    decimals: int = 2
    marks: str = ""
    signed: bool = False
    """Show the sign of a number that is above 0, too: of differences."""


@dataclass(frozen=True)
class Block:
    """Rows that compare with each other: column -> cell; a column that is left out is empty."""

    label: str
    rows: list[dict[str, Cell]]
    published: bool = False


@dataclass
class Comparison:
    """One table. The best of `scores` (columns where more is better) is bold within each block."""

    title: str
    columns: list[str]
    scores: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def published_list() -> Comparison:
    """What `published_comparison` can print."""
    names = ["ID", "Kind", "Dataset", "Protocol", "Title"]
    rows = [(one.id, one.kind, one.dataset, one.protocol.split, one.title) for one in tables()]
    cells = [{name: Cell(text) for name, text in zip(names, row, strict=True)} for row in rows]
    return Comparison("Published tables", names, blocks=[Block("", cells, published=True)])


def published_comparison(id: str) -> Comparison:
    """A published table as it is printed, nothing bold. Raises ValueError that lists the ids."""
    one = table(id)
    made = Comparison(published_title(one), ["Row", *(column.name for column in one.columns)])
    labels = dict.fromkeys(row.group for row in one.rows)
    for label in labels:
        rows = []
        for row in (row for row in one.rows if row.group == label):
            cells = {"Row": Cell(row.name, marks=NOTED if row.note else "")}
            for column in one.columns:
                value = row.values[column.name]
                if value is not None:
                    cells[column.name] = published_cell(column, value)
            rows.append(cells)
        made.blocks.append(Block(label or "", rows, published=True))
    made.notes += [f"Paper: {one.paper}."]
    if one.protocol.split != "none":
        made.notes.append(f"Protocol: {one.protocol.split}. Epoch chosen on: {one.protocol.selection}.")
    made.notes += published_notes(one, one.rows)
    return made


def published_title(one: PublishedTable) -> str:
    """Of a comparison that has its figures."""
    return f"{one.id}: {one.title} ({one.dataset})"


def published_cell(column: Column, value: Value) -> Cell:
    """A value as it is printed."""
    if value is None or isinstance(value, str):
        return Cell(value)
    return Cell(value=value, decimals=0 if column.unit == "count" else column.decimals)


def published_notes(one: PublishedTable, rows: Sequence[Row]) -> list[str]:
    """What does not fit together in the table and in these rows of it, which are `NOTED`."""
    notes = [f"{note[0].upper()}{note[1:]}." for note in one.protocol.notes]
    return notes + [f"{NOTED} {row.name}: {row.note}." for row in rows if row.note]


def render(made: Sequence[Comparison], format: Format) -> str:
    """The tables as text that ends in a newline. CSV holds no notes except the line about SynthFER."""
    write = {"markdown": _markdown, "latex": _latex, "csv": _csv}[format]
    return "\n".join(write(one) for one in made)


def _best(made: Comparison, block: Block) -> dict[str, float]:
    """Column -> the best rounded value of at least two."""
    best = {}
    for column in made.scores:
        values = [row[column].value for row in block.rows if column in row]
        numbers = [round(value, 2) for value in values if value is not None]
        if len(numbers) > 1:
            best[column] = max(numbers)
    return best


def _words(cell: Cell) -> tuple[str, str]:
    """Text of a cell: the figure itself, and what stands behind it."""
    if cell.value is None:
        return " ".join((cell.text or MISSING).split()), ""
    spread = ""
    if cell.std is not None:
        spread = f" ± {cell.std:.{cell.decimals}f}"
    elif cell.low is not None and cell.high is not None:
        spread = f" [{cell.low:.{cell.decimals}f}, {cell.high:.{cell.decimals}f}]"
    return f"{cell.value:{'+' if cell.signed else ''}.{cell.decimals}f}", spread


def _is_best(cell: Cell, best: float | None) -> bool:
    return best is not None and cell.value is not None and round(cell.value, 2) == best


def _lines(made: Comparison, block: Block, write: Any) -> Iterable[list[str]]:
    best = _best(made, block)
    for row in block.rows:
        cells = [(row.get(column, Cell()), best.get(column)) for column in made.columns]
        yield [write(*_words(cell), cell.marks, _is_best(cell, top)) for cell, top in cells]


def _markdown(made: Comparison) -> str:
    def write(text: str, spread: str, marks: str, bold: bool) -> str:
        plain = "".join(f"\\{letter}" if letter in "\\|*`<" else letter for letter in text)
        return (f"**{plain}**" if bold else plain) + spread + marks

    wide = len(made.columns)
    numeric = {column for block in made.blocks for row in block.rows for column in row if row[column].value is not None}
    lines = [f"### {made.title}", "", _row(write(column, "", "", False) for column in made.columns)]
    lines.append(_row("---:" if column in numeric else "---" for column in made.columns))
    for block in made.blocks:
        if block.label:
            lines.append(_row([f"*{write(block.label, '', '', False)}*", *[""] * (wide - 1)]))
        lines += [_row(cells) for cells in _lines(made, block, write)]
    return "\n".join([*lines, "", *(f"- {note}" for note in made.notes), ""])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", TEST_FOLD: r"$^{\dagger}$", NOTED: r"$^{\ddagger}$",
}  # fmt: skip  # fmt: skip


def latex_escaped(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _latex(made: Comparison) -> str:
    def write(text: str, spread: str, marks: str, bold: bool) -> str:
        plain = latex_escaped("--" if text == MISSING else text)
        return (rf"\textbf{{{plain}}}" if bold else plain) + latex_escaped(spread + marks)

    wide = len(made.columns)
    numeric = {column for block in made.blocks for row in block.rows for column in row if row[column].value is not None}
    align = "".join("r" if column in numeric else "l" for column in made.columns)
    head = " & ".join(latex_escaped(column) for column in made.columns)
    lines = ["% needs \\usepackage{booktabs}", r"\begin{table}", r"\centering"]
    lines += [rf"\caption{{{latex_escaped(made.title)}}}", rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
    lines.append(rf"{head} \\")
    for block in made.blocks:
        lines.append(r"\midrule")
        if block.label:
            lines.append(rf"\multicolumn{{{wide}}}{{l}}{{\textit{{{latex_escaped(block.label)}}}}} \\")
        for cells in _lines(made, block, write):
            # After \\ LaTeX takes "[" and "*" for an argument of it.
            start = "{}" if cells[0].startswith(("[", "*")) else ""
            lines.append(rf"{start}{' & '.join(cells)} \\")
    lines += [r"\bottomrule", r"\end{tabular}", "", r"\footnotesize"]
    # A note is a paragraph of its own: an empty line ends it.
    lines += [line for note in made.notes for line in (latex_escaped(note.replace("`", "")), "")]
    return "\n".join([*lines, r"\end{table}", ""])


def _csv(made: Comparison) -> str:
    """A column for each figure, and for its bounds or deviation where a row has any."""
    rows = [row for block in made.blocks for row in block.rows]
    parts = {
        column: [part for part in ("low", "high", "std") if any(getattr(row.get(column), part, None) for row in rows)]
        for column in made.columns
    }
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = [head for column in made.columns for head in (column, *(f"{column} {part}" for part in parts[column]))]
    writer.writerow(["Table", "Block", "Published", *heads, "Marks"])
    for block in made.blocks:
        for row in block.rows:
            cells: list[str] = []
            for column in made.columns:
                cell = row.get(column, Cell())
                cells.append("" if cell == Cell() else _words(cell)[0])
                bounds = (getattr(cell, part) for part in parts[column])
                cells += ["" if bound is None else f"{bound:.{cell.decimals}f}" for bound in bounds]
            marks = [SYNTHETIC] if SYNTHETIC in made.notes else []
            marks += ["epoch chosen on the test fold"] if any(TEST_FOLD in cell.marks for cell in row.values()) else []
            marks += ["see --table"] if any(NOTED in cell.marks for cell in row.values()) else []
            writer.writerow([made.title, block.label, block.published, *cells, "; ".join(marks)])
    return out.getvalue()
