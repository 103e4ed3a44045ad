"""The part of `jobs/bench_train.py` that measures one GPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ray_fer.cli.figures import hand_over
from ray_fer.cli.trials import say

if TYPE_CHECKING:
    from ray_fer.training.recipe import Recipe


def bench_accelerator(
    recipe: Recipe, batch: int, steps: int, clips: int, compiled: bool, output: Path | None, as_json: bool
) -> None:
    """Measure a recipe's model and what it is compared with on the first GPU, and print how they compare.

    Raises ValueError where there is no GPU, transformers is missing for CA-FER, or nothing to compare is known.
    """
    import torch

    from ray_fer.training import accelerator_speed as speed

    ways = speed.ways(recipe)
    if recipe.name == "cafer" and importlib.util.find_spec("transformers") is None:
        raise ValueError("the other ViViT is transformers': pip install transformers")
    if not torch.cuda.is_available():
        raise ValueError("--gpu needs a GPU, and torch finds none here; without it the loop is measured on CPU cores")
    device, transform = torch.device("cuda", 0), recipe.transform
    name = torch.cuda.get_device_name(device)
    say(f"{name}: peak of bf16 matrix products")
    peak = speed.matmul_peak(device)
    say(f"rendering {clips} SynthFER clips on it")
    rendered = speed.rendered_clips(clips, transform, device)
    found = []
    for way in ways:
        say(way.name)
        model = way.make()
        found.append(speed.step_speed(way.name, model, rendered, transform, batch, steps, peak, compiled, way.cached))
        del model
        torch.cuda.empty_cache()
    ours, theirs = found
    report: dict[str, Any] = {
        "recipe": recipe.name, "device": name, "torch": torch.__version__, "batch": batch, "compiled": compiled,
        "peak_tflops": peak / 1e12,
        "speeds": [vars(one) for one in found], "ratio": ours.clips_per_second / theirs.clips_per_second,
    }  # fmt: skip
    if hand_over(report, output, as_json):
        return
    shown = f"{transform.frames} x {transform.size} px"
    table = Table(title=f"{name}, bf16, batch {batch}, {shown}; peak {peak / 1e12:.0f} TFLOP/s (matrix products)")
    for column in ("model", "clips/s", "first / model", "s per step", "GFLOP per clip", "MFU", "memory, GB"):
        table.add_column(column)
    for one in found:
        table.add_row(
            one.way, f"{one.clips_per_second:.1f}", f"{ours.clips_per_second / one.clips_per_second:.2f}",
            f"{one.seconds_per_step:.3f}", f"{one.gflop_per_clip:.0f}", f"{one.mfu:.1%}", f"{one.memory_gb or 0:.1f}",
        )  # fmt: skip
    Console().print(table)
