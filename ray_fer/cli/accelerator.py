"""The part of `jobs/bench_train.py` that measures one GPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ray_fer.cli.figures import hand_over
from ray_fer.cli.trials import say


def bench_accelerator(batch: int, steps: int, clips: int, compiled: bool, output: Path | None, as_json: bool) -> None:
    """Measure CA-FER at its paper's size and transformers' ViViT-B on the first GPU, and print how they compare.

    Raises ValueError where there is no GPU, or transformers is not installed.
    """
    import torch

    from ray_fer.models import create
    from ray_fer.models.describe import placeholders
    from ray_fer.models.transform import TransformConfig
    from ray_fer.training import accelerator_speed as speed

    if importlib.util.find_spec("transformers") is None:
        raise ValueError("the other ViViT is transformers': pip install transformers")
    if not torch.cuda.is_available():
        raise ValueError("--gpu needs a GPU, and torch finds none here; without it the loop is measured on CPU cores")
    device, transform = torch.device("cuda", 0), TransformConfig()
    name = torch.cuda.get_device_name(device)
    say(f"{name}: peak of bf16 matrix products")
    peak = speed.matmul_peak(device)
    say(f"rendering {clips} SynthFER clips on it")
    rendered = speed.rendered_clips(clips, transform, device)
    found = []
    for way, make in (
        ("ray_fer, CA-FER with ViViT-B FE", lambda: create("cafer", **placeholders("cafer"))),
        ("transformers, ViViT-B", lambda: speed.TransformersViViT(transform)),
    ):
        say(way)
        model = make()
        found.append(speed.step_speed(way, model, rendered, transform, batch, steps, peak, compiled))
        del model
        torch.cuda.empty_cache()
    ours, theirs = found
    report: dict[str, Any] = {
        "device": name, "torch": torch.__version__, "batch": batch, "compiled": compiled, "peak_tflops": peak / 1e12,
        "speeds": [vars(one) for one in found], "ratio": ours.clips_per_second / theirs.clips_per_second,
    }  # fmt: skip
    if hand_over(report, output, as_json):
        return
    table = Table(title=f"{name}, bf16, batch {batch}, 16 x 224 px; peak {peak / 1e12:.0f} TFLOP/s (matrix products)")
    for column in ("model", "clips/s", "ray_fer / model", "s per step", "GFLOP per clip", "MFU", "memory, GB"):
        table.add_column(column)
    for one in found:
        table.add_row(
            one.way, f"{one.clips_per_second:.1f}", f"{ours.clips_per_second / one.clips_per_second:.2f}",
            f"{one.seconds_per_step:.3f}", f"{one.gflop_per_clip:.0f}", f"{one.mfu:.1%}", f"{one.memory_gb or 0:.1f}",
        )  # fmt: skip
    Console().print(table)
