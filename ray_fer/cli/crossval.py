"""Commands that train many models: crossval, search."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_fer.cli.options import AsJson, Overwrite
from ray_fer.cli.training import Settings
from ray_fer.errors import exit_on_bad_input

if TYPE_CHECKING:
    from rich.table import Table

    from ray_fer.training.crossval import News, Watch

Store = Annotated[str, typer.Argument(help="clip store, a path or a URL", show_default=False)]
RecipeName = Annotated[str, typer.Option(help="`ray-fer recipes` lists them")]
Aus = Annotated[
    str | None, typer.Option(help="AU table of the clips: AU profiles are made of the clips that are trained on")
]
PriorsFile = Annotated[
    Path | None, typer.Option("--priors", help="priors.json that is used as it is, instead of --aus")
]
ValShare = Annotated[float, typer.Option(min=0.01, max=0.5, help="share of the training clips that validates")]
Parallel = Annotated[
    int | None, typer.Option(min=1, help="trials at once (default: as many as the cluster has CPUs or GPUs for)")
]
TensorBoard = Annotated[bool, typer.Option(help="write TensorBoard's files into each trial's folder")]
Mlflow = Annotated[str | None, typer.Option(help="also log every trial to this MLflow folder or address")]


@exit_on_bad_input
def crossval(
    store: Store,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for trials and summary, shared by all nodes")],
    recipe: RecipeName = "cafer-small",
    settings: Settings = None,
    protocol: Annotated[
        str, typer.Option(help="folds (the dataset's own), loso (leave one subject out), or a number of folds to make")
    ] = "folds",
    by_subject: Annotated[
        bool, typer.Option("--by-subject", help="with a number of folds: nobody is in two of them")
    ] = False,
    seeds: Annotated[
        str | None, typer.Option(help="train each fold with each of these, such as 1,2,3 (default: the recipe's)")
    ] = None,
    aus: Aus = None,
    priors_file: PriorsFile = None,
    val_share: ValShare = 0.1,
    paper_protocol: Annotated[
        bool, typer.Option("--paper-protocol", help="choose each epoch on the test fold, as most released code does")
    ] = False,
    parallel: Parallel = None,
    keep_bundles: Annotated[bool, typer.Option("--keep-bundles", help="keep the model of every trial")] = False,
    checkpoints: Annotated[
        str | None, typer.Option(help="URL for checkpoints, in place of the trials' folders (s3://...)")
    ] = None,
    tensorboard: TensorBoard = True,
    mlflow: Mlflow = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Cross-validate a recipe: train on all folds but one, test on that one, for every fold and seed.

    Trials run side by side over the cluster. The same command again goes on with what is not finished, so ctrl-C costs
    at most the epoch that was running. Several trials share a GPU with --set gpus_per_worker=0.25.

    The epoch of each model is chosen on a part of its training clips, of subjects of their own where they are known.
    With --paper-protocol it is chosen on the test fold, which makes figures look better than they are; the summary is
    marked with it. What is printed: mean and standard deviation over folds, and the figures of the pooled predictions
    of all folds with 95 % intervals (their macro F1 is UF1). OUTPUT/summary.json has them all.

    Examples:

    ray-fer crossval dfew-clips -o runs/dfew --recipe cafer --aus dfew-aus --set workers=4 --set gpus_per_worker=1

    ray-fer crossval casme2-clips -o runs/casme2 --protocol loso --seeds 1,2,3 --set gpus_per_worker=0.25

    A trial that fails does not end the others: it is listed with its reason, and the exit code is 1.
    """
    from ray_fer.serving.local_ray import ray_session
    from ray_fer.training.crossval import CrossValOptions, cross_validate
    from ray_fer.training.trial import TrialKeeping

    words = sys.argv[2:] if sys.argv[1:2] == ["crossval"] else sys.argv[1:]
    command = shlex.join(["ray-fer", "crossval", *words])
    options = CrossValOptions(
        store=store, output=output, recipe=recipe, settings=tuple(settings or ()), protocol=_protocol(protocol),
        by_subject=by_subject, seeds=_seeds(seeds), aus=aus, priors=priors_file, val_share=val_share,
        paper_protocol=paper_protocol, parallel=parallel, overwrite=overwrite,
        keeping=TrialKeeping(keep_bundles, tensorboard, mlflow, checkpoints, command),
    )  # fmt: skip
    options.check()
    try:
        with _only_json(as_json), ray_session(), watching() as watch:
            done = cross_validate(options, watch, _say)
    except KeyboardInterrupt:
        _say("interrupted; trials that are finished stay, and the same command goes on with the others")
        raise
    if as_json:
        print(json.dumps(done.summary))
    else:
        _print_summary(done.summary)
        print(f"summary: {output / 'summary.json'}")
    if done.failed:
        raise SystemExit(1)


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
    val_share: ValShare = 0.1,
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
        fold=fold, aus=aus, priors=priors_file, val_share=val_share, grace=grace, seed=seed, parallel=parallel,
        resume=resume, overwrite=overwrite, tensorboard=tensorboard, mlflow=mlflow,
    )  # fmt: skip
    options.check()
    try:
        with _only_json(as_json), ray_session():
            outcome = searched(options, _say)
    except KeyboardInterrupt:
        _say("interrupted; the same command with --resume goes on")
        raise
    if as_json:
        print(json.dumps(outcome))
        return
    _print_outcome(outcome)
    print(f"best: {outcome['best']['arguments']}")


