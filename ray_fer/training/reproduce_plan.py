"""What it takes to make a published table: options, the clips it is about, and the systems that are cross-validated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ray_fer.datasets.synthfer import SynthOptions
from ray_fer.datasets.synthfer.rules import check_strength
from ray_fer.evaluation.published_tables import PublishedTable, Row, table, tables
from ray_fer.evaluation.reproduced import Source, settings_words
from ray_fer.models import names, takes
from ray_fer.preprocessing.store_index import ClipIndex
from ray_fer.training.crossval_plan import CrossValOptions, CrossValPlan, plan_cross_validation
from ray_fer.training.recipe import overridden
from ray_fer.training.recipes import recipe as recipe_named
from ray_fer.training.reproduce_source import compares, given_folds, split_of
from ray_fer.training.synthfer import SynthFerSize
from ray_fer.training.systems import (
    can_be_made,
    chosen_rows,
    listed,
    not_on_synthfer,
    others,
    recipe_of,
    refusal,
    row_settings,
    system_slug,
    trained,
)
from ray_fer.training.trial import TrialKeeping

SYNTHFER = "synthfer"
STRENGTHS = (0.0, 0.5, 1.0)
"""Of the planted display rules: groups alike, groups of different style, one pattern with different meanings."""
SYSTEMS, WORK = "systems", "work"


@dataclass(frozen=True)
class SynthFerForm:
    """How a table is made on SynthFER."""

    recipes: str
    """Ending of the names of recipes."""
    clips: int
    micro_clips: int
    """Of preset "micro", which is for leaving one subject out."""
    folds: int
    seeds: tuple[int, ...]

    def size(self, preset: str) -> SynthFerSize:
        """All clips are for training: folds are made of them."""
        return SynthFerSize(train=self.micro_clips if preset == "micro" else self.clips, val=0, test=0)


QUICK = SynthFerForm("-quick", clips=448, micro_clips=288, folds=3, seeds=(1,))
"""Within an hour on two cores."""
FULL = SynthFerForm("-small", clips=1680, micro_clips=972, folds=5, seeds=(1, 2, 3))
"""For a GPU; of micro-expressions as many subjects as CASME II and SAMM have."""


@dataclass(frozen=True)
class ReproduceOptions:
    """Which table, of which clips, and how its systems are trained."""

    table: str
    data: str
    """A clip store, or "synthfer" to render some."""
    output: Path
    quick: bool = False
    """SynthFER in its small form."""
    strengths: tuple[float, ...] = ()
    """Of the display rules that are planted in SynthFER, of which each is rendered and tried; as `planted` when
    empty."""
    rows: tuple[str, ...] = ()
    """Names of rows; all when empty."""
    recipe: str | None = None
    """For all systems; that of each model when None."""
    settings: tuple[str, ...] = ()
    """Changes to the recipe of all systems, after those of the table's row."""
    seeds: tuple[int, ...] = ()
    aus: str | None = None
    priors: Path | None = None
    paper_protocol: bool = False
    any_dataset: bool = False
    """Train on clips that the table is not about; it then has no published figure."""
    parallel: int | None = None
    faces: bool = True
    mlflow: str | None = None
    overwrite: bool = False
    command: str = ""

    @property
    def synthfer(self) -> bool:
        """Whether the clips are rendered."""
        return self.data == SYNTHFER

    @property
    def form(self) -> SynthFerForm:
        """Of SynthFER."""
        return QUICK if self.quick else FULL

    @property
    def ending(self) -> str:
        """Of the names of the recipes that train systems."""
        return self.form.recipes if self.synthfer else ""

    def check(self) -> tuple[PublishedTable, list[Row]]:
        """The table and its rows. Raises ValueError or FileExistsError for what cannot work, whatever the clips are."""
        chosen = table(self.table)
        rows = chosen_rows(chosen, self.rows, self.synthfer)
        if self.synthfer and (self.aus or self.priors):
            raise ValueError("--data synthfer makes AU profiles of its own; leave out --aus and --priors")
        if self.quick and not self.synthfer:
            raise ValueError(
                "--quick is a small form of --data synthfer; for other clips make systems smaller with --set"
            )
        if len(set(self.strengths)) < len(self.strengths):
            raise ValueError(f"strengths {', '.join(map(str, self.strengths))}: give each once, such as 0,0.5,1")
        for strength in self.strengths:
            check_strength(strength)
        if self.synthfer and (instead := not_on_synthfer(chosen)):
            raise ValueError(instead)
        if chosen.kind == "composition" and not can_be_made(chosen):
            raise ValueError(f"{chosen.id} counts other things than clips by expression; {others()}")
        if trained(chosen):
            reasons = {row.name: refusal(row, self.recipe, self.ending) for row in rows}
            if None not in reasons.values():
                raise ValueError(f"no row of {chosen.id} can be trained ({listed(reasons)}); {others()}")
            for row in (row for row in rows if reasons[row.name] is None):
                name, settings = self.recipe_of(row)
                overridden(recipe_named(name), settings)
        known = (SYSTEMS, WORK, *(f"{one.id}.json" for one in tables()))
        if self.output.is_dir() and any(self.output.iterdir()) and not any((self.output / n).exists() for n in known):
            raise FileExistsError(f"{self.output} is not the folder of reproduced tables; choose another")
        return chosen, rows

    def planted(self, rows: Sequence[Row]) -> tuple[float, ...]:
        """Strengths that are tried: `STRENGTHS` where a model knows culture groups, else SynthFER's usual one."""
        about_culture = any(row.model in names() and takes(str(row.model), "cultures") for row in rows)
        return self.strengths or (STRENGTHS if about_culture else (SynthOptions.strength,))

    def accepted(self, source: Source) -> Source:
        """The source. Raises ValueError when it is not that of the table, and nobody asked for another."""
        if source.published or self.any_dataset or self.synthfer:
            return source
        raise ValueError(
            f"{self.data}: {source.apart}; give a clip store of what the table is about, or --any-dataset, which "
            "leaves the published figures out"
        )

    def refuse(self, *names: str, why: str) -> None:
        """Raise ValueError, which says `why`, when any of these fields is given."""
        given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name)]
        if given:
            raise ValueError(f"{self.table} {why}; leave out {' and '.join(given)}")

    def recipe_of(self, row: Row) -> tuple[str, tuple[str, ...]]:
        """Name of the recipe of a row that is not refused, and all that is changed in it."""
        name = self.recipe or str(recipe_of(str(row.model), self.ending))
        return name, row_settings(row) + self.settings


