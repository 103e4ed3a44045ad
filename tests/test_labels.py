from __future__ import annotations

import pytest

from ray_fer import labels


def test_au_order_is_pyfeats() -> None:
    numbers = [int(name[2:]) for name in labels.AU_NAMES]
    assert numbers == [1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 17, 20, 23, 24, 25, 26, 28, 43]


def test_au_statistics_are_80_with_means_first() -> None:
    names = labels.au_stat_names()
    assert len(set(names)) == 80
    assert names[:20] == [f"mean_{au}" for au in labels.AU_NAMES]


def test_unknown_labels_are_refused_with_what_is_accepted() -> None:
    with pytest.raises(ValueError, match=r"unknown label 'Hapy'; expected one of Angry, .*Happy"):
        labels.index_of("Hapy", labels.EXPRESSIONS)


def test_unknown_culture_has_index_minus_one() -> None:
    assert labels.culture_index(None, labels.CULTURES) == -1
    assert labels.culture_index(labels.UNKNOWN_CULTURE, labels.CULTURES) == -1
    assert labels.culture_index("East Asian", labels.CULTURES) == 2
    with pytest.raises(ValueError, match="unknown culture"):
        labels.culture_index("Atlantean", labels.CULTURES)
