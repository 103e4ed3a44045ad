"""What a curation did, as data: the tables of its report, and how they are written.

`write_report` leaves ``report.json`` (everything), ``report.md`` (the same to read), ``dropped.csv`` (every clip that
was dropped, with the reason) and ``kept.png`` (clips per culture before and after).
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray_fer.datasets.curation.agreement import Agreement
from ray_fer.datasets.curation.separability import Separability

UNLABELLED = "(no label)"
Table = dict[str, dict[str, int]]
"""Clips by culture, then by label."""


@dataclass(frozen=True)
class Dropped:
    """One clip that is not in the curated manifest. `reason` is one of a few, `detail` is about this clip."""

    clip_id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class PersonsSummary:
    """Settings of the person rule, and how many clips show 0, 1, 2, ... persons."""

    max_persons: int | None
    frames: int
    min_share: float
    clips_by_persons: dict[int, int]


@dataclass(frozen=True)
class UsedOverride:
    """One correction that was applied; `instead_of` is what the sources would have decided."""

    clip_id: str
    culture: str
    note: str
    instead_of: str | None


@dataclass(frozen=True)
class EthnicitySummary:
    """How ethnicity was decided. `decided_by` counts kept clips by the sources that agreed."""

    groups: str
    rule: str
    estimator: str | None
    threshold: float
    below_threshold: int
    decided_by: dict[str, int]
    annotators: Agreement | None
    overrides: list[UsedOverride]


@dataclass(frozen=True)
class ExpressionSummary:
    """Fleiss' kappa over all annotated clips and per culture, before clips with disagreement are dropped."""

    rule: str
    annotators: tuple[str, ...]
    unannotated: int
    changed: int
    """Kept clips whose label the annotators changed."""
    overall: Agreement
    by_culture: dict[str, Agreement]


@dataclass(frozen=True)
class FacesSummary:
    """EiLA's faces: what isolated them and their side in pixels."""

    isolator: str
    size: int
    written: int


@dataclass(frozen=True)
class CurationReport:
    """Everything about one run. Parts that did not run are None; `problems` are rows of input files passed over."""

    manifest: str
    clips: int
    kept: int
    before: Table
    after: Table
    dropped: list[Dropped]
    persons: PersonsSummary | None = None
    ethnicity: EthnicitySummary | None = None
    expressions: ExpressionSummary | None = None
    separability: Separability | None = None
    faces: FacesSummary | None = None
    problems: list[str] = field(default_factory=list)

    def reasons(self) -> dict[str, int]:
        """Dropped clips by reason, most first."""
        return dict(Counter(one.reason for one in self.dropped).most_common())

    def headlines(self) -> list[str]:
        """The agreement figures, one line each, for a terminal."""
        lines = []
        if self.ethnicity is not None and self.ethnicity.annotators is not None:
            lines.append(f"ethnicity: Cohen's kappa {_kappa(self.ethnicity.annotators)}")
        if self.ethnicity is not None and self.ethnicity.overrides:
            lines.append(f"ethnicity: overrides: {len(self.ethnicity.overrides)}")
        if self.expressions is not None:
            for culture, one in self.expressions.by_culture.items():
                lines.append(f"expressions, {culture}: Fleiss' kappa {_kappa(one)}")
        if self.separability is not None:
            mean, reason = self.separability.mean, self.separability.reason
            lines.append(f"separability: {f'{100 * mean:.1f}% accuracy' if mean is not None else reason}")
        return lines


def count_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """Clips by culture and label, both sorted."""
    counts = Counter((row["culture"], row["label"] or UNLABELLED) for row in rows)
    table: Table = {}
    for (culture, label), number in sorted(counts.items()):
        table.setdefault(culture, {})[label] = number
    return table


