"""Tables of OpenFace and py-feat: real ones that come with py-feat, and what people do to theirs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import feat
import numpy as np
import pandas as pd
import pytest

from ray_fer.action_units.extractor import create_extractor
from ray_fer.labels import AU_NAMES
from ray_fer.video.clip_frames import clip_frames
from ray_fer.video.sampling import Sampling

DATA = Path(feat.__file__).parent / "tests" / "data"
SMILE, LIDS = AU_NAMES.index("AU12"), AU_NAMES.index("AU43")


def clip(clip_id: str = "c1", path: str = "videos/v1.mp4", frames: int = 8, **more: Any) -> dict[str, Any]:
    row = {
        "clip_id": clip_id, "path": path, "media": "video", "timestamps": np.arange(frames) * 0.04,
        "frame_index": list(range(frames)), "face_found": [True] * frames,
    }  # fmt: skip
    return row | more


def openface(path: Path, frames: int = 10, fps: float = 25, **columns: Any) -> Path:
    """A table with leading spaces in its headers, as OpenFace writes them."""
    table = {"frame": np.arange(1, frames + 1), "timestamp": np.arange(frames) / fps, "confidence": 0.9, "success": 1}
    table |= {"AU12_r": np.arange(frames) / 2, "AU45_r": 1.0, "AU12_c": 1} | columns
    pd.DataFrame(table).rename(columns=lambda name: name if name == "frame" else f" {name}").to_csv(path, index=False)
    return path


def extract(tables: Path, row: dict[str, Any], **options: Any) -> np.ndarray:
    (found,) = create_extractor("openface_csv", tables=tables, **options).extract([row])
    return found


def test_openfaces_own_table(tmp_path: Path) -> None:
    shutil.copy(DATA / "OpenFace_Test.csv", tmp_path / "c1.csv")
    raw = pd.read_csv(DATA / "OpenFace_Test.csv", skipinitialspace=True)
    extractor = create_extractor("openface_csv", tables=tmp_path)
    assert (extractor.name, extractor.active) == ("openface-csv", 0.2)
    row = clip(timestamps=[0.0, 0.02, 0.0504], face_found=[True, True, True])
    (found,) = extractor.extract([row])
    assert found.dtype == np.float32
    expected = raw["AU01_r"].to_numpy()[[0, 20, 50]] / 5
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)
    unmeasured = {au for au, value in zip(AU_NAMES, found[0], strict=True) if np.isnan(value)}
    assert unmeasured == {"AU11", "AU24", "AU28"}
    np.testing.assert_allclose(found[:, LIDS], raw["AU45_r"].to_numpy()[[0, 20, 50]] / 5, rtol=1e-6)
    assert np.isnan(extract(tmp_path, row, blink=False)[:, LIDS]).all()


def test_pyfeats_own_table_of_one_file_for_all_clips() -> None:
    raw = pd.read_csv(DATA / "001.csv")
    extractor = create_extractor("openface_csv", tables=DATA / "001.csv")
    assert extractor.name == "pyfeat-csv"
    wanted = [0, 1, 2, 3, 20, 38, 39, 39]
    (found,) = extractor.extract([clip("any", "somewhere/001.mp4", frame_index=wanted)])
    np.testing.assert_allclose(found, raw[list(AU_NAMES)].to_numpy()[wanted], rtol=1e-6)
    with pytest.raises(ValueError, match="no row of clip any, by its id or by its file 002"):
        extractor.extract([clip("any", "somewhere/002.mp4")])


def test_frames_are_matched_by_time(tmp_path: Path) -> None:
    openface(tmp_path / "v1.csv", 10)
    np.testing.assert_allclose(extract(tmp_path, clip())[:, SMILE], np.arange(8) / 10, rtol=1e-6)
    half = extract(tmp_path, clip(timestamps=[0.081, 0.199], face_found=[True, False]))
    assert half[0, SMILE] == pytest.approx(0.2)
    assert np.isnan(half[1]).all()
    with pytest.raises(ValueError, match=r"v1\.csv does not cover clip c1: its row nearest to 0.440 s is 0.080 s away"):
        extract(tmp_path, clip(frames=12))
    assert len(extract(tmp_path, clip(frames=12), tolerance=0.1)) == 12


def test_images_are_matched_by_number(tmp_path: Path) -> None:
    openface(tmp_path / "c1.csv", 10)
    row = clip(frames=4, media="frames", path="faces/c1", timestamps=[0, 1, 2, 3], frame_index=[3, 5, 7, 9])
    np.testing.assert_allclose(extract(tmp_path, row)[:, SMILE], [0.3, 0.5, 0.7, 0.9], rtol=1e-6)
    with pytest.raises(ValueError, match=r"c1\.csv does not cover clip c1: it has no row for frame 10 "):
        extract(tmp_path, row | {"frame_index": [8, 9, 10, 11]})


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(frames=4), [3, 5, 7, 9]),
        (Sampling(frames=4, strategy="segment", per_segment=2), [3, 4, 7, 8]),
        (Sampling(frames=4, strategy="consecutive"), [4, 5, 6, 7]),
        (Sampling(frames=10, padding="loop"), [2, 3, 4, 5, 6, 7, 8, 9, 2, 3]),
        (Sampling(frames=10, padding="mirror"), [2, 3, 4, 5, 6, 7, 8, 9, 8, 7]),
    ],
)
def test_each_way_of_sampling_gets_the_rows_of_its_frames(
    tmp_path: Path, sampling: Sampling, expected: list[int]
) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    for number in range(12):
        cv2.imwrite(str(folder / f"{number:03}.png"), np.full((32, 32, 3), number, np.uint8))
    row = clip(path=str(folder), media="frames") | {"start_frame": 2, "end_frame": 10}
    frames = clip_frames(row, sampling)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == expected
    row |= {"frame_index": [frame.index for frame in frames], "face_found": [True] * len(frames)}
    tables = tmp_path / "tables"
    tables.mkdir()
    openface(tables / "c1.csv", 12, AU12_r=np.arange(12) / 4)
    np.testing.assert_allclose(extract(tables, row)[:, SMILE] * 20, expected, rtol=1e-5)


def test_a_table_shorter_than_the_clip_moves_nothing(tmp_path: Path) -> None:
    table = pd.DataFrame({"clip_id": "c1", "frame": np.arange(20), "AU12": np.arange(20) / 100})
    row = clip(frames=4, frame_index=[2, 7, 12, 17])
    table.to_csv(tmp_path / "all.csv", index=False)
    np.testing.assert_allclose(extract(tmp_path / "all.csv", row)[:, SMILE], [0.02, 0.07, 0.12, 0.17], rtol=1e-6)
    table[:15].to_csv(tmp_path / "all.csv", index=False)
    with pytest.raises(ValueError, match=r"all\.csv does not cover clip c1: it has no row for frame 17 "):
        extract(tmp_path / "all.csv", row)


def test_lost_faces_and_second_faces(tmp_path: Path) -> None:
    openface(tmp_path / "c1.csv", 4, success=[1, 0, 1, 1])
    found = extract(tmp_path, clip(frames=4))
    assert np.isnan(found[1]).all()
    assert not np.isnan(found[[0, 2, 3], SMILE]).any()
    openface(
        tmp_path / "c1.csv", 4, frame=[1, 1, 2, 2], face_id=[0, 1, 0, 1], timestamp=[0, 0, 0.04, 0.04],
        confidence=[0.4, 0.9, 0.8, 0.3], AU12_r=[1, 2, 3, 4],
    )  # fmt: skip
    np.testing.assert_allclose(extract(tmp_path, clip(frames=2))[:, SMILE], [0.4, 0.6], rtol=1e-6)


def test_one_table_by_clip_id(tmp_path: Path) -> None:
    table = pd.DataFrame({"clip_id": ["x"] * 3 + ["y"] * 3, "frame": [0, 1, 2] * 2, "AU12": np.arange(6) / 10})
    table.to_csv(tmp_path / "all.csv", index=False)
    extractor = create_extractor("openface_csv", tables=tmp_path / "all.csv")
    first, second = extractor.extract([clip("y", frames=3), clip("x", frames=3)])
    np.testing.assert_allclose([first[:, SMILE], second[:, SMILE]], [[0.3, 0.4, 0.5], [0, 0.1, 0.2]], rtol=1e-6)
    extractor.close()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"AU12_r": [0, 1, "much", 1]}, r"c1\.csv, line 4, column AU12_r: 'much' is no number"),
        ({"AU12_r": [0, 6, 0, 0]}, r"c1\.csv, line 3, column AU12_r: '6' is no intensity between 0 and 5"),
        ({"frame": [1, 2, None, 4]}, r"c1\.csv, line 4, column frame: nothing is no number"),
        ({"frame": [1, 2, 3.4, 4]}, r"c1\.csv, line 4, column frame: '3.4' is no frame number"),
        ({"frame": [1, 2, 3, 1e300]}, r"c1\.csv, line 5, column frame: '1e\+300' is no frame number"),
        ({"frame": ["9" * 30, 2, 3, 4]}, r"c1\.csv, line 2, column frame: '.*' is no frame number"),
        ({"frame": [-1, 2, 3, 4]}, r"c1\.csv, line 2, column frame: '-1' is no frame number"),
        ({"timestamp": [0, 0.04, 0.04, 0.08]}, r"c1\.csv: column 'timestamp' does not grow"),
    ],
)
def test_bad_cells_are_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    openface(tmp_path / "c1.csv", 4, **columns)
    with pytest.raises(ValueError, match=message):
        extract(tmp_path, clip(frames=4))


def test_bad_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no \.csv"):
        create_extractor("openface_csv", tables=tmp_path)
    with pytest.raises(FileNotFoundError, match="absent: no such table or folder"):
        create_extractor("openface_csv", tables=tmp_path / "absent")
    file = tmp_path / "t.csv"
    for text, message in (
        ("", "no CSV table"),
        ("frame,smile\n1,2\n", "no column of Action Units"),
        ("AU01\n1\n", "no column 'frame'"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            create_extractor("openface_csv", tables=file)
    file.write_text("frame,AU01\n1,0.5\n")
    with pytest.raises(ValueError, match="needs a column 'clip_id' or 'input'"):
        extract(file, clip())
    file.write_text("frame,AU01\n")
    with pytest.raises(ValueError, match="no rows"):
        extract(tmp_path, clip("t"))
    file.unlink()
    openface(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("frame,AU12\n0,0.1\n")
    with pytest.raises(ValueError, match="mixed"):
        extract(tmp_path, clip("b"))
    with pytest.raises(FileNotFoundError, match=r"no table c9\.csv or v1\.csv"):
        extract(tmp_path, clip("c9"))
