"""SynthFER from nothing to clips that can be trained on, through the real path: render, preprocess, AUs, priors."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ray_fer.action_units.profiles import Priors
from ray_fer.datasets.manifest import read_manifest
from ray_fer.datasets.synthfer import SynthOptions, generate, plan
from ray_fer.datasets.synthfer.specs import groups_of
from ray_fer.preprocessing.aus import compute_priors, extract_aus
from ray_fer.preprocessing.clips import ClipOptions, preprocess
from ray_fer.training.recipe import Recipe
from ray_fer.video.sampling import Sampling


@dataclass(frozen=True)
class SynthFerSize:
    """Clips per split."""

    train: int
    val: int
    test: int


DEMO = SynthFerSize(train=392, val=28, test=84)
"""What `ray-fer demo --train` uses: about five minutes on two cores."""

PACKAGED = SynthFerSize(train=1568, val=112, test=112)
"""What the bundle in the package was trained on."""

SIZES = {"demo": DEMO, "packaged": PACKAGED}
_LOST = 0.01
EPOCHS = {"demo": 25, "packaged": 16}
"""Epochs of recipe `cafer-small` that go with each size."""


@dataclass(frozen=True)
class Rendered:
    """A clip store of SynthFER with its priors; how long each stage took, and the subjects of each split."""

    store: str
    aus: str
    """The AU table of its clips."""
    priors: Priors
    seconds: dict[str, float]
    subjects: dict[str, list[str]]
    ceiling: float = 1.0
    """Highest UAR on split "train", from 0 to 1, of a model that does not know the culture group."""


def synthfer_clips(
    size: SynthFerSize,
    recipe: Recipe,
    work: Path,
    say: Callable[[str], None] = print,
    strength: float = SynthOptions.strength,
    preset: str = "balanced",
) -> Rendered:
    """Render clips into `work` and run every stage before training on the current Ray cluster.

    The groups' display rules are planted with `strength` (see `datasets.synthfer.rules`); with the same seed of the
    recipe, other strengths give the same people in the same light. With preset "scene", people stand in scenes that
    suggest their expression nine times in ten, and the clips keep the whole frames; with "micro" they keep the optical
    flow from onset to apex.
    What an interrupted run has finished there is not done again. Raises RuntimeError when more than one clip in a
    hundred cannot be used.
    """
    seconds: dict[str, float] = {}

    def timed(stage: str, started: float) -> None:
        seconds[stage] = round(time.monotonic() - started, 1)
        say(f"{stage}: {seconds[stage]:.0f} s")

    started = time.monotonic()
    options = SynthOptions(preset, seed=recipe.seed, strength=strength)
    specs = plan(dataclasses.asdict(size), options)
    say(f"rendering {len(specs)} SynthFER clips")
    manifest = work / "synthfer" / "manifest.parquet"
    if not manifest.is_file():  # written last
        manifest = generate(specs, work / "synthfer", options=options, overwrite=True)
    timed("render", started)
    started = time.monotonic()
    clips = ClipOptions(
        sampling=Sampling(frames=recipe.transform.frames), scene="whole" if preset == "scene" else "none",
        flow="tvl1" if preset == "micro" else "none",
    )  # fmt: skip
    summary = preprocess(manifest, work / "clips", clips, resume=True)
    for failure in summary.failed:  # now and then a head stands half out of the picture
        say(f"left out: {failure.clip_id}: {failure.reason}")
    if len(summary.failed) > _LOST * len(specs):
        raise RuntimeError(
            f"{len(summary.failed)} of {len(specs)} SynthFER clips failed, the first: {summary.failed[0].reason}"
        )
    timed("preprocess", started)
    started = time.monotonic()
    aus = extract_aus(summary.store, work / "aus", resume=True)
    priors = compute_priors(aus.store, list(groups_of(preset)))
    priors.write(work / "priors.json")
    timed("action units and priors", started)
    subjects: dict[str, set[str]] = {}
    for row in read_manifest(manifest):
        subjects.setdefault(row["split"], set()).add(row["subject_id"])
    by_split = {split: sorted(names) for split, names in subjects.items()}
    planted = json.loads((work / "synthfer" / "truth.json").read_text())
    return Rendered(
        summary.store, aus.store, priors, seconds, by_split, planted["agnostic_ceiling_uar"]["train"]
    )  # fmt: skip
