from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_fer.datasets.manifest import SCHEMA, Clip, ManifestError, read_manifest, write_manifest


def test_round_trip_and_absolute_paths(tmp_path: Path) -> None:
    clips = [Clip("a", "x", "v/a.mp4", label="Happy"), Clip("b", "x", "/abs/b.mp4", bbox=[1.0, 2.0, 3.0, 4.0], fold=2)]
    path = write_manifest(clips, tmp_path / "m" / "manifest.parquet")
    rows = read_manifest(path)
    assert rows == read_manifest(tmp_path / "m")
    assert [row["path"] for row in rows] == [str(tmp_path / "m/v/a.mp4"), "/abs/b.mp4"]
    assert rows[0]["label"] == "Happy"
    assert rows[0]["culture"] == "Unknown"
    assert rows[1]["bbox"] == [1, 2, 3, 4]
    assert pq.read_schema(path).equals(SCHEMA)


def test_repeated_ids_and_unknown_media_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="row 1: clip_id 'a' occurs twice"):
        write_manifest([Clip("a", "x", "p"), Clip("a", "x", "q")], tmp_path / "m.parquet")
    with pytest.raises(ManifestError, match="media 'tape' is not one of"):
        write_manifest([Clip("a", "x", "p", media="tape")], tmp_path / "m.parquet")


def test_files_that_are_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("clip_id,path\n")
    with pytest.raises(ManifestError, match="not a Parquet file"):
        read_manifest(tmp_path / "text.parquet")
    pq.write_table(pa.table({"clip_id": ["a"]}), tmp_path / "thin.parquet")
    with pytest.raises(ManifestError, match="columns are missing: dataset, path"):
        read_manifest(tmp_path / "thin.parquet")
