"""`ray-fer search`: try settings of a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ray_fer.cli.options import AsJson, Overwrite
from ray_fer.cli.training import Settings
from ray_fer.cli.trials import (
    Aus,
    Mlflow,
    Parallel,
    PriorsFile,
    RecipeName,
    Store,
    TensorBoard,
    only_json,
    say,
)
from ray_fer.errors import exit_on_bad_input


@exit_on_bad_input
def search(
    store: Store,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for trials and outcome, shared by all nodes")],
    space: Annotated[
        list[str], typer.Option("--search", help="FIELD=KIND(...), such as 'optimizer.lr=loguniform(1e-6,1e-3)'")
    ],
    recipe: RecipeName = "cafer-small",
    settings: Settings = None,
    trials: Annotated[int, typer.Option(min=1, help="draws (with grid(): times the whole grid)")] = 20,
    fold: Annotated[
        str | None, typer.Option(help="search in the training clips of this fold of the dataset, not in split 'train'")
    ] = None,
    aus: Aus = None,
    priors_file: PriorsFile = None,
    grace: Annotated[
        int | None, typer.Option(min=1, help="epochs that every trial gets before it may be ended (default: a fifth)")
    ] = None,
    seed: Annotated[int, typer.Option(help="same seed, same draws")] = 42,
    parallel: Parallel = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on where an interrupted search stopped")] = False,
    overwrite: Overwrite = False,
    tensorboard: TensorBoard = True,
    mlflow: Mlflow = None,
    as_json: AsJson = False,
) -> None:
    """Search for good settings of a recipe with Ray Tune: random draws, compared on validation clips.

    Every field that --set takes can be searched: uniform(low, high), loguniform(low, high), quniform(low, high, step),
    qloguniform(low, high, step), randint(low, high) and lograndint(low, high) without high, choice(a, b, ...), and
    grid(a, b, ...) for each value in turn. Trials that lag behind are ended early (ASHA). Test clips are never read:
    split "val" decides, or a part of split "train"; for datasets with folds give --fold.

    Example:

    ray-fer search clips -o runs/search --trials 30 --search 'optimizer.lr=loguniform(1e-6, 1e-3)' --search
    'batch_size=choice(8, 16)' --search 'schedule.warmup=uniform(0, 0.2)' --set epochs=20

    The best settings are printed as arguments for `ray-fer train` and `ray-fer crossval`; OUTPUT/search.json has all.
    """
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.training.search import SearchOptions
    from ray_fer.training.search import search as searched

    options = SearchOptions(
        store=store, output=output, space=tuple(space), recipe=recipe, settings=tuple(settings or ()), trials=trials,
        fold=fold, aus=aus, priors=priors_file, grace=grace, seed=seed, parallel=parallel,
        resume=resume, overwrite=overwrite, tensorboard=tensorboard, mlflow=mlflow,
    )  # fmt: skip
    options.check()
    try:
        with only_json(as_json), ray_session():
            outcome = searched(options, say)
    except KeyboardInterrupt:
        say("interrupted; the same command with --resume goes on")
        raise
    if as_json:
        print(json.dumps(outcome))
        return
    _print_outcome(outcome)
    print(f"best: {outcome['best']['arguments']}")


def _print_outcome(outcome: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{outcome['recipe']}: {len(outcome['trials'])} trials")
    fields = list(outcome["best"]["settings"])
    for name in ("trial", outcome["monitor"], "at epoch", "epochs", *fields):
        table.add_column(name, justify="left" if name == "trial" else "right")
    for row in outcome["trials"]:
        value = (row["error"] or "none") if row["value"] is None else f"{row['value']:.4f}"
        drawn = (_short(row["settings"].get(field)) for field in fields)
        table.add_row(row["trial"], value, str(row["epoch"] or ""), str(row["epochs"]), *drawn)
    Console().print(table)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
