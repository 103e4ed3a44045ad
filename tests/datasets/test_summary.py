"""What is printed about a manifest."""

from __future__ import annotations

from ray_fer.datasets.summary import cross_table, summarise

COLUMNS = ("dataset", "label", "culture", "split", "fold", "media", "subject_id")
ROWS = [
    dict(zip(COLUMNS, row, strict=True))
    for row in (
        ("a", "Sad", "African", None, 10, "video", "x"),
        ("a", "Angry", "African", None, 2, "video", "x"),
        ("b", "Sad", "Unknown", None, 2, "image", None),
    )
]


def test_cross_tables() -> None:
    table = cross_table(ROWS, "fold")
    assert table is not None
    assert table.values == ["2", "10"]  # by number, not by letter
    assert table.counts == {"Angry": [1, 0], "Sad": [1, 1]}
    assert cross_table(ROWS, "split") is None
    assert cross_table([], "fold") is None


def test_counts() -> None:
    assert summarise(ROWS) == {
        "clips": 3,
        "subjects": 1,
        "dataset": {"a": 2, "b": 1},
        "label": {"Angry": 1, "Sad": 2},
        "culture": {"African": 2, "Unknown": 1},
        "split": {"(none)": 3},
        "fold": {"10": 1, "2": 2},
        "media": {"image": 1, "video": 2},
    }
