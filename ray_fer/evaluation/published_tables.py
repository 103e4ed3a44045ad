"""The results tables of the five papers as data: `published/*.json`, one file per paper, checked when read.

Values stand as printed, in the unit that their column names. What does not fit together, in one paper or between two,
is kept and said in a note. `results` joins what several tables print of one method, for `ray_fer.evaluation.compare`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FOLDER = Path(__file__).parent / "published"

Split = Literal["5-fold", "loso", "fixed", "fold 2 of 5", "fold 3 of 5", "fold 5 of 5", "none"]
Kind = Literal["results", "ablation", "breakdown", "composition"]
Measure = Literal[
    "uar", "war", "macro_f1", "weighted_f1", "f1", "recall", "precision", "loss", "std", "share", "count", "epoch",
    "setting",
]  # fmt: skip
Value = int | float | str | None

_UPPER = {"percent": 100.0, "fraction": 1.0, "number": float("inf"), "count": float("inf")}
_ALIASES = {"casmeii": "casme2"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Column(_Strict):
    """A column under its printed head. `of` is the class, group or split whose figure it is; `dataset` and `split`
    stand where they are not the table's."""

    name: str
    measure: Measure
    unit: Literal["percent", "fraction", "number", "count", "text"]
    of: str | None = None
    dataset: str | None = None
    split: Split | None = None
    decimals: int = Field(2, ge=0)

    def problem(self, value: Value) -> str | None:
        """What is wrong with a value of this column, or None."""
        if value is None or (self.unit == "text" and isinstance(value, str)):
            return None
        if isinstance(value, str) or self.unit == "text":
            return f"{value!r} is no {self.unit}"
        if self.unit == "count" and value != int(value):
            return f"{value} is no whole number"
        return None if 0 <= value <= _UPPER[self.unit] else f"{value} is outside 0 to {_UPPER[self.unit]:g}"


class Row(_Strict):
    """A row under its printed label.

    `method` is the name that the method has here where papers write it differently; `model` our registry's name, with
    `settings`, the overrides of its recipe that make this variant ("data." names the arguments of `ray-fer mix`).
    `group` is the label that the paper puts over several rows, `split` stands where it is not the table's.
    """

    name: str
    group: str | None = None
    method: str | None = None
    model: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    split: Split | None = None
    note: str | None = None
    values: dict[str, Value]


class Protocol(_Strict):
    """How the figures were measured. `clips` is the number of test clips (all folds), `classes` are in our names,
    `selection` says how the epoch was chosen, as far as paper or code tell."""

    split: Split
    clips: int | None = None
    classes: list[str]
    metrics: list[str]
    selection: str | None
    notes: list[str]


class PublishedTable(_Strict):
    """One table. Kind "breakdown" is of one system by class or culture, "composition" counts clips."""

    id: str
    kind: Kind
    title: str
    dataset: str
    """One name, or several joined by " + "."""
    protocol: Protocol
    columns: list[Column]
    rows: list[Row]
    paper: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        columns = {column.name: column for column in self.columns}
        if len(columns) < len(self.columns) or len({row.name for row in self.rows}) < len(self.rows):
            raise ValueError(f"{self.id}: two columns or two rows have one name")
        for row in self.rows:
            if list(row.values) != list(columns):
                raise ValueError(f"{self.id}, {row.name}: the values are not those of the columns, in their order")
            for name, value in row.values.items():
                if problem := columns[name].problem(value):
                    raise ValueError(f"{self.id}, {row.name}, {name}: {problem}")
        return self


class _PaperFile(_Strict):
    format: Literal[1]
    paper: str
    tables: list[PublishedTable]


def read_tables(folder: str | Path) -> tuple[PublishedTable, ...]:
    """All tables of the JSON files in a folder, by file name. Raises ValueError that names the file, or an id that
    occurs twice."""
    found: list[PublishedTable] = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            paper = _PaperFile.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} does not hold published tables: {error}") from error
        found += [one.model_copy(update={"paper": paper.paper}) for one in paper.tables]
    twice = {one.id for one in found if sum(other.id == one.id for other in found) > 1}
    if twice:
        raise ValueError(f"{folder}: several tables are called {', '.join(sorted(twice))}")
    return tuple(found)


