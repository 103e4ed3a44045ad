"""The systems of published tables: which model and recipe each row names, and whether it can be made here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache

from ray_fer.evaluation.prima_facie_report import TABLE as STUDY
from ray_fer.evaluation.published_tables import PublishedTable, Row, tables
from ray_fer.evaluation.reproduced import can_count, settings_words
from ray_fer.models import create, names, takes
from ray_fer.models.describe import placeholders
from ray_fer.training.recipe import Recipe, overridden
from ray_fer.training.recipes import RECIPES
from ray_fer.training.recipes import recipe as recipe_named

BASE, EXTRA, FRACTION = "data.base", "data.extra", "data.fraction"
"""Settings of a row that trains on, or counts, a mixture of datasets: all of one, and a share of another."""
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


def of_mixtures(table: PublishedTable) -> bool:
    """Whether its rows are mixtures of datasets, which one clip store holds."""
    return any(BASE in row.settings for row in table.rows)


def mixed_datasets(table: PublishedTable) -> list[str]:
    """The datasets of its mixtures, sorted."""
    return sorted({str(row.settings[name]) for row in table.rows for name in (BASE, EXTRA) if name in row.settings})


def trained(table: PublishedTable) -> bool:
    """Whether its rows are systems that one training loop trains: not counts, and not the prima facie study."""
    return table.kind != "composition" and table.id != STUDY


def not_on_synthfer(table: PublishedTable) -> str | None:
    """Why a table is not made on SynthFER, and what to give instead; None when it is."""
    if of_mixtures(table):
        return (
            f"{table.id} is about mixtures of datasets, and SynthFER has none; give --data a clip store that holds "
            f"{', '.join(mixed_datasets(table))}"
        )
    if table.id == STUDY:
        return (
            f"{table.id} is a study of people's flow images, which is not made on SynthFER; give --data a clip store "
            f"of {table.dataset} made with `ray-fer preprocess --flow tvl1`"
        )
    return None


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
    own = {name: value for name, value in row.settings.items() if name not in (BASE, EXTRA, FRACTION)}
    return told + tuple(f"{name}={json.dumps(value)}" for name, value in own.items())


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
    """The rows that can be trained, counted or drawn with what this version has."""
    if trained(table):
        return [row.name for row in table.rows if refusal(row) is None]
    makeable = table.id == STUDY or of_mixtures(table) or can_count(table)
    return [row.name for row in table.rows] if makeable else []


def why_not(table: PublishedTable) -> dict[str, str]:
    """The rows about models of ours that cannot be trained, with the reasons."""
    if not trained(table):
        return {}
    reasons = {row.name: refusal(row) for row in table.rows if row.model is not None}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def reproducible() -> dict[str, list[str]]:
    """Tables of which something can be made: id -> rows."""
    found = {table.id: can_be_made(table) for table in tables()}
    return {name: rows for name, rows in found.items() if rows}


def others() -> str:
    """The end of an error: what can be made instead."""
    return f"tables that can be made: {', '.join(reproducible())} (--list tells of which rows)"


def listed(reasons: Mapping[str, str | None]) -> str:
    """Reasons by row as one text; rows that have one in common stand together."""
    rows: dict[str | None, list[str]] = {}
    for name, reason in reasons.items():
        rows.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in rows.items())
