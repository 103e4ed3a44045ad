"""The model that training begins with: the same wherever it is made."""

from __future__ import annotations

from typing import Any

import torch

from ray_fer.models import Model, create
from ray_fer.models.pretrained import load_pretrained
from ray_fer.training.recipe import Recipe


def fresh_model(recipe: Recipe, arguments: dict[str, Any]) -> Model:
    """Weights drawn with the recipe's seed, and the public ones that it names in their place.

    Raises ValueError, or TypeError for arguments that the model does not have, FileNotFoundError for missing weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = create(recipe.model, **arguments)
    if recipe.pretrained is not None:
        load_pretrained(model, recipe.pretrained)
    return model