def write_report(report: CurationReport, folder: Path) -> None:
    """Write the four files of the report below `folder`, which must exist."""
    content = dataclasses.asdict(report) | {"reasons": report.reasons()}
    (folder / "report.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(to_markdown(report), encoding="utf-8")
    with (folder / "dropped.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["clip_id", "reason", "detail"])
        writer.writerows([one.clip_id, one.reason, one.detail] for one in report.dropped)
    _plot(report, folder / "kept.png")


def to_markdown(report: CurationReport) -> str:
    """The report as Markdown."""
    parts = [f"# Curation of {report.manifest}", f"{report.kept} of {report.clips} clips kept."]
    if report.dropped:
        parts += ["## Dropped", _rows(["reason", "clips"], report.reasons().items())]
    parts += ["## Clips by culture and label, kept of all", _clips(report)]
    if report.persons is not None:
        persons = report.persons
        limit = "any number" if persons.max_persons is None else f"at most {persons.max_persons}"
        parts += [
            "## Persons",
            f"Allowed: {limit}. Faces in less than {persons.min_share:.0%} of {persons.frames} frames do not count.",
            _rows(["persons", "clips"], persons.clips_by_persons.items()),
        ]
    if report.ethnicity is not None:
        parts += _ethnicity(report.ethnicity)
    if report.expressions is not None:
        parts += _expressions(report.expressions)
    if report.separability is not None:
        parts += _separability(report.separability)
    if report.faces is not None:
        faces = report.faces
        parts += ["## Faces", f"{faces.written} grey faces of {faces.size} pixels, isolated with {faces.isolator}."]
    if report.problems:
        parts += ["## Rows passed over", "\n".join(f"- {problem}" for problem in report.problems)]
    return "\n\n".join(parts) + "\n"


def _ethnicity(summary: EthnicitySummary) -> list[str]:
    estimator = summary.estimator or "none"
    parts = [
        "## Ethnicity",
        f"Groups: {summary.groups}. Rule: {summary.rule}. Estimator: {estimator}, votes from a confidence of "
        f"{summary.threshold:g} on (clips below: {summary.below_threshold}).",
        _rows(["decided by", "clips"], summary.decided_by.items()),
    ]
    if summary.annotators is not None:
        parts.append(_agreements({"Cohen's kappa": summary.annotators}))
    if summary.overrides:
        used = [[one.clip_id, one.culture, one.instead_of or "dropped", one.note] for one in summary.overrides]
        parts += [f"Overrides: {len(used)}.", _rows(["clip", "culture", "instead of", "note"], used)]
    return parts


def _expressions(summary: ExpressionSummary) -> list[str]:
    return [
        "## Expressions",
        f"{len(summary.annotators)} annotators; kept if {summary.rule}; {summary.unannotated} clips have no annotation "
        f"and keep their label; {summary.changed} kept clips have another label than before. Fleiss' kappa:",
        _agreements({"all": summary.overall} | summary.by_culture),
    ]


def _separability(result: Separability) -> list[str]:
    parts = ["## Separability of the groups (ResNet-18 features)"]
    if result.mean is not None and result.std is not None and result.chance is not None:
        folds = ", ".join(f"{100 * one:.1f}" for one in result.accuracy)
        apart = "no subject in two folds" if result.by_subject else "stratified by group only"
        parts += [
            f"Accuracy {100 * result.mean:.1f}% ± {100 * result.std:.1f} (folds: {folds}; {apart}; the largest group "
            f"alone would give {100 * result.chance:.1f}%).",
            _rows(
                ["group \\ taken for", *result.groups],
                [[name, *row] for name, row in zip(result.groups, result.confusion, strict=True)],
            ),
        ]
    parts += [f"Not computed: {result.reason}."] if result.reason else []
    parts += [f"Note: {result.note}."] if result.note else []
    return parts


def _kappa(one: Agreement) -> str:
    if one.kappa is None or one.percent is None:
        return f"not defined: {one.reason}"
    return f"{one.kappa:.3f} ({one.wording}), {one.percent:.1f}% agreement over {one.clips} clips"


def _agreements(agreements: Mapping[str, Agreement]) -> str:
    rows = []
    for name, one in agreements.items():
        kappa = "" if one.kappa is None else f"{one.kappa:.4f}"
        percent = "" if one.percent is None else f"{one.percent:.1f}%"
        rows.append([name, one.clips, one.raters, percent, kappa, one.wording or f"not defined: {one.reason}"])
    return _rows(["", "clips", "annotators", "agreement", "kappa", "Landis and Koch"], rows)


def _clips(report: CurationReport) -> str:
    labels = sorted({label for table in (report.before, report.after) for row in table.values() for label in row})
    rows = []
    for culture in sorted({*report.before, *report.after}):
        before, after = report.before.get(culture, {}), report.after.get(culture, {})
        cells = [f"{after.get(label, 0)} / {before.get(label, 0)}" for label in labels]
        rows.append([culture, *cells, f"{sum(after.values())} / {sum(before.values())}"])
    return _rows(["culture", *labels, "all"], rows)


def _rows(header: list[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _plot(report: CurationReport, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cultures = sorted({*report.before, *report.after})
    figure = Figure(figsize=(1.5 + 1.2 * len(cultures), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for shift, (name, table) in enumerate((("before", report.before), ("kept", report.after))):
        heights = [sum(table.get(culture, {}).values()) for culture in cultures]
        bars = axes.bar([i + 0.4 * shift for i in range(len(cultures))], heights, 0.4, label=name)
        axes.bar_label(bars)
    axes.set_xticks([i + 0.2 for i in range(len(cultures))], cultures)
    axes.set_ylabel("clips")
    axes.margins(y=0.12)
    axes.legend()
    figure.savefig(path, dpi=120)
