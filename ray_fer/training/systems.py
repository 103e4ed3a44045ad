"""The systems of published tables: which model and recipe each row names, and whether it can be trained here."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache

from ray_fer.evaluation.published_tables import PublishedTable, Row, tables
from ray_fer.evaluation.reproduced import can_count, settings_words
from ray_fer.models import create, names, takes
from ray_fer.models.describe import placeholders
from ray_fer.training.recipe import Recipe, overridden
from ray_fer.training.recipes import RECIPES
from ray_fer.training.recipes import recipe as recipe_named

ENDINGS = ("-small", "-quick")
"""Of names of recipes that are not of the paper's size."""
_PLANTED_TOO = {"cafer-table-3": (("cafer-figure-7", "Global prior"),)}
"""Rows of other tables that a table has on SynthFER, where nothing is published: so Table III has all conditionings."""
_FACE_ALONE = Row(
    name="Face alone", method="OUS, face alone", model="ous", settings={"model_config_.streams": "face"}, values={}
)
_PLANTED_ALONE = {"ous-table-4": (_FACE_ALONE,), "ous-table-5": (_FACE_ALONE,)}
"""Rows that a table has on SynthFER alone, where what a scene suggests is planted, and what it brings can be seen."""


def chosen_rows(table: PublishedTable, only: Sequence[str], synthfer: bool = False) -> list[Row]:
    """The rows of these names, or all. Raises ValueError that lists the rows there are."""
    rows = list(table.rows)
    if synthfer:
        more = _PLANTED_TOO.get(table.id, ())
        rows += [row for other in tables() for row in other.rows if (other.id, row.name) in more]
        rows += _PLANTED_ALONE.get(table.id, ())
    there = [row.name for row in rows]
    unknown = [name for name in only if name not in there]
    if unknown:
        raise ValueError(f"{table.id} has no row {', '.join(map(repr, unknown))}; there are {', '.join(there)}")
    return [row for row in rows if not only or row.name in only]


@cache
def recipe_of(model: str, ending: str = "") -> str | None:
    """Name of the recipe that trains a model, of the paper's size or with one of `ENDINGS`; None if there is none."""
    mine = [name for name, make in RECIPES.items() if make().model == model]
    return next((name for name in mine if (name.endswith(ending) if ending else not name.endswith(ENDINGS))), None)


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


def refusal(row: Row, recipe: str | None = None, ending: str = "") -> str | None:
    """Why the system of a row cannot be trained, whatever the clips are; None when it can.

    `recipe` is given for all rows, else it is the row's own, of the paper's size or with one of `ENDINGS`.
    """
    if row.model is None:
        return "it is a method that is not among the models here"
    if row.model not in names():
        return f"{row.model} is not among this version's models ({', '.join(names())})"
    if any(name.startswith("data.") for name in row.settings):
        return (
            "it trains on a mixture of datasets, which `ray-fer train --recipe multidataset --sweep` does for all rows"
        )
    chosen = recipe or recipe_of(row.model, ending)
    if chosen is None:
        return f"no recipe {f'*{ending} ' if ending else ''}trains {row.model}; name one with --recipe"
    if recipe_named(chosen).model != row.model:
        return f"recipe {chosen} trains {recipe_named(chosen).model} and not {row.model}"
    return _model_refusal(row.model, row_settings(row), settings_words(row))


@cache
def _model_refusal(model: str, settings: tuple[str, ...], words: str) -> str | None:
    """What the model says of the settings, tried with its tiny preset: some are slow to build at their real size."""
    try:
        recipe = overridden(Recipe(name=model, model=model, augment=None), settings)
        create(model, "tiny", **recipe.model_config_ | placeholders(model))
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