@lru_cache(maxsize=1)
def tables() -> tuple[PublishedTable, ...]:
    """The tables that come with the package."""
    return read_tables(FOLDER)


def table(id: str) -> PublishedTable:
    """The table with that id ("cafer-table-3"). Raises ValueError that lists the ids."""
    for one in tables():
        if one.id == id:
            return one
    raise ValueError(f"no published table {id!r}; there are {', '.join(one.id for one in tables())}")


@dataclass(frozen=True)
class PublishedResult:
    """What the papers print of one method on one dataset under one protocol; every figure is a fraction of 1."""

    method: str
    model: str | None
    dataset: str
    split: str
    classes: tuple[str, ...]
    clips: int | None
    ablation: bool
    """Whether it stands in ablations alone."""
    sources: tuple[str, ...]
    """Ids of the tables that print it."""
    noted: tuple[str, ...]
    """Those of them that have a note on it."""
    scores: dict[str, float] = field(default_factory=dict)
    """Of uar, war and macro_f1 those that are printed."""
    recall: dict[str, float] = field(default_factory=dict)
    groups: dict[str, dict[str, float]] = field(default_factory=dict)
    """Group -> uar, war."""


def dataset_key(names: str | list[str]) -> frozenset[str]:
    """Dataset names as a set that compares: "CASME II + SAMM" and ["samm", "casme2"] are equal."""
    parts = names.split(" + ") if isinstance(names, str) else names
    plain = ("".join(letter for letter in part.casefold() if letter.isalnum()) for part in parts)
    return frozenset(_ALIASES.get(one, one) for one in plain)


@lru_cache(maxsize=1)
def results() -> tuple[PublishedResult, ...]:
    """Rows of all results and ablations. A method whose figures agree in several tables is one of them; where two
    papers print different figures of it, it is two."""
    found: list[PublishedResult] = []
    for one in tables():
        if one.kind not in ("results", "ablation"):
            continue
        for row in one.rows:
            for result in _of_row(one, row):
                same = next((n for n, other in enumerate(found) if _agree(other, result)), None)
                if same is None:
                    found.append(result)
                else:
                    found[same] = _joined(found[same], result)
    return tuple(found)


def _of_row(one: PublishedTable, row: Row) -> list[PublishedResult]:
    places = {(c.dataset or one.dataset, c.split or row.split or one.protocol.split) for c in one.columns if _scored(c)}
    made = []
    for dataset, split in sorted(places):
        result = PublishedResult(
            row.method or row.name, row.model, dataset, split, tuple(sorted(one.protocol.classes)),
            one.protocol.clips if split == one.protocol.split else None, one.kind == "ablation", (one.id,),
            (one.id,) if row.note else (),
        )  # fmt: skip
        for column in one.columns:
            value = row.values[column.name]
            if not _scored(column) or isinstance(value, str) or value is None:
                continue
            if (column.dataset or one.dataset, column.split or row.split or one.protocol.split) != (dataset, split):
                continue
            fraction = value / 100 if column.unit == "percent" else value
            if column.measure == "recall" and column.of:
                result.recall[column.of] = fraction
            elif column.of:
                result.groups.setdefault(column.of, {})[column.measure] = fraction
            else:
                result.scores[column.measure] = fraction
        if result.scores or result.groups:
            made.append(result)
    return made


def _scored(column: Column) -> bool:
    return column.measure in ("uar", "war", "macro_f1", "recall")


def _agree(one: PublishedResult, other: PublishedResult) -> bool:
    if (one.method, one.dataset, one.split, one.classes) != (other.method, other.dataset, other.split, other.classes):
        return False
    # 5e-5: ablations print more decimals than main tables.
    return all(abs(one.scores[name] - other.scores[name]) <= 5.1e-5 for name in one.scores.keys() & other.scores.keys())


def _joined(one: PublishedResult, other: PublishedResult) -> PublishedResult:
    return replace(
        one, model=one.model or other.model, clips=one.clips or other.clips, ablation=one.ablation and other.ablation,
        sources=one.sources + other.sources, noted=one.noted + other.noted, scores=other.scores | one.scores,
        recall=other.recall | one.recall, groups=other.groups | one.groups,
    )  # fmt: skip
