"""The prima facie study as a table of the papers (EthnicMER, Table IV): drawn on the cluster, nothing is trained.

`prima_facie_run` makes it. Our figures are means over draws of subjects, with the interval that holds most draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ray_fer.evaluation.prima_facie import FIGURES, MIXED, SUBJECTS, TREES
from ray_fer.evaluation.prima_facie_report import notes
from ray_fer.evaluation.prima_facie_run import StudyOptions, study
from ray_fer.evaluation.published_tables import Column, PublishedTable, Row, dataset_key
from ray_fer.evaluation.reproduced import Source, figure_notes, laid_out, own_name, shown
from ray_fer.evaluation.tables import Cell, Comparison
from ray_fer.preprocessing.store_index import ClipIndex, read_index
from ray_fer.training.parts import cultures_of
from ray_fer.training.reproduce_plan import ReproduceOptions

_TO = " to "
_NUMBERS = {"subjects": SUBJECTS, "draws": StudyOptions.draws, "trees": TREES}
_TOLD = 10  # so many times it is said how far the draws are


def study_table(
    chosen: PublishedTable,
    rows: Sequence[Row],
    options: ReproduceOptions,
    say: Callable[[str], None] = print,
    session: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Comparison:
    """The rows of the study on the clips of a store with optical flow; `session` is opened around what needs Ray.

    Raises ValueError for options that the study does not have or clips that do not allow it, FileNotFoundError for a
    store or weights that are not there.
    """
    options.refuse(
        "recipe", "priors", "aus", "paper_protocol", "strengths", "mlflow", "parallel",
        why="draws subjects for random forests on features that are not trained",
    )  # fmt: skip
    index = read_index(options.data)
    groups = _groups(chosen)
    source = options.accepted(_source(chosen, groups, index))
    wanted = study_options(options, groups if set(groups) <= set(cultures_of(index)) else ())
    wanted.check()

    def told(done: int, total: int) -> None:
        if done * _TOLD // total > (done - 1) * _TOLD // total:
            say(f"{done} of {total} draws")

    return study_comparison(chosen, rows, study(wanted, told, session), source)


def study_options(options: ReproduceOptions, groups: Sequence[str] = ()) -> StudyOptions:
    """What the settings "pretrained", "subjects", "draws" and "trees", and the first seed, make of the study.

    Raises ValueError for other settings, or what is no number.
    """
    values: dict[str, Any] = dict(_NUMBERS)
    for setting in options.settings:
        name, _, text = setting.partition("=")
        if name == "pretrained" and text:
            values[name] = Path(text)
        elif name in _NUMBERS and text.isdecimal():
            values[name] = int(text)
        else:
            raise ValueError(
                f"{setting!r} is no setting of {options.table}; there are pretrained=FILE of ResNet-18's weights, and "
                + " and ".join(f"{one}={number}" for one, number in _NUMBERS.items())
            )
    return StudyOptions(options.data, groups=tuple(groups), seed=options.seeds[0] if options.seeds else 0, **values)


def study_comparison(
    chosen: PublishedTable, rows: Sequence[Row], content: Mapping[str, Any], source: Source
) -> Comparison:
    """What `prima_facie_run.study` gave, under the columns of the table; groups that it does not have are rows of
    their own."""
    left_out = {row.name for row in chosen.rows} - {row.name for row in rows}
    columns = [one for one in chosen.columns if one.name in FIGURES]
    own = [
        (name, {own_name(one, source): _cell(found[one.name], one, source) for one in columns})
        for name, found in ((f"{group}{_TO}{group}", found) for group, found in content["rows"].items())
        if name not in left_out
    ]
    made = laid_out(chosen, rows, own, source)
    made.notes += [*figure_notes(chosen, rows, {}, source), *notes(content)]
    return made


def _groups(chosen: PublishedTable) -> tuple[str, ...]:
    """The groups that its rows compare."""
    names = (row.name.split(_TO)[0] for row in chosen.rows)
    return tuple(name for name in names if name != MIXED)


def _source(chosen: PublishedTable, groups: Sequence[str], index: ClipIndex) -> Source:
    datasets, there = sorted({str(name) for name in index.column("dataset")}), cultures_of(index)
    apart = None
    if dataset_key(datasets) != dataset_key(chosen.dataset):
        apart = f"the clips are of {' + '.join(datasets)}, and {chosen.id} is about {chosen.dataset}"
    elif not set(groups) <= set(there):
        apart = f"the groups of the clips are {', '.join(there) or 'unknown'}, and not {' and '.join(groups)}"
    return Source(datasets, apart)


def _cell(figure: Mapping[str, Any], column: Column, source: Source) -> Cell:
    scale, decimals = shown(column, source)
    low, high = (scale * bound for bound in figure["interval"])
    return Cell(value=scale * figure["mean"], low=low, high=high, decimals=decimals)
