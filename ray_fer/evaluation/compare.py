"""Reports of `ray-fer evaluate` in one table, published figures beside them where the protocol is the same.

A report is compared with others, and with the papers, only on the same datasets, protocol and classes: each such
setting is a block of rows, followed by a block of what is published. What is left out is said in a note. Reports on
SynthFER get a table of their own, without anything published.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ray_fer.evaluation.published_tables import PublishedResult, dataset_key, results, table
from ray_fer.evaluation.tables import NOTED, SYNTHETIC, TEST_FOLD, Block, Cell, Comparison

SCORES = {"uar": "UAR", "war": "WAR", "macro_f1": "macro F1"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class Score(_Part):
    """A share of 1, with its interval if it has one. A bare number is a score without."""

    value: float | None = Field(ge=0, le=1)
    low: float | None = None
    high: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, given: Any) -> Any:
        return {"value": given} if given is None or isinstance(given, int | float) else given


class Metrics(_Part):
    """`recall` is by class, in the order of the model; None for a class without clips."""

    uar: Score
    war: Score
    macro_f1: Score | None = None
    recall: dict[str, float | None]
    count: int = Field(ge=1)


class Group(_Part):
    """Clips of one culture."""

    uar: Score
    war: Score


class Fold(_Part):
    """One fold of a cross-validation."""

    uar: float
    war: float
    macro_f1: float | None = None


class ReportModel(_Part):
    """`registry` is the model's name in `ray_fer.models`."""

    name: str
    version: str = ""
    registry: str | None = None


class ReportProtocol(_Part):
    """`name` is fixed, 5-fold, loso ...; `selection` says on what the epoch was chosen."""

    name: str
    selection: str = "validation"


class Report(_Part):
    """`report.json` of a report's folder, as far as comparing needs it."""

    format: Literal[1]
    model: ReportModel
    protocol: ReportProtocol
    datasets: list[str] = Field(min_length=1)
    synthetic: bool
    metrics: Metrics
    groups: dict[str, dict[str, Group]] = Field(default_factory=dict)
    folds: list[Fold] | None = None
    source: str = ""

    @property
    def name(self) -> str:
        """Name and version of the model."""
        return f"{self.model.name} {self.model.version}".strip()

    @property
    def made_up(self) -> bool:
        """Whether any of it is SynthFER, whatever the flag says."""
        return self.synthetic or any(one.startswith("synthfer") for one in dataset_key(self.datasets))

    @property
    def on_test_fold(self) -> bool:
        """Whether the epoch was chosen on what is reported (the papers' habit)."""
        return self.protocol.selection.startswith("test")

    @property
    def setting(self) -> tuple[frozenset[str], str, frozenset[str]]:
        """Datasets, protocol and classes: reports that have these in common compare."""
        return dataset_key(self.datasets), self.protocol.name.casefold(), frozenset(self.metrics.recall)


def read_report(path: str | Path) -> Report:
    """The report in a folder (or its `report.json`). Raises FileNotFoundError that says what to run, or ValueError."""
    path = Path(path)
    file = path if path.name == "report.json" else path / "report.json"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such report; `ray-fer evaluate BUNDLE CLIPS -o {file.parent}` writes one")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("format", 1) != 1:
            raise ValueError(f"format {found['format']!r}, this ray-fer reads format 1; evaluate again, or update")
        return Report.model_validate(found).model_copy(update={"source": _source(file.parent)})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ValueError(f"{file} is no report of `ray-fer evaluate`: {wrong}") from error
    except ValueError as error:
        raise ValueError(f"{file} is no report of `ray-fer evaluate`: {error}") from error


def _source(folder: Path) -> str:
    """The folder's name; that of a cross-validation is called "report", and tells nothing without those above it."""
    return "/".join(folder.parts[-3:-1] if folder.name == "report" else folder.parts[-1:]) or str(folder)


