"""Culture priors: AU profiles per culture group (equations 3 and 4), the global prior, and the ANOVA behind them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ray_fer.action_units.anova import UNITS, AnovaRow, anova_rows, subject_means
from ray_fer.labels import AU_NAMES, au_stat_names, index_of

RESOLUTION = 1e-3
"""Profiles of an AU that are closer than this do not differ. Equation 4 would stretch them to 0 and 1 all the same, but
such a difference is numeric dust: the AU that is read best is off by some hundredths (`blendshape_map.json`)."""


class Priors(BaseModel):
    """`priors.json`: what CA-FER's embedding table is seeded from (equation 5), and the evidence for it.

    Fields with a default are missing in files of earlier versions, and then not known.
    """

    model_config = ConfigDict(extra="forbid")

    extractor: str
    cultures: list[str]
    clips: dict[str, int]
    """Culture -> clips with a face, N_c of equation 3."""
    profiles: dict[str, list[float]]
    """Culture -> 20 mean intensities (equation 3); 0 for an AU in `missing`."""
    normalised: dict[str, list[float]]
    """The same, min-max scaled per AU across cultures (equation 4); 0 where they differ by less than `RESOLUTION`."""
    global_profile: list[float]
    """Mean profile over all cultures, each culture weighing the same, on the scale of `normalised` (section III.E)."""
    anova: list[AnovaRow]
    correction: str | None = None
    """How `p_corrected` was corrected, one of `anova.CORRECTIONS`."""
    unit: str = "clip"
    """What the ANOVA counts, one of `anova.UNITS`."""
    units: dict[str, int] | None = None
    """Culture -> samples of the ANOVA."""
    active: float | None = None
    """Intensity from which an AU counted as active in the frequencies."""
    left_out: dict[str, int] | None = None
    """Culture -> clips without a face, which count nowhere."""
    missing: list[str] = []
    """AUs that the extractor does not measure, or not in every culture."""

    def write(self, path: str | Path) -> Path:
        """Write it as JSON, making folders as needed, and return the path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.model_dump(), indent=1, allow_nan=False) + "\n")
        return path

    def ranked(self) -> list[AnovaRow]:
        """Statistics that were tested, the greatest effect first."""
        return sorted((row for row in self.anova if row.p is not None), key=lambda row: -row.eta_squared)


def culture_priors(
    au_stats: np.ndarray,
    cultures: Sequence[str],
    names: Sequence[str],
    extractor: str,
    *,
    subjects: Sequence[str | None] | None = None,
    unit: str = "clip",
    correction: str = "holm",
    active: float | None = None,
) -> Priors:
    """Priors from clip statistics [N,80] and each clip's culture name; `names` fixes the order of cultures.

    Clips of which nothing was measured (no face) are left out and counted; an AU that was not measured (NaN) is left
    out on its own. With `unit` "subject" the ANOVA compares the means of `subjects` [N] instead of clips (see `anova`);
    profiles are over clips all the same, as in equation 3. `active` is only recorded. Raises ValueError when a culture
    has no usable clip, and for an unknown unit or correction.
    """
    index_of(unit, UNITS, "unit of the ANOVA")
    owners = np.asarray(cultures)
    usable = ~np.isnan(au_stats).all(axis=1)
    empty = [name for name in names if not (usable & (owners == name)).any()]
    if empty:
        raise ValueError(f"no clip with a face for culture {', '.join(empty)}; priors need at least one of each")
    chosen = usable & np.isin(owners, list(names))
    values, kept = au_stats[chosen].astype(np.float64), owners[chosen]
    profiles, missing = _profiles(values[:, : len(AU_NAMES)], kept, names)
    low, high = profiles.min(0), profiles.max(0)
    spread = high - low
    normalised = (profiles - low) / np.where(spread < RESOLUTION, np.inf, spread)
    samples, sample_owners = values, kept
    if unit == "subject":
        if subjects is None:
            raise ValueError("an ANOVA of subjects needs each clip's subject_id")
        whose = [subject for subject, one in zip(subjects, chosen, strict=True) if one]
        samples, sample_owners = subject_means(values, kept, whose)
    return Priors(
        extractor=extractor,
        cultures=list(names),
        clips={name: int((kept == name).sum()) for name in names},
        profiles=dict(zip(names, profiles.round(6).tolist(), strict=True)),
        normalised=dict(zip(names, normalised.round(6).tolist(), strict=True)),
        global_profile=normalised.mean(0).round(6).tolist(),
        anova=anova_rows(samples, sample_owners, names, au_stat_names(), correction),
        correction=correction,
        unit=unit,
        units={name: int((sample_owners == name).sum()) for name in names},
        active=active,
        left_out={name: int((~usable & (owners == name)).sum()) for name in names},
        missing=missing,
    )


def _profiles(means: np.ndarray, owners: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Mean of each culture [K,20] over the clips in which an AU was measured, and the AUs that some culture lacks."""
    seen = ~np.isnan(means)
    counts = np.stack([seen[owners == name].sum(0) for name in names])
    sums = np.stack([np.nansum(means[owners == name], axis=0) for name in names])
    lacking = (counts == 0).any(0)
    profiles = np.where(lacking, 0.0, sums / np.maximum(counts, 1))
    return profiles, [au for au, one in zip(AU_NAMES, lacking, strict=True) if one]


def read_priors(path: str | Path) -> Priors:
    """Load priors.json. Raises FileNotFoundError, or ValueError that names the file and the wrong field."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; make priors with `ray-fer priors`")
    try:
        return Priors.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} does not hold priors: {error}") from error