def _only_json(wanted: bool) -> AbstractContextManager[Any]:
    """While it lasts, what Ray prints goes to standard error."""
    return redirect_stdout(sys.stderr) if wanted else nullcontext()


def _say(line: str) -> None:
    """Beside what is printed for programs."""
    print(line, file=sys.stderr, flush=True)


def _protocol(text: str) -> str | int:
    if text in ("folds", "loso"):
        return text
    if not text.isdecimal() or int(text) < 2:
        raise ValueError(f"unknown protocol {text!r}; expected folds, loso, or a number of folds such as 5")
    return int(text)


def _seeds(text: str | None) -> tuple[int, ...]:
    try:
        return () if text is None else tuple(int(one) for one in text.split(","))
    except ValueError:
        raise ValueError(f"seeds {text!r}: give whole numbers with commas between them, such as 1,2,3") from None


@contextmanager
def watching() -> Iterator[Watch]:
    """Yields what shows how trials go: a table of those that run on a terminal, lines in the log of a job."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda news: _say(_line(news))
        return
    running: dict[str, str] = {}
    with Live(console=console, auto_refresh=False) as live:

        def watch(news: News) -> None:
            if news.state in ("started", "says"):
                running[news.trial] = news.line or "starting"
            else:
                running.pop(news.trial, None)
                live.console.print(_line(news), highlight=False, markup=False)
            live.update(_running_table(running, news), refresh=True)

        yield watch


def _line(news: News) -> str:
    ended = news.state in ("finished", "failed", "skipped")
    count = f"  ({news.done}/{news.total} trials)" if ended else ""
    state = "finished before" if news.state == "skipped" else news.state
    return f"{news.trial}: {news.line if news.state == 'says' else f'{state}  {news.line}'.rstrip()}{count}"


def _running_table(running: dict[str, str], news: News) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{news.done} of {news.total} trials finished", title_justify="left", box=None)
    for name, line in running.items():
        table.add_row(Text(name, "bold"), Text(line))
    return table


def _print_summary(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{summary['recipe']}, {summary['protocol']}, epochs selected on: {summary['selection']}")
    for name in ("", "UAR", "WAR", "macro F1"):
        table.add_column(name, justify="right" if name else "left")
    for trial in summary["trials"]:
        table.add_row(trial["trial"], *(f"{trial[name]:.4f}" for name in _FIGURES))
    table.add_section()
    for seed, one in summary["seeds"].items():
        note = "" if one["complete"] else " (not all folds)"
        table.add_row(f"mean of folds, seed {seed}{note}", *_spread_cells(one["folds"]))
        intervals = one["pooled"]["intervals"]
        cells = [f"{intervals[name]['value']:.4f}" for name in _FIGURES]
        ranges = [f"{intervals[name]['low']:.3f} to {intervals[name]['high']:.3f}" for name in _FIGURES]
        table.add_row(f"pooled, seed {seed}{note}", *cells)
        table.add_row(f"  95 % (by {one['pooled']['unit']})", *ranges, style="dim")
    if len(summary["seeds"]) > 1 and summary["over_seeds"]["pooled"]["uar"]["count"]:
        table.add_section()
        table.add_row("mean of folds, over seeds", *_spread_cells(summary["over_seeds"]["folds"]))
        table.add_row("pooled, over seeds", *_spread_cells(summary["over_seeds"]["pooled"]))
    console = Console()
    console.print(table)
    console.print("pooled macro F1 is UF1; ± is the standard deviation", style="dim", highlight=False)
    for one in summary["failed"]:
        console.print(f"failed: {one['trial']}: {one['reason']}", style="red", markup=False, highlight=False)


_FIGURES = ("uar", "war", "macro_f1")


def _spread_cells(spreads: dict[str, Any]) -> list[str]:
    cells = []
    for name in _FIGURES:
        mean, sd = spreads[name]["mean"], spreads[name]["sd"]
        cells.append(f"{mean:.4f}" + (f" ± {sd:.4f}" if sd is not None else ""))
    return cells


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
