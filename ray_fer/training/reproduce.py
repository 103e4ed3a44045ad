"""From a clip store to a table of the papers: every system that it has is cross-validated, and the table made of it.
Tables of counts, and the prima facie study, are made without training.

OUTPUT/systems/SYSTEM/ is the cross-validation of a system (see `crossval`), which tables that have it share; so the
same call goes on after an interruption. OUTPUT/TABLE.md, .tex, .csv and .json are the table. Where SynthFER is the
data, OUTPUT/work/ holds it, and OUTPUT/TABLE.png shows the figures.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray_fer.evaluation.measured import Measured
from ray_fer.evaluation.planted import Planted, planted_figure, planted_table
from ray_fer.evaluation.plots import png
from ray_fer.evaluation.published_tables import PublishedTable, Row
from ray_fer.evaluation.reproduced import Source, composition, reproduced
from ray_fer.evaluation.tables import FORMATS, Comparison, render
from ray_fer.models import names, reads
from ray_fer.preprocessing.store_index import ClipIndex, read_index
from ray_fer.training.crossval import News, Watch, fold_answers, side_by_side
from ray_fer.training.recipe import overridden
from ray_fer.training.recipes import recipe as recipe_named
from ray_fer.training.reproduce_mixtures import counted_mixtures, mixed_index, plan_mixtures, tested_dataset
from ray_fer.training.reproduce_plan import (
    WORK,
    Clips,
    ReproduceOptions,
    ReproductionPlan,
    System,
    plan_systems,
)
from ray_fer.training.reproduce_source import source_of
from ray_fer.training.reproduce_study import study_table
from ray_fer.training.synthfer import synthfer_clips
from ray_fer.training.systems import STUDY, of_mixtures, refusal

Say = Callable[[str], None]


@dataclass(frozen=True)
class Reproduced:
    """The table; the `files` it was written to; `failed`: reasons by system and trial; `content` of the JSON file."""

    table: Comparison
    files: list[Path]
    failed: dict[str, str]
    content: dict[str, Any]


def reproduce(
    options: ReproduceOptions,
    watch: Watch = lambda _: None,
    say: Say = print,
    session: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Reproduced:
    """Train what is left of the systems of a table, and write the table.

    `session` is opened around what needs Ray, once all that can be checked without it is. A trial that fails does not
    end the others: its system is left out of the table. Raises ValueError, FileNotFoundError or FileExistsError for
    what the user has to mend, before a trial is started.
    """
    chosen, rows = options.check()
    if chosen.id == STUDY:
        return _written(options, study_table(chosen, rows, options, say, session))
    with ExitStack() as stack:
        if options.synthfer:
            stack.enter_context(session())
        parts = _rendered(options, rows, say) if options.synthfer else [Clips(options.data, options.aus)]
        if chosen.kind == "composition":  # the same at all strengths
            return _written(options, _counted(chosen, rows, parts[0], options))
        planned = [_plan(chosen, rows, clips, options) for clips in parts]
        refused = {name: reason for one in planned for name, reason in one.plan.refused.items()}
        for name, reason in refused.items():
            say(f"not trained: {name}: {reason}")
        systems = [system for one in planned for system in one.plan.systems]
        say(f"{len(systems)} systems, {sum(len(system.plan.trials) for system in systems)} trials in all")
        if not options.synthfer:
            stack.enter_context(session())
        # Mixtures are one trial for each seed, so that a cluster would be idle if they came one after the other.
        failed = _train([systems] if of_mixtures(chosen) else [[one] for one in systems], watch, say)
    notes = [note for one in planned for note in one.plan.notes]
    notes += [f"{name} is not trained: {reason}." for name, reason in refused.items()]
    notes += [f"{name} failed: {reason}." for name, reason in failed.items()]
    notes = list(dict.fromkeys(notes))
    if not options.synthfer:
        (only,) = planned
        made = reproduced(chosen, rows, _answers(only.plan), only.source, notes)
        return _written(options, made, systems, refused, failed)
    found = [
        Planted(one.clips.strength or 0.0, _answers(one.plan), one.source, one.clips.ceiling) for one in planned
    ]  # fmt: skip
    done = _written(options, planted_table(chosen, rows, found, notes), systems, refused, failed)
    if chosen.kind != "breakdown":
        picture = options.output / f"{options.table}.png"
        classes = len(systems[0].plan.trials[0].clips.classes)
        picture.write_bytes(png(planted_figure(rows, found, 1 / classes), picture.name, "").data)
        done.files.append(picture)
    return done


@dataclass(frozen=True)
class _Planned:
    clips: Clips
    source: Source
    plan: ReproductionPlan


def _clips_of(
    chosen: PublishedTable, rows: Sequence[Row], clips: Clips, options: ReproduceOptions
) -> tuple[ClipIndex, Source]:
    """The clips that a table is made of, and whether they are its own."""
    index, tested = read_index(clips.store), None
    if of_mixtures(chosen):
        index, tested = mixed_index(chosen, index), tested_dataset(chosen)
    return index, options.accepted(source_of(chosen, rows, index, tested))


def _counted(chosen: PublishedTable, rows: Sequence[Row], clips: Clips, options: ReproduceOptions) -> Comparison:
    index, source = _clips_of(chosen, rows, clips, options)
    if of_mixtures(chosen):
        return counted_mixtures(chosen, rows, source, index)
    return composition(chosen, index.table.to_pylist(), source)


def _plan(chosen: PublishedTable, rows: Sequence[Row], clips: Clips, options: ReproduceOptions) -> _Planned:
    index, source = _clips_of(chosen, rows, clips, options)
    if of_mixtures(chosen):
        return _Planned(clips, source, plan_mixtures(chosen, rows, source, index, options))
    return _Planned(clips, source, plan_systems(chosen, rows, source, index, clips, options))


def _answers(plan: ReproductionPlan) -> dict[str, Measured]:
    """What the rows' systems answered, by row, where all folds of a seed are finished."""
    answers = [(system, _measured(system)) for system in plan.systems]
    return {name: found for system, found in answers if found is not None for name in system.rows}


