"""The systems of published tables: which model and recipe each row names, and whether it can be trained here."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from ray_fer.evaluation.published_tables import PublishedTable, Row, tables
from ray_fer.evaluation.reproduced import can_count, settings_words
from ray_fer.labels import AU_NAMES, EXPRESSIONS
from ray_fer.models import create, names, takes
from ray_fer.training.recipe import overridden
from ray_fer.training.recipes import RECIPES
from ray_fer.training.recipes import recipe as recipe_named

_SMALL = "-small"
_CULTURES = 4


def chosen_rows(table: PublishedTable, only: Sequence[str]) -> list[Row]:
    """The rows of these names, or all. Raises ValueError that lists the rows there are."""
    there = [row.name for row in table.rows]
    unknown = [name for name in only if name not in there]
    if unknown:
        raise ValueError(f"{table.id} has no row {', '.join(map(repr, unknown))}; there are {', '.join(there)}")
    return [row for row in table.rows if not only or row.name in only]


def recipe_of(model: str, small: bool) -> str | None:
    """Name of the recipe that trains a model, of the paper's size or a `small` one; None when there is none."""
    mine = [name for name, make in RECIPES.items() if make().model == model]
    return next((name for name in mine if name.endswith(_SMALL) == small), None)


def row_settings(row: Row) -> tuple[str, ...]:
    """What the row changes in the recipe, as `overridden` takes it.

    A model that knows culture groups is told those of test clips, as in the paper: its global prior, for clips whose
    culture is unknown, is a row of its own there.
    """
    told = ("tell_culture=true",) if takes(str(row.model), "cultures") else ()
    return told + tuple(f"{name}={json.dumps(value)}" for name, value in row.settings.items())


def system_slug(row: Row) -> str:
    """The system of a row as a part of a folder's name: "cafer-conditioning-au"."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", settings_words(row)).strip("-")


def refusal(row: Row, recipe: str | None = None, small: bool = False) -> str | None:
    """Why the system of a row cannot be trained, whatever the clips are; None when it can.

    `recipe` is given for all rows, else it is the row's own, of the paper's size or a `small` one.
    """
    if row.model is None:
        return "it is a method that is not among the models here"
    if row.model not in names():
        return f"{row.model} is not among this version's models ({', '.join(names())})"
    mixed = [name for name in row.settings if name.startswith("data.")]
    if mixed:
        return f"it trains on a mixture of datasets ({', '.join(mixed)}), which cannot be asked for yet"
    chosen = recipe or recipe_of(row.model, small)
    if chosen is None:
        return f"no {'small ' if small else ''}recipe trains {row.model}; name one with --recipe"
    if recipe_named(chosen).model != row.model:
        return f"recipe {chosen} trains {recipe_named(chosen).model} and not {row.model}"
    return _model_refusal(row.model, row_settings(row), settings_words(row))


@cache
def _model_refusal(model: str, settings: tuple[str, ...], words: str) -> str | None:
    """What the model says of the settings, tried at the least size that there is a recipe for."""
    profiles = np.random.default_rng(0).random((_CULTURES, len(AU_NAMES)))
    data = {
        "classes": len(EXPRESSIONS), "cultures": _CULTURES, "profiles": profiles.tolist(),
        "global_profile": profiles.mean(0).tolist(),
    }  # fmt: skip
    name = recipe_of(model, small=True) or recipe_of(model, small=False)
    try:
        recipe = overridden(recipe_named(str(name)), settings)
        decided = {argument: value for argument, value in data.items() if takes(model, argument)}
        create(model, **recipe.model_config_ | decided)
    except (ValueError, TypeError) as error:
        return f"{words} is refused: {error}"
    return None


def can_be_made(table: PublishedTable) -> list[str]:
    """The rows that can be trained or counted with what this version has."""
    if table.kind == "composition":
        return [row.name for row in table.rows] if can_count(table) else []
    return [row.name for row in table.rows if refusal(row) is None]


def why_not(table: PublishedTable) -> dict[str, str]:
    """The rows about models of ours that cannot be trained, with the reasons."""
    if table.kind == "composition":
        return {}
    reasons = {row.name: refusal(row) for row in table.rows if row.model is not None}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def reproducible() -> dict[str, list[str]]:
    """Tables of which something can be made: id -> rows."""
    found = {table.id: can_be_made(table) for table in tables()}
    return {name: rows for name, rows in found.items() if rows}
