"""The table of answers: what belongs together, and that it comes back from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ray_fer.evaluation.predictions import Predictions, joined, read_predictions


def predictions(
    labels: list[str], probabilities: list[list[float]], classes: tuple[str, ...] = ("x", "y")
) -> Predictions:
    count = len(labels)
    clips = pa.table(
        {
            "clip_id": [f"c{n}" for n in range(count)], "dataset": ["d"] * count, "label": labels,
            "culture": ["A"] * count, "subject_id": pa.array([None] * count, pa.string()), "path": ["p"] * count,
        }
    )  # fmt: skip
    return Predictions(
        "m 1", list(classes), clips, np.array(probabilities, np.float32), np.ones((count, 3), np.float32)
    )


def test_indices_are_those_of_the_classes() -> None:
    one = predictions(["y", "x", "y"], [[0.1, 0.9], [0.5, 0.5], [0.8, 0.2]])
    assert one.truth.tolist() == [1, 0, 1]
    assert one.predicted.tolist() == [1, 0, 0], "the first of equals"
    chosen = one.select(np.array([True, False, True]))
    assert chosen.column("clip_id") == ["c0", "c2"]
    assert one.select([2]).predicted.tolist() == [0]


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    one = predictions(["y", "x"], [[0.1, 0.9], [0.5, 0.5]])
    back = read_predictions(one.write(tmp_path / "new" / "p.parquet"))
    assert (back.model, back.classes) == (one.model, one.classes)
    assert back.clips.to_pylist() == one.clips.to_pylist()
    np.testing.assert_array_equal(back.probabilities, one.probabilities)
    np.testing.assert_array_equal(back.features, one.features)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        predictions(["y"], [[0.1, 0.2, 0.7]])
    with pytest.raises(ValueError, match="labels that are not among the classes: z"):
        predictions(["z"], [[0.1, 0.9]])
    with pytest.raises(ValueError, match="different classes"):
        joined([predictions(["x"], [[1, 0]]), predictions(["x"], [[1, 0]], ("x", "z"))])
    (tmp_path / "other.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(ValueError, match="holds no predictions"):
        read_predictions(tmp_path / "other.parquet")
    with pytest.raises(FileNotFoundError, match="ray-fer evaluate"):
        read_predictions(tmp_path / "absent.parquet")


def test_folds_are_pooled_row_by_row() -> None:
    pooled = joined([predictions(["x"], [[1, 0]]), predictions(["y", "y"], [[1, 0], [0, 1]])])
    assert pooled.truth.tolist() == [0, 1, 1]
    assert pooled.predicted.tolist() == [0, 0, 1]
