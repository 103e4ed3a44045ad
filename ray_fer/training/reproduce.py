"""From a clip store to a table of the papers: every system that it has is cross-validated, and the table made of it.

OUTPUT/systems/SYSTEM/ is the cross-validation of a system (see `crossval`), which tables that have it share; so the
same call goes on after an interruption. OUTPUT/TABLE.md, .tex, .csv and .json are the table. OUTPUT/work/ holds
SynthFER where that is the data.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray_fer.evaluation.measured import Measured
from ray_fer.evaluation.published_tables import Row
from ray_fer.evaluation.reproduced import composition, reproduced
from ray_fer.evaluation.tables import FORMATS, Comparison, render
from ray_fer.preprocessing.store_index import read_index
from ray_fer.training.crossval import News, Watch, cross_validate, fold_answers
from ray_fer.training.recipe import overridden
from ray_fer.training.recipes import recipe as recipe_named
from ray_fer.training.reproduce_plan import (
    SYNTHFER_SETTINGS,
    SYNTHFER_SIZE,
    WORK,
    ReproduceOptions,
    ReproductionPlan,
    System,
    plan_systems,
    source_of,
)
from ray_fer.training.synthfer import synthfer_clips
from ray_fer.training.systems import refusal

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
    with ExitStack() as stack:
        if options.synthfer:
            stack.enter_context(session())
        store, aus = _rendered(options, rows, say) if options.synthfer else (options.data, options.aus)
        index = read_index(store)
        source = source_of(chosen, rows, index, options)
        if chosen.kind == "composition":
            return _written(options, composition(chosen, index.table.to_pylist(), source))
        plan = plan_systems(chosen, rows, source, index, aus, options)
        for name, reason in plan.refused.items():
            say(f"not trained: {name}: {reason}")
        say(f"{len(plan.systems)} systems, {plan.trials} trials in all")
        if not options.synthfer:
            stack.enter_context(session())
        failed = _train(plan, watch, say)
    answers = [(system, _measured(system)) for system in plan.systems]
    measured = {name: found for system, found in answers if found is not None for name in system.rows}
    notes = list(plan.notes)
    notes += [f"{name} is not trained: {reason}." for name, reason in plan.refused.items()]
    notes += [f"{name} failed: {reason}." for name, reason in failed.items()]
    return _written(options, reproduced(chosen, rows, measured, source, notes), plan, failed)


def _rendered(options: ReproduceOptions, rows: Sequence[Row], say: Say) -> tuple[str, str]:
    """Clip store and AU table of a SynthFER that is rendered as the systems want it."""
    recipe = recipe_named("cafer-small")  # of a composition nothing is trained, and any will do
    first = next((row for row in rows if refusal(row, options.recipe, small=True) is None), None)
    if first is not None:
        name, settings = options.recipe_of(first)
        recipe = overridden(recipe_named(name), settings)
        say(f"recipe {name} with {' '.join(SYNTHFER_SETTINGS)}, which takes minutes; --set changes that")
    rendered = synthfer_clips(SYNTHFER_SIZE, recipe, options.output / WORK, say)
    return rendered.store, rendered.aus


def _train(plan: ReproductionPlan, watch: Watch, say: Say) -> dict[str, str]:
    """Cross-validate one system after the other; returns why trials failed."""
    failed: dict[str, str] = {}
    done = 0
    for number, system in enumerate(plan.systems, start=1):
        say(f"system {number} of {len(plan.systems)}: {system.title}")

        def heard(news: News, done: int = done) -> None:
            watch(replace(news, done=done + news.done, total=plan.trials))

        outcome = cross_validate(system.options, heard, say, system.plan)
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
    plan: ReproductionPlan | None = None,
    failed: dict[str, str] | None = None,
) -> Reproduced:
    systems = [] if plan is None else plan.systems
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
        "refused": {} if plan is None else plan.refused,
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
