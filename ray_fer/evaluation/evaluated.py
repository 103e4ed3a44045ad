"""What a report tells of the model that it is about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ray_fer.action_units.profiles import Priors, read_priors
from ray_fer.bundle import Bundle, BundleConfig

_CARD, _PRIORS = "README.md", "priors.json"

VALIDATION, TEST_FOLD, LAST = "validation", "test fold (paper protocol)", "nothing, the last one is taken"
"""What the epoch of a model is selected on."""


@dataclass(frozen=True)
class Evaluated:
    """A trained model, or what the models of all folds of a cross-validation have in common."""

    config: BundleConfig
    model: nn.Module | None = None
    """To look into, in eval mode; None where there are several, or none was kept."""
    priors: Priors | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Of its training, as in a bundle's metrics.json."""
    caveats: str = ""
    """Markdown: what it may be used for."""
    command: str = ""
    """What makes the model again."""

    @property
    def selection(self) -> str:
        """What its epoch was selected on: `VALIDATION` where nothing else is known."""
        if "selection" in self.metrics:
            return str(self.metrics["selection"])
        return LAST if (self.config.recipe or {}).get("select") == "last" else VALIDATION


def of_bundle(bundle: Bundle) -> Evaluated:
    """What the report of a bundle tells. Raises ValueError for a priors.json that cannot be read."""
    card_file, priors_file = bundle.path / _CARD, bundle.path / _PRIORS
    card = card_file.read_text("utf-8", "replace") if card_file.is_file() else ""
    known = priors_file.is_file() and json.loads(priors_file.read_text()) is not None
    return Evaluated(
        bundle.config, bundle.model, read_priors(priors_file) if known else None, bundle.metrics,
        _section(card, "Use") or card, _code(_section(card, "Make it again")),
    )  # fmt: skip


def _section(markdown: str, heading: str) -> str:
    """The text below a heading of the second level, up to the next one."""
    _, found, after = f"\n{markdown}".partition(f"\n## {heading}\n")
    return after.partition("\n## ")[0].strip("\n") if found else ""


def _code(section: str) -> str:
    return "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
