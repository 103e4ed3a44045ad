"""Culture priors: AU profiles per culture group and the ANOVA that says where groups differ (equations 3 and 4)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy import stats

from ray_fer.labels import AU_NAMES, au_stat_names


class AnovaRow(BaseModel):
    """One-way ANOVA of one AU statistic across cultures. `f` and `p` are None where the statistic is constant."""

    statistic: str
    f: float | None
    p: float | None
    eta_squared: float


class Priors(BaseModel):
    """`priors.json`: what CA-FER's embedding table is seeded from, and the evidence for it."""

    model_config = ConfigDict(extra="forbid")

    extractor: str
    cultures: list[str]
    clips: dict[str, int]
    profiles: dict[str, list[float]]
    """Culture -> 20 mean intensities (equation 3)."""
    normalised: dict[str, list[float]]
    """The same, min-max scaled per AU across cultures (equation 4)."""
    global_profile: list[float]
    """Mean profile over all cultures, each culture weighing the same, on the scale of `normalised`."""
    anova: list[AnovaRow]

    def write(self, path: str | Path) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.model_dump(), indent=1) + "\n")
        return path


def culture_priors(au_stats: np.ndarray, cultures: Sequence[str], names: Sequence[str], extractor: str) -> Priors:
    """Priors from clip statistics [N,80] and each clip's culture name; `names` fixes the order of cultures.

    Clips with NaN statistics (no face) are left out. Raises ValueError when a culture has no usable clip.
    """
    usable = ~np.isnan(au_stats).any(axis=1)
    values, owners = au_stats[usable].astype(np.float64), np.asarray(cultures)[usable]
    groups = [values[owners == name] for name in names]
    empty = [name for name, group in zip(names, groups, strict=True) if not len(group)]
    if empty:
        raise ValueError(f"no clip with a face for culture {', '.join(empty)}; priors need at least one of each")
    count = len(AU_NAMES)
    profiles = np.stack([group[:, :count].mean(0) for group in groups])
    low, high = profiles.min(0), profiles.max(0)
    spread = np.where(high > low, high - low, 1.0)  # an AU that never differs is 0 for every culture
    normalised = (profiles - low) / spread
    return Priors(
        extractor=extractor,
        cultures=list(names),
        clips={name: len(group) for name, group in zip(names, groups, strict=True)},
        profiles=dict(zip(names, np.round(profiles, 6).tolist(), strict=True)),
        normalised=dict(zip(names, np.round(normalised, 6).tolist(), strict=True)),
        global_profile=np.round(normalised.mean(0), 6).tolist(),
        anova=[_anova(name, [group[:, i] for group in groups]) for i, name in enumerate(au_stat_names())],
    )


def _anova(statistic: str, groups: list[np.ndarray]) -> AnovaRow:
    pooled = np.concatenate(groups)
    total = float(((pooled - pooled.mean()) ** 2).sum())
    if total == 0 or len(groups) < 2 or len(pooled) <= len(groups):
        return AnovaRow(statistic=statistic, f=None, p=None, eta_squared=0.0)
    between = float(sum(len(group) * (group.mean() - pooled.mean()) ** 2 for group in groups))
    result = stats.f_oneway(*groups)
    return AnovaRow(statistic=statistic, f=float(result.statistic), p=float(result.pvalue), eta_squared=between / total)


def read_priors(path: str | Path) -> Priors:
    """Load priors.json. Raises FileNotFoundError, or ValueError that names the file and the wrong field."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; make priors with `ray-fer priors`")
    try:
        return Priors.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} does not hold priors: {error}") from error
