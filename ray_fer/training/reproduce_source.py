"""Which clips a published table is made of: whether they are the paper's, and the protocol of its rows on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ray_fer.evaluation.measured import MEASURES
from ray_fer.evaluation.published_tables import Column, PublishedTable, Row, dataset_key
from ray_fer.evaluation.reproduced import Source
from ray_fer.preprocessing.store_index import ClipIndex
from ray_fer.training.parts import classes_of


def source_of(chosen: PublishedTable, rows: Sequence[Row], index: ClipIndex, tested: str | None = None) -> Source:
    """The clips of `index`, or of several datasets the `tested` one; `apart` says why they are not the table's."""
    source = Source([tested] if tested else sorted({str(name) for name in index.column("dataset")}))
    about = dict.fromkeys(column.dataset or chosen.dataset for column in chosen.columns)
    classes = classes_of(index)
    splits = {split_of(chosen, row, source) or "" for row in rows}
    apart = None
    if source.key not in [dataset_key(name) for name in about]:
        apart = f"the clips are of {' + '.join(source.datasets)}, and {chosen.id} is about {' or '.join(about)}"
    elif chosen.protocol.classes and set(classes) != set(chosen.protocol.classes):
        apart = f"the classes of the clips are {', '.join(classes)}, and not {', '.join(chosen.protocol.classes)}"
    elif any("5" in split for split in splits) and given_folds(index) not in (None, 5):
        apart = f"the clips have {given_folds(index)} folds, and the paper five"
    return replace(source, apart=apart)


def compares(column: Column, chosen: PublishedTable, source: Source) -> bool:
    """Whether a column is about these clips: all are where published figures are left out."""
    return source.apart is not None or dataset_key(column.dataset or chosen.dataset) == source.key


def split_of(chosen: PublishedTable, row: Row, source: Source) -> str | None:
    """The protocol of a row on these clips; None when none of its figures is of them."""
    measured = [one for one in chosen.columns if one.measure in MEASURES and compares(one, chosen, source)]
    return next((one.split or row.split or chosen.protocol.split for one in measured), None)


def given_folds(index: ClipIndex) -> int | None:
    """How many folds the clips come with; None where some have none."""
    given = index.column("fold")
    return None if None in given else len(set(given))