def compare(
    reports: Sequence[Report], published: bool = True, per_class: bool = False, per_culture: bool = False
) -> list[Comparison]:
    """A table of the reports on real data, with published blocks, and one of those on SynthFER, without.

    Folds give mean ± standard deviation (n-1), except under loso, where a subject may lack a class: there, and without
    folds, it is the pooled figure with its interval. Raises ValueError when there is no report.
    """
    if not reports:
        raise ValueError("no reports to compare; give folders that `ray-fer evaluate` wrote")
    made = []
    real = [report for report in reports if not report.made_up]
    synthetic = [report for report in reports if report.made_up]
    if real:
        made.append(_table("Comparison", real, published, per_class, per_culture))
    if synthetic:
        made.append(_table("SynthFER (synthetic)", synthetic, False, per_class, per_culture))
        made[-1].notes.insert(0, SYNTHETIC)
    return made


def _table(title: str, reports: Sequence[Report], published: bool, per_class: bool, per_culture: bool) -> Comparison:
    scores = list(SCORES.values())
    if per_class:
        scores += dict.fromkeys(name for report in reports for name in report.metrics.recall)
    if per_culture:
        groups = dict.fromkeys(name for report in reports for name in report.groups.get("culture", {}))
        scores += [f"{name} {SCORES[score]}" for name in groups for score in ("uar", "war")]
    made = Comparison(title, ["Model", "Dataset", "Protocol", "Clips", *scores, "Source"], scores)
    settings = dict.fromkeys(report.setting for report in reports)
    for setting in settings:
        mine = [report for report in reports if report.setting == setting]
        label = f"{' + '.join(mine[0].datasets)}, {mine[0].protocol.name}"
        made.blocks.append(Block(label, [_report_row(report) for report in mine]))
        if published:
            beside, notes = _published(label, setting, mine)
            made.notes += notes
            if beside:
                made.blocks.append(Block(f"{label}: published", [_published_row(one) for one in beside], True))
    made.notes[:0] = _mismatches(reports, len(settings))
    made.notes += _legend(made, reports)
    return made


def _report_row(report: Report) -> dict[str, Cell]:
    row = {
        "Model": Cell(report.name),
        "Dataset": Cell(" + ".join(report.datasets)),
        "Protocol": Cell(report.protocol.name, marks=TEST_FOLD if report.on_test_fold else ""),
        "Clips": Cell(value=report.metrics.count, decimals=0),
        "Source": Cell(report.source),
    }
    for score, column in SCORES.items():
        folds = [getattr(fold, score) for fold in report.folds or []]
        pooled: Score | None = getattr(report.metrics, score)
        if len(folds) > 1 and None not in folds and report.protocol.name.casefold() != "loso":
            row[column] = Cell(value=100 * statistics.fmean(folds), std=100 * statistics.stdev(folds))
        elif pooled is not None:
            row[column] = _cell(pooled)
    row |= {name: _cell(Score(value=value)) for name, value in report.metrics.recall.items()}
    for name, group in report.groups.get("culture", {}).items():
        row |= {f"{name} UAR": _cell(group.uar), f"{name} WAR": _cell(group.war)}
    return row


def _cell(score: Score) -> Cell:
    value, low, high = (None if one is None else 100 * one for one in (score.value, score.low, score.high))
    return Cell(value=value, low=low, high=high)


def _published_row(one: PublishedResult) -> dict[str, Cell]:
    row = {
        "Model": Cell(one.method, marks=NOTED if one.noted else ""),
        "Dataset": Cell(one.dataset),
        "Protocol": Cell(one.split),
        "Source": Cell(", ".join(one.sources)),
    }
    row |= {SCORES[name]: Cell(value=100 * value) for name, value in one.scores.items()}
    row |= {name: Cell(value=100 * value) for name, value in one.recall.items()}
    for group, values in one.groups.items():
        row |= {f"{group} {SCORES[name]}": Cell(value=100 * value) for name, value in values.items()}
    return row


