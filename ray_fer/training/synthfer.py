"""SynthFER from nothing to a bundle, through the real path: render, preprocess, AUs, priors, train."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ray_fer.datasets.manifest import read_manifest
from ray_fer.datasets.synthfer import SynthOptions, generate, plan
from ray_fer.labels import EXPRESSIONS, SYNTHETIC_CULTURES
from ray_fer.preprocessing.aus import compute_priors, extract_aus
from ray_fer.preprocessing.clips import ClipOptions, preprocess
from ray_fer.training.fit import fit
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
EPOCHS = {"demo": 25, "packaged": 16}
"""Epochs of recipe `cafer-small` that go with each size."""


def train_on_synthfer(
    recipe: Recipe,
    output: Path,
    work: Path,
    size: SynthFerSize,
    seed: int,
    command: str,
    say: Callable[[str], None] = print,
) -> Path:
    """Render clips into `work`, run every stage on the current Ray cluster, write the bundle to `output`.

    Each stage's duration is said and kept in the bundle's metrics. Raises RuntimeError when a clip is lost.
    """
    seconds: dict[str, float] = {}

    def timed(stage: str, started: float) -> None:
        seconds[stage] = round(time.monotonic() - started, 1)
        say(f"{stage}: {seconds[stage]:.0f} s")

    started = time.monotonic()
    options = SynthOptions(seed=seed)
    specs = plan(dataclasses.asdict(size), options)
    say(f"rendering {len(specs)} SynthFER clips")
    manifest = generate(specs, work / "synthfer", options=options, overwrite=True)
    timed("render", started)
    started = time.monotonic()
    clips = ClipOptions(sampling=Sampling(frames=recipe.transform.frames))
    summary = preprocess(manifest, work / "clips", clips, overwrite=True)
    if summary.failed:
        raise RuntimeError(f"{len(summary.failed)} SynthFER clips failed, the first: {summary.failed[0].reason}")
    timed("preprocess", started)
    started = time.monotonic()
    aus = extract_aus(summary.store, work / "aus", overwrite=True)
    priors = compute_priors(aus.store, list(SYNTHETIC_CULTURES))
    priors.write(work / "priors.json")
    timed("action units and priors", started)
    started = time.monotonic()
    bundle = fit(recipe, summary.store, output, list(EXPRESSIONS), priors, command, work / "runs", say=say)
    timed("train and test", started)
    metrics = json.loads((bundle / "metrics.json").read_text())
    metrics["stage_seconds"] = seconds
    metrics["subjects"] = {
        split: sorted({row["subject_id"] for row in read_manifest(manifest) if row["split"] == split})
        for split in ("train", "val", "test")
    }
    (bundle / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    return bundle
