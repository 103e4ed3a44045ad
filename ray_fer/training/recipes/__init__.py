"""The recipes, by the name that `--recipe` takes; one module per paper."""

from __future__ import annotations

from collections.abc import Callable

from ray_fer.training.recipe import Recipe
from ray_fer.training.recipes.baselines import BASELINES
from ray_fer.training.recipes.cafer import cafer, cafer_quick, cafer_small
from ray_fer.training.recipes.ethnicmer import ethnicmer, ethnicmer_quick, ethnicmer_small
from ray_fer.training.recipes.hdf import hdf, hdf_quick, hdf_small
from ray_fer.training.recipes.multidataset import multidataset
from ray_fer.training.recipes.ous import ous, ous_quick, ous_small

RECIPES: dict[str, Callable[[], Recipe]] = {
    "cafer": cafer, "cafer-small": cafer_small, "cafer-quick": cafer_quick,
    "ethnicmer": ethnicmer, "ethnicmer-small": ethnicmer_small, "ethnicmer-quick": ethnicmer_quick,
    "hdf": hdf, "hdf-small": hdf_small, "hdf-quick": hdf_quick,
    "ous": ous, "ous-small": ous_small, "ous-quick": ous_quick, "multidataset": multidataset,
    **BASELINES,
}  # fmt: skip


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises ValueError that lists them."""
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]()


__all__ = ["RECIPES", "recipe"]
