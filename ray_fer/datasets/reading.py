"""What a reader passes over, and why: problems with file and line, clips left out by design, notes."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ray_fer.datasets.manifest import Clip


class DatasetError(ValueError):
    """A dataset that cannot be read as a whole; the message names the file and what to do."""


@dataclass(frozen=True)
class Problem:
    """What is wrong in a file, mostly a row that cannot be used. `line` counts from 1; None when there are no lines."""

    file: Path
    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f':{self.line}'}: {self.reason}"


@dataclass
class Report:
    """Filled by a reader while it reads."""

    problems: list[Problem] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Clips that a label map or protocol leaves out on purpose, by reason."""
    notes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    """Sizes that are not the published ones."""

    def problem(self, file: Path, line: int | None, reason: str) -> None:
        """Record what is wrong: a row that cannot be used, or that says something else than another."""
        self.problems.append(Problem(file, line, reason))

    def note(self, text: str) -> None:
        """Record what the user should know but need not mend; each text once."""
        if text not in self.notes:
            self.notes.append(text)

    def write_problems(self, path: Path) -> Path:
        """All problems as CSV: file, line, reason."""
        with path.open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out)
            writer.writerow(["file", "line", "reason"])
            writer.writerows([problem.file, problem.line, problem.reason] for problem in self.problems)
        return path


class ClipRows:
    """Clips of a table, one row each. A clip that two rows label differently is not used at all."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._clips: dict[str, tuple[Clip, int]] = {}
        self._torn: set[str] = set()

    def add(self, clip: Clip, file: Path, line: int) -> None:
        """Take a row's clip, unless an earlier row named it; then the row is reported."""
        name = clip.clip_id
        if name in self._torn:
            self._report.problem(file, line, f"clip {name} was dropped, since earlier rows label it differently")
        elif name not in self._clips:
            self._clips[name] = (clip, line)
        else:
            first, at = self._clips[name]
            if (first.label, first.culture) == (clip.label, clip.culture):
                self._report.problem(file, line, f"clip {name} is listed twice; line {at} is used")
            else:
                text = (
                    f"clip {name} is {clip.label}, {clip.culture} here and {first.label}, {first.culture} in line {at}"
                )
                self._report.problem(file, line, f"{text}; neither is used")
                self._torn.add(name)
                del self._clips[name]

    def clips(self) -> list[Clip]:
        """Clips in the order of the rows."""
        return [clip for clip, _ in self._clips.values()]


@dataclass(frozen=True)
class Reading:
    """A dataset that was read: its clips, which release it was, and the report."""

    dataset: str
    variant: str
    clips: list[Clip]
    report: Report
