"""What commands that train many models share: their options, how trials are shown, and the table of a summary."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
Parallel = Annotated[
    int | None, typer.Option(min=1, help="trials at once (default: as many as the cluster has CPUs or GPUs for)")
]
TensorBoard = Annotated[bool, typer.Option(help="write TensorBoard's files into each trial's folder")]
Mlflow = Annotated[str | None, typer.Option(help="also log every trial to this MLflow folder or address")]
Seeds = Annotated[
    str | None, typer.Option(help="train each fold with each of these, such as 1,2,3 (default: the recipe's)")
]
PaperProtocol = Annotated[
    bool, typer.Option("--paper-protocol", help="choose each epoch on the test fold, as most released code does")
]
Faces = Annotated[bool, typer.Option("--faces/--no-faces", help="show frames of clips on the pages of reports")]

_FIGURES = ("uar", "war", "macro_f1")


def only_json(wanted: bool) -> AbstractContextManager[Any]:
    """While it lasts, what Ray prints goes to standard error."""
    return redirect_stdout(sys.stderr) if wanted else nullcontext()


def say(line: str) -> None:
    """Beside what is printed for programs."""
    print(line, file=sys.stderr, flush=True)


def command_line(name: str) -> str:
    """What was typed, as the command of that name, also where a job file was started."""
    words = sys.argv[2:] if sys.argv[1:2] == [name] else sys.argv[1:]
    return shlex.join(["ray-fer", name, *words])


def numbers(text: str | None, what: str) -> tuple[int, ...]:
    """Whole numbers with commas between them; none of None. Raises ValueError that names `what` they are."""
    try:
        return () if text is None else tuple(int(one) for one in text.split(","))
    except ValueError:
        raise ValueError(f"{what} {text!r}: give whole numbers with commas between them, such as 1,2,3") from None


def fractions(text: str, what: str) -> tuple[float, ...]:
    """Numbers with commas between them. Raises ValueError that names `what` they are."""
    try:
        return tuple(float(one) for one in text.split(","))
    except ValueError:
        raise ValueError(f"{what} {text!r}: give numbers with commas between them, such as 0,0.5,1") from None


@contextmanager
def watching() -> Iterator[Watch]:
    """Yields what shows how trials go: a table of those that run on a terminal, lines in the log of a job."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda news: say(_line(news))
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


def print_summary(summary: dict[str, Any]) -> None:
    """Print a cross-validation's figures: its trials, and each seed over its folds and pooled."""
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


def _spread_cells(spreads: dict[str, Any]) -> list[str]:
    cells = []
    for name in _FIGURES:
        mean, sd = spreads[name]["mean"], spreads[name]["sd"]
        cells.append(f"{mean:.4f}" + (f" ± {sd:.4f}" if sd is not None else ""))
    return cells