@dataclass(frozen=True)
class Clips:
    """Where the clips are, their AU table, and of SynthFER what was planted."""

    store: str
    aus: str | None
    strength: float | None = None
    preset: str = "balanced"
    """Of SynthFER."""
    ceiling: float = 1.0
    """Highest UAR, from 0 to 1, of a model that does not know the culture group."""


@dataclass(frozen=True)
class System:
    """One that is trained, for all rows that are about it."""

    title: str
    rows: list[str]
    options: CrossValOptions
    plan: CrossValPlan


@dataclass(frozen=True)
class ReproductionPlan:
    """What is trained on some clips, why the other rows of ours are not (by row), and what is to be said of it."""

    systems: list[System]
    refused: dict[str, str]
    notes: list[str]


def plan_systems(
    chosen: PublishedTable,
    rows: Sequence[Row],
    source: Source,
    index: ClipIndex,
    clips: Clips,
    options: ReproduceOptions,
) -> ReproductionPlan:
    """Plan the systems of the rows, on the clips of `index`.

    Raises ValueError when none can be trained, FileExistsError as `plan_cross_validation`.
    """
    made = ReproductionPlan([], {}, [])
    seen: dict[tuple[str, str], System | str] = {}  # the reason where it cannot be trained
    for row in rows:
        split = split_of(chosen, row, source)
        reason = refusal(row, options.recipe, options.ending)
        if reason is not None or split is None:
            if row.model is not None:
                made.refused[row.name] = reason or "its figures are not of these clips"
            continue
        key = system_slug(row), split
        if key not in seen:
            mine, note = _cross_validation(row, split, source, index, clips, options)
            if chosen.kind == "breakdown":  # the row names a class or culture
                mine = replace(mine, name=settings_words(row))
            mine = replace(mine, aus=clips.aus)
            made.notes.extend([note] if note and note not in made.notes else [])
            try:
                seen[key] = System(mine.name, [], mine, plan_cross_validation(mine))
            except ValueError as error:
                seen[key] = str(error)
        system = seen[key]
        if isinstance(system, str):
            made.refused[row.name] = system
            continue
        if not system.rows:
            made.systems.append(system)
            used = f"recipe {system.options.recipe} {' '.join(system.options.settings)}".strip()
            made.notes.append(f"{row.method or row.name}: {used}.")
        system.rows.append(row.name)
    if not made.systems:
        raise ValueError(f"no row of {chosen.id} can be trained on {options.data} ({listed(made.refused)})")
    if options.synthfer:
        made.notes.extend(dict.fromkeys(_small(system.options) for system in made.systems))
    elsewhere = [column.name for column in chosen.columns if not compares(column, chosen, source)]
    if elsewhere:
        made.notes.append(f"The clips are of {' + '.join(source.datasets)}: nothing here for {', '.join(elsewhere)}.")
    return made


