"""What a curation is told to do, checked before any clip is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ray_fer.datasets.curation.estimators import ESTIMATORS
from ray_fer.datasets.curation.ethnicity import THRESHOLD
from ray_fer.datasets.curation.expressions import ExpressionRule
from ray_fer.datasets.curation.persons import PersonRule
from ray_fer.datasets.ethnic_groups import ETHNICMER, SCHEMES, GroupScheme


@dataclass(frozen=True)
class CurateOptions:
    """Input files, rules and what to compute. Parts whose file is None do not run."""

    manifest: Path
    output: Path
    groups: str = "gcc-fer"
    """'gcc-fer': two of three sources; 'ethnicmer': one estimator alone."""
    votes: Path | None = None
    estimates: Path | None = None
    estimator: str | None = None
    weights: Path | None = None
    overrides: Path | None = None
    threshold: float | None = None
    """None: 0.75 for 'gcc-fer', 0 for 'ethnicmer', whose paper names none."""
    persons: PersonRule | None = field(default_factory=PersonRule)
    expressions: Path | None = None
    expression_rule: ExpressionRule = "unanimous"
    separability: bool = False
    resnet_weights: Path | None = None
    faces: int | None = None
    """Side in pixels of EiLA's grey faces."""
    face_model: Path | None = None
    overwrite: bool = False

    @property
    def scheme(self) -> GroupScheme:
        """The study's groups."""
        return SCHEMES[self.groups]

    @property
    def alone(self) -> bool:
        """Whether the estimator decides alone."""
        return self.scheme is ETHNICMER

    @property
    def limit(self) -> float:
        """Confidence from which on the estimator votes."""
        return self.threshold if self.threshold is not None else 0.0 if self.alone else THRESHOLD

    @property
    def filters_ethnicity(self) -> bool:
        """Whether any source of ethnicity is given."""
        return any((self.votes, self.estimates, self.estimator))

    @property
    def looks_at_faces(self) -> bool:
        """Whether clips must be decoded before ethnicity is decided."""
        return self.persons is not None or self.estimator is not None or self.separability

    def check(self) -> None:
        """Raise ValueError for options that contradict each other, with what to do instead."""
        if self.groups not in SCHEMES:
            raise ValueError(f"unknown groups {self.groups!r}; expected one of {', '.join(SCHEMES)}")
        if self.estimator is not None and self.estimator not in ESTIMATORS:
            raise ValueError(f"unknown estimator {self.estimator!r}; expected one of {', '.join(ESTIMATORS)}")
        if not 0 <= self.limit <= 1:
            raise ValueError(f"--threshold {self.limit:g} is no confidence; it lies between 0 and 1")
        if self.estimates and self.estimator:
            raise ValueError("--estimates replaces --estimator; give one of them")
        if self.weights and not self.estimator:
            raise ValueError("--weights belongs to --estimator")
        if self.overrides and not self.filters_ethnicity:
            raise ValueError("--overrides corrects what --votes, --estimates or --estimator decide; give one of those")
        if self.alone and self.votes:
            raise ValueError("--groups ethnicmer takes one estimator and --overrides, no --votes")
        if not self.alone and self.filters_ethnicity and not self.votes:
            raise ValueError("two of three sources must agree: give --votes too, or use --groups ethnicmer")
        if self.resnet_weights and not self.separability:
            raise ValueError("--resnet-weights belongs to --separability")
        if self.face_model and self.faces is None:
            raise ValueError("--face-model belongs to --faces")
        if self.faces is not None and (self.estimator or self.separability):
            raise ValueError("--faces changes the clips; run --estimator and --separability before, on their own")
