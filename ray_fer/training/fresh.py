"""The model that training begins with: the same wherever it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ray_fer.models import Model, create
from ray_fer.models.pretrained import load_pretrained
from ray_fer.training.recipe import Recipe


def fresh_model(recipe: Recipe, arguments: dict[str, Any], say: Callable[[str], None] = lambda _: None) -> Model:
    """Weights drawn with the recipe's seed, and the public ones that it names in their place; `say` is told which.

    Raises ValueError, or TypeError for arguments that the model does not have, FileNotFoundError for missing weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = create(recipe.model, **arguments)
    if recipe.weight_files:
        found = [load_pretrained(model, path) for path in recipe.weight_files]
        read = {name for one in found for name in one.loaded}
        drawn = sorted({name.split(".")[0] for name, _ in model.named_parameters() if name not in read})
        say(
            f"{len(read)} weights from {', '.join(recipe.weight_files)}; drawn with seed {recipe.seed} are those below "
            f"{', '.join(drawn) or 'nothing'}"
        )
    return model
