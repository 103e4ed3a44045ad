"""Tables whose rows are mixtures of datasets (EiLA, Tables 3, 5 and 6), from one clip store that holds all of them.

A row is a mixture as `mixtures` draws and trains it. OUTPUT/systems/TESTED-MODEL-MIXTURE/ is its cross-validation with
one fold, the dataset's own split. A row needs the clips of its own datasets alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ray_fer.evaluation.mixture_report import trained_words
from ray_fer.evaluation.published_tables import PublishedTable, Row, dataset_key
from ray_fer.evaluation.reproduced import COUNTED, Source, laid_out, own_name
from ray_fer.evaluation.tables import Cell, Comparison
from ray_fer.preprocessing.store_index import ClipIndex
from ray_fer.training.bundles import model_arguments
from ray_fer.training.crossval_plan import CrossValOptions, CrossValPlan, check_output
from ray_fer.training.fit import check_model
from ray_fer.training.mixtures import Mixture, described, mixed_clips, plan_mixture
from ray_fer.training.reproduce_plan import SYSTEMS, ReproduceOptions, ReproductionPlan, System
from ray_fer.training.systems import BASE, FRACTION, listed, mixed_datasets, refusal
from ray_fer.training.trial import TrialKeeping


def tested_dataset(chosen: PublishedTable) -> str:
    """The dataset on whose test split all mixtures of a table are tested, as clip stores name it."""
    (name,) = dataset_key(chosen.dataset)
    return name


def mixture_of(row: Row, tested: str) -> Mixture:
    """The mixture of a row; one that names no share has nothing of the tested dataset."""
    base = str(row.settings[BASE])
    return Mixture(None, 1.0) if base == tested else Mixture(base, float(row.settings.get(FRACTION, 0.0)))


def mixed_index(chosen: PublishedTable, index: ClipIndex) -> ClipIndex:
    """The clips of the datasets that a table mixes. Raises ValueError when none is of the one that is tested."""
    wanted, tested = mixed_datasets(chosen), tested_dataset(chosen)
    kept = index.where(np.array([name in wanted for name in index.column("dataset")], bool))
    if tested not in kept.column("dataset"):
        raise ValueError(
            f"{index.store} holds no clip of {tested}, which all of {chosen.id} needs; give --data a clip store that "
            f"holds {', '.join(wanted)}"
        )
    return kept


def plan_mixtures(
    chosen: PublishedTable, rows: Sequence[Row], source: Source, index: ClipIndex, options: ReproduceOptions
) -> ReproductionPlan:
    """Plan the mixtures of the rows, on the clips of `mixed_index`; those whose dataset is not there are refused.

    Raises ValueError for options that mixtures do not have or when no row can be trained, FileExistsError where the
    output holds something else.
    """
    options.refuse(
        "aus", "priors", "paper_protocol", "strengths",
        why="trains mixtures of datasets without AU profiles, and chooses epochs on validation clips",
    )  # fmt: skip
    made = ReproductionPlan([], {}, [])
    for row in rows:
        reason = refusal(row, options.recipe)
        if reason is None:
            try:
                made.systems.append(_system(row, tested_dataset(chosen), index, options))
            except ValueError as error:
                reason = str(error)
        if reason is not None:
            made.refused[row.name] = reason
    if not made.systems:
        raise ValueError(f"no row of {chosen.id} can be trained on {options.data} ({listed(made.refused)})")
    first = made.systems[0].plan
    check_model(first.recipe, model_arguments(first.recipe, first.trials[0].clips, None), index)
    made.notes.append(f"Here: tested on {' + '.join(source.datasets)} alone. {trained_words(described(first.recipe))}")
    if options.settings:
        made.notes.append(f"Changes to the recipe: {' '.join(options.settings)}.")
    return made


def _system(row: Row, tested: str, index: ClipIndex, options: ReproduceOptions) -> System:
    mixture = mixture_of(row, tested)
    recipe, settings = options.recipe_of(row)
    wanted = CrossValOptions(
        store=index.store, output=options.output / SYSTEMS / f"{tested}-{row.model}-{mixture.slug(tested)}",
        recipe=recipe, settings=settings, protocol="fixed", seeds=options.seeds, name=row.method or row.name,
        faces=options.faces, parallel=options.parallel, overwrite=options.overwrite,
        keeping=TrialKeeping(mlflow=options.mlflow, command=options.command),
    )  # fmt: skip
    trials = plan_mixture(index, mixture, tested, wanted.check(), options.seeds)
    plan = CrossValPlan(index, trials, "fixed")
    if not options.overwrite:
        check_output(wanted.output, plan)
    return System(wanted.name, [row.name], wanted, plan)


def counted_mixtures(chosen: PublishedTable, rows: Sequence[Row], source: Source, index: ClipIndex) -> Comparison:
    """The sizes of the mixtures of the rows (EiLA, Table 3), counted in the clips of `mixed_index`.

    Raises ValueError when there is nothing of any of them.
    """
    tested = tested_dataset(chosen)
    own: list[tuple[str, dict[str, Cell]]] = []
    refused: dict[str, str] = {}
    for row in rows:
        own.append((row.name, {}))
        try:
            clips, _ = mixed_clips(index, mixture_of(row, tested), tested, seed=0)  # sizes are the same for all seeds
        except ValueError as error:
            refused[row.name] = str(error)
            continue
        sizes = {"train": len(clips.train), "val": len(clips.val)}
        for column in (one for one in chosen.columns if one.of in sizes):
            own[-1][1][own_name(column, source)] = Cell(value=sizes[str(column.of)], decimals=0)
    if len(refused) == len(rows):
        raise ValueError(f"no row of {chosen.id} can be counted in {index.store} ({listed(refused)})")
    made = laid_out(chosen, rows, own, source)
    made.notes += [COUNTED, *([f"Not counted: {listed(refused)}."] if refused else [])]
    return made