def _rendered(options: ReproduceOptions, rows: Sequence[Row], say: Say) -> list[Clips]:
    """Clip store and AU table of SynthFER at each strength, as the systems want it."""
    recipe = recipe_named(f"cafer{options.ending}")  # of a composition nothing is trained, and any will do
    first = next((row for row in rows if refusal(row, options.recipe, options.ending) is None), None)
    if first is not None:
        name, settings = options.recipe_of(first)
        recipe = overridden(recipe_named(name), settings)
    inputs = {name for row in rows if row.model in names() for name in reads(str(row.model), {})}
    preset = "scene" if "scene" in inputs else "micro" if "flow" in inputs else "balanced"
    prefix = "" if preset == "balanced" else f"{preset}-"
    parts = []
    for strength in options.planted(rows):
        say(f"SynthFER, preset {preset}, strength {strength:g}")
        work = options.output / WORK / f"{prefix}strength-{strength:g}"
        made = synthfer_clips(options.form.size(preset), recipe, work, say, strength, preset)
        parts.append(Clips(made.store, made.aus, strength, preset, made.ceiling))
    return parts


def _train(groups: Sequence[Sequence[System]], watch: Watch, say: Say) -> dict[str, str]:
    """Cross-validate one group after the other, its systems side by side; returns why trials failed."""
    failed: dict[str, str] = {}
    systems = [system for group in groups for system in group]
    done, total = 0, sum(len(system.plan.trials) for system in systems)
    numbers = itertools.count(1)
    for group in groups:
        for system in group:
            say(f"system {next(numbers)} of {len(systems)}: {system.title}")

        def heard(news: News, done: int = done) -> None:
            watch(replace(news, done=done + news.done, total=total))

        outcomes = side_by_side([(system.options, system.plan) for system in group], heard, say)
        for system, outcome in zip(group, outcomes, strict=True):
            failed |= {f"{system.title}, {trial}": reason for trial, reason in outcome.failed.items()}
            done += len(system.plan.trials) - len(outcome.failed)
    return failed


def _measured(system: System) -> Measured | None:
    """What the complete seeds of a system answered; None when there is none."""
    trials = system.plan.trials
    folds = len({trial.fold for trial in trials})
    answers = fold_answers(trials, system.options.output)
    complete = {seed: found for seed, found in answers.items() if len(found) == folds}
    if not complete:
        return None
    return Measured(complete, system.plan.protocol, trials[0].selection)


def _written(
    options: ReproduceOptions,
    made: Comparison,
    systems: Sequence[System] = (),
    refused: dict[str, str] | None = None,
    failed: dict[str, str] | None = None,
) -> Reproduced:
    content = {
        "table": options.table,
        **dataclasses.asdict(made),
        "systems": [
            {
                "title": one.title, "rows": one.rows, "protocol": one.plan.protocol, "recipe": one.options.recipe,
                "settings": list(one.options.settings), "summary": str(one.options.summary),
            }
            for one in systems
        ],
        "refused": refused or {},
        "failed": failed or {},
    }  # fmt: skip
    texts = {suffix: render([made], form) for suffix, form in FORMATS.items()}
    texts[".json"] = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    options.output.mkdir(parents=True, exist_ok=True)
    files = []
    for suffix, text in texts.items():
        files.append(options.output / f"{options.table}{suffix}")
        files[-1].write_text(text, encoding="utf-8")
    return Reproduced(made, files, failed or {}, content)