def _small(options: CrossValOptions) -> str:
    """What a recipe makes of a system, for readers who know its real size from the paper."""
    recipe = overridden(recipe_named(options.recipe), options.settings)
    backbone = recipe.model_config_.get("backbone")
    shown = f"{recipe.transform.frames} frames of {recipe.transform.size} px, {recipe.epochs} epochs"
    start = ", ".join(recipe.weight_files) or "nothing"
    return f"{options.recipe}: {f'backbone {backbone}, ' if backbone else ''}{shown}, from {start}."


def _cross_validation(
    row: Row, split: str, source: Source, index: ClipIndex, clips: Clips, options: ReproduceOptions
) -> tuple[CrossValOptions, str | None]:
    protocol, only, note = _protocol(split, index, options)
    recipe, settings = options.recipe_of(row)
    planted = [] if clips.preset == "balanced" else [clips.preset]
    planted += [] if clips.strength is None else [f"strength-{clips.strength:g}"]
    own_split = [split] if split in ("loso", "fixed") else []
    folder = "-".join([*sorted(source.key), *planted, system_slug(row), *own_split])
    seeds = options.seeds or (options.form.seeds if options.synthfer else ())
    name = ", ".join([row.method or row.name, *(one.replace("-", " ") for one in planted)])
    made = CrossValOptions(
        store=index.store, output=options.output / SYSTEMS / folder, recipe=recipe, settings=settings,
        protocol=protocol, by_subject=options.synthfer and protocol != "loso", only=only, seeds=seeds,
        priors=options.priors, paper_protocol=options.paper_protocol, name=name, faces=options.faces,
        parallel=options.parallel, overwrite=options.overwrite,
        keeping=TrialKeeping(mlflow=options.mlflow, command=options.command),
    )  # fmt: skip
    return made, note


def _protocol(split: str, index: ClipIndex, options: ReproduceOptions) -> tuple[str | int, tuple[int, ...], str | None]:
    """`protocol` and `only` of `CrossValOptions`, and what is to be said of it."""
    only = (int(split.split()[1]),) if split.startswith("fold ") else ()
    if options.synthfer and split != "loso":  # all folds, where the paper took one of five
        return options.form.folds, (), f"{options.form.folds} folds were made of SynthFER; nobody is in two of them."
    if split in ("loso", "fixed"):
        return split, (), None
    if given_folds(index) is None:
        return 5, only, "The clips have no folds: five were made here, stratified by expression x culture."
    return "folds", only, None
