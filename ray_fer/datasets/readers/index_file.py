"""The small text files that say which integer is which class, where a release ships one beside its lists."""

from __future__ import annotations

import re
from pathlib import Path

from ray_fer.datasets.label_maps import IndexedLabels, NamedLabels
from ray_fer.datasets.reading import DatasetError, Report
from ray_fer.datasets.tables import text_lines


def check_index_file(path: Path, expected: IndexedLabels, words: NamedLabels, report: Report) -> None:
    """Compare a file of lines such as ``0 Angry`` with the map that is about to be used, if the file is there.

    Raises DatasetError when they disagree: then all integers of the lists mean something else.
    """
    if not path.is_file():
        return
    for number, line in text_lines(path, report):
        integers, names = re.findall(r"\d+", line), re.findall(r"[^\W\d_]+", line)
        if len(integers) != 1 or len(names) != 1:
            continue  # a headline or remark
        said, used = words.resolve(names[0]), expected.resolve(integers[0])
        if said != used:
            raise DatasetError(
                f"{path}:{number}: says {integers[0]} is {names[0]}, but in {expected.name} it is {used}; "
                "these lists are of another release: choose it with --variant"
            )
