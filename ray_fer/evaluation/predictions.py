"""What a model said of each clip: the one table that metrics, reports and comparisons are made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS = ("clip_id", "dataset", "label", "culture", "subject_id", "path")


@dataclass(frozen=True)
class Predictions:
    """N clips with a known label, and a model's answers. The arrays belong together row by row.

    `clips` has the columns of `COLUMNS` as strings (subject_id may be null), `probabilities` float32 [N,C] in the
    order of `classes`, `features` float32 [N,D]: the model's latent, for t-SNE.
    """

    model: str
    """Name and version, as it stands in tables and titles."""
    classes: list[str]
    clips: pa.Table
    probabilities: np.ndarray
    features: np.ndarray

    def __post_init__(self) -> None:
        count, wide = len(self.clips), len(self.classes)
        if self.probabilities.shape != (count, wide) or len(self.features) != count:
            raise ValueError(
                f"{count} clips, {wide} classes, probabilities {self.probabilities.shape} and features "
                f"{self.features.shape} do not belong together"
            )
        unknown = set(self.column("label")) - set(self.classes)
        if unknown:
            raise ValueError(f"labels that are not among the classes: {', '.join(sorted(map(str, unknown)))}")

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def truth(self) -> np.ndarray:
        """Class indices int64 [N]."""
        return np.array([self.classes.index(name) for name in self.column("label")], np.int64)

    @property
    def predicted(self) -> np.ndarray:
        """Class indices int64 [N]: the most probable class, the first of equals."""
        return self.probabilities.argmax(axis=1).astype(np.int64)

    def column(self, name: str) -> list[str]:
        """One of `COLUMNS`, by row."""
        return self.clips.column(name).to_pylist()

    def select(self, rows: Sequence[int] | np.ndarray) -> Predictions:
        """Some of the rows: a bool mask [N], or places."""
        places = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows, np.int64)
        return Predictions(
            self.model, self.classes, self.clips.take(pa.array(places)), self.probabilities[places],
            self.features[places],
        )  # fmt: skip

    def write(self, path: str | Path) -> Path:
        """Write to one Parquet file (its folder is made)."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = self.clips.append_column("probabilities", pa.array(list(self.probabilities), pa.list_(pa.float32())))
        table = table.append_column("features", pa.array(list(self.features), pa.list_(pa.float32())))
        about = {"model": self.model, "classes": json.dumps(self.classes)}
        pq.write_table(table.replace_schema_metadata(about), path, compression="zstd")
        return path


def read_predictions(path: str | Path) -> Predictions:
    """Read what `Predictions.write` wrote. Raises FileNotFoundError, or ValueError for another kind of file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such predictions; `ray-fer evaluate BUNDLE CLIPS -o REPORT` writes them")
    try:
        table = pq.read_table(path)
        about = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        arrays = [np.array(table.column(name).to_pylist(), np.float32) for name in ("probabilities", "features")]
        return Predictions(about["model"], json.loads(about["classes"]), table.select(COLUMNS), *arrays)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise ValueError(f"{path} holds no predictions ({error}); write them with `ray-fer evaluate`") from error


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Rows of several folds or datasets, for pooled figures. ValueError when their classes differ."""
    if len({tuple(part.classes) for part in parts}) != 1:
        raise ValueError("predictions of models with different classes cannot be pooled")
    features = [part.features for part in parts]
    if len({one.shape[1:] for one in features}) != 1:
        features = [np.zeros((len(part), 0), np.float32) for part in parts]
    return Predictions(
        parts[0].model, parts[0].classes, pa.concat_tables([part.clips for part in parts]),
        np.concatenate([part.probabilities for part in parts]), np.concatenate(features),
    )  # fmt: skip
