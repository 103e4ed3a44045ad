"""The model card that every bundle carries as README.md."""

from __future__ import annotations

from typing import Any

from ray_fer.action_units.profiles import Priors
from ray_fer.bundle import BundleConfig
from ray_fer.labels import SYNTHETIC_CULTURES
from ray_fer.models import takes
from ray_fer.training.recipe import Recipe


def model_card(
    config: BundleConfig, recipe: Recipe, metrics: dict[str, Any], priors: Priors | None, command: str
) -> str:
    """Markdown: what the model is, its data, seed and metrics, what it is not for, and how to make it again."""
    lines = [
        f"# {config.name}",
        "",
        f"`{config.model}` with {metrics['parameters']:,} parameters: {config.preprocessing.frames} aligned face "
        f"frames of {config.preprocessing.size} px in, one of {len(config.classes)} expressions out "
        f"({', '.join(config.classes)}).",
        "",
        "## Make it again",
        "",
        f"    {command}",
        "",
        f"Seed {recipe.seed}, recipe `{recipe.name}`, "
        f"{'one process' if recipe.in_process else f'{recipe.workers} workers'}; "
        f"{metrics['training_seconds']:.0f} s of training.",
        "",
        "## Data",
        "",
        f"Clips: {', '.join(f'{count} {split}' for split, count in metrics['clips'].items())}. "
        f"Culture groups: {', '.join(config.cultures) or 'none known'}. "
        f"AU extractor: {'none' if priors is None else priors.extractor}.",
        *(["No subject, and no photograph, is in two splits."] if _is_synthetic(config.cultures) else []),
        "",
        "## Metrics",
        "",
    ]
    if "test" in metrics:
        test = metrics["test"]
        told = "known" if recipe.tell_culture else "unknown"
        lines += [
            f"Test, culture {told} to the model: UAR {test['uar']:.3f}, WAR {test['war']:.3f} "
            f"({test['count']} clips, chance {1 / len(config.classes):.2f}).",
            "",
            "| true \\ predicted | " + " | ".join(config.classes) + " | recall |",
            "| --- |" + " --- |" * (len(config.classes) + 1),
        ]
        for name, row in zip(config.classes, test["confusion"], strict=True):
            recall = test["recall"][name]
            shown = "none" if recall is None else f"{recall:.2f}"
            lines.append(f"| {name} | " + " | ".join(str(value) for value in row) + f" | {shown} |")
    lines += ["", "## Use", ""]
    return "\n".join([*lines, caveats(config), ""])


def caveats(config: BundleConfig) -> str:
    """What a model of this configuration is not for."""
    lines = []
    if _is_synthetic(config.cultures):
        lines += [
            "Trained on SynthFER, photographs warped by known Action Units: for demonstrations and tests. It has",
            "never seen a spontaneous expression, and its culture groups are invented: conclude nothing about people.",
        ]
    lines.append("It recognises no identities. Use it only on material whose subjects agreed to that use.")
    if takes(config.model, "cultures"):
        lines.append("Clips of unknown culture get the mean of what the known groups would get (the global prior).")
    return "\n".join(lines)


def _is_synthetic(cultures: list[str]) -> bool:
    return bool(cultures) and set(cultures) <= set(SYNTHETIC_CULTURES)