def _published(
    label: str, setting: tuple[frozenset[str], str, frozenset[str]], reports: Sequence[Report]
) -> tuple[list[PublishedResult], list[str]]:
    """What the papers have under one setting, by UAR, and notes on what is not beside it. Ablations are those of the
    models that are compared."""
    datasets, protocol, classes = setting
    same = [one for one in results() if dataset_key(one.dataset) == datasets]
    if not same:
        return [], [f"{label}: nothing is published on it in the five papers."]
    under = [one for one in same if one.split == protocol]
    models = {report.model.registry for report in reports}
    beside = [one for one in under if set(one.classes) == classes and (not one.ablation or one.model in models)]
    notes = []
    if not under:
        known = dict.fromkeys(one.split for one in same)
        notes.append(f"{label}: published figures are under {' and '.join(known)}, so none is beside it.")
    elif not beside:
        names = dict.fromkeys(", ".join(one.classes) for one in under)
        notes.append(f"{label}: published figures have other classes ({'; '.join(names)}), so none is beside it.")
    else:
        others = dict.fromkeys((one.method, one.split) for one in same if one.split != protocol and not one.ablation)
        notes += [f"{label}: left out is {method}, measured on {split}." for method, split in others]
    clips = {one.clips for one in beside if one.clips is not None}
    notes += [
        f"{report.name}: {report.metrics.count} clips; the published figures are of {max(clips)}."
        for report in reports
        if clips and report.metrics.count not in clips
    ]
    return sorted(beside, key=lambda one: one.scores.get("uar", one.scores.get("macro_f1", 0.0))), notes


def _mismatches(reports: Sequence[Report], settings: int) -> list[str]:
    notes = []
    if settings > 1:
        notes.append("Blocks differ in dataset, protocol or classes: compare within a block only.")
    for datasets in dict.fromkeys(report.setting[0] for report in reports):
        mine = [report for report in reports if report.setting[0] == datasets]
        name = " + ".join(mine[0].datasets)
        protocols = dict.fromkeys(report.protocol.name for report in mine)
        if len(protocols) > 1:
            notes.append(f"{name} is measured under {' and '.join(protocols)}: these figures do not compare.")
        classes = dict.fromkeys(tuple(sorted(report.metrics.recall)) for report in mine)
        if len(classes) > 1:
            listed = "; ".join(", ".join(one) for one in classes)
            notes.append(f"{name} is measured on different classes ({listed}): these figures do not compare.")
    for setting in dict.fromkeys(report.setting for report in reports):
        counts = [(report.name, report.metrics.count) for report in reports if report.setting == setting]
        if len({count for _, count in counts}) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in counts)
            notes.append(f"Not the same clips were scored: {listed}.")
    return notes


def _legend(made: Comparison, reports: Sequence[Report]) -> list[str]:
    rows = [row for block in made.blocks for row in block.rows]
    notes = ["Figures are percentages."]
    if any(cell.std is not None for row in rows for cell in row.values()):
        notes.append("± is the standard deviation over folds (n-1), of their mean.")
    if any(cell.low is not None for row in rows for cell in row.values()):
        notes.append("Brackets hold the report's confidence interval of the pooled figure.")
    if any(report.on_test_fold for report in reports):
        notes.append(f"{TEST_FOLD} The epoch was chosen on the test fold (paper protocol): the figures are optimistic.")
    shown = [one for block in made.blocks if block.published for one in block.rows]
    sources = dict.fromkeys(id for row in shown for id in (row["Source"].text or "").split(", "))
    chosen = dict.fromkeys((id.split("-")[0], table(id).protocol.selection) for id in sources)
    if chosen:
        listed = "; ".join(f"{paper}: {selection}" for paper, selection in chosen)
        notes.append(f"Published: how the papers chose the epoch of their own rows: {listed}.")
    if any(row["Model"].marks for row in shown):
        notes.append(f"{NOTED} `ray-fer compare --table ID` says what does not fit together in this row's source.")
    return notes
