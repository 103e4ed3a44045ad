"""Files: clips with a manifest and their truth beside them; the same seed gives the same pixels."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from ray_fer.action_units.blendshapes import aus_from_blendshapes
from ray_fer.datasets.manifest import read_manifest
from ray_fer.datasets.synthfer import ClipSpec, SynthOptions, generate, iter_batches, plan, plan_streams
from ray_fer.datasets.synthfer.identities import plain_subject
from ray_fer.datasets.synthfer.trajectory import trajectory
from ray_fer.labels import AU_NAMES
from ray_fer.video.decode import iter_frames
from ray_fer.video.faces import FaceFinder

STUDIO = plain_subject("woman_studio", "test")


def test_a_clip_begins_neutral_and_carries_its_truth(tmp_path: Path) -> None:
    spec = ClipSpec("c", STUDIO, "C", ("Surprise",), seed=5)
    (row,) = read_manifest(generate([spec], tmp_path, workers=1))
    assert (row["label"], row["culture"], row["subject_id"], row["split"]) == ("Surprise", "C", "woman_studio", "test")
    (segment,) = json.loads(row["annotations"])["segments"]
    assert (segment["label"], segment["start_us"], segment["end_us"]) == ("Surprise", 0, 5_000_000)
    frames = np.stack([frame.image for frame in iter_frames(row["path"])])
    assert frames.shape == (50, 256, 256, 3)
    rendered = next(iter_batches([spec], 1))[0][0].permute(0, 2, 3, 1).numpy()
    assert np.abs(frames.astype(int) - rendered).mean() < 4  # what compression does
    with FaceFinder() as finder:
        faces = [finder.find(frames[i]) for i in (0, row["apex"])]
    opened = [aus_from_blendshapes(face.blendshapes)[AU_NAMES.index("AU26")] for face in faces if face is not None]
    assert opened[1] - opened[0] > 0.1  # the jaw drops


def test_the_same_spec_gives_the_same_pixels(tmp_path: Path) -> None:
    spec = ClipSpec("c", STUDIO, "B", ("Sad", "Happy"), seed=9, seconds=1.0)
    paths = [read_manifest(generate([spec], tmp_path / name, workers=1))[0]["path"] for name in "ab"]
    first, second = ([frame.image for frame in iter_frames(path)] for path in paths)
    assert len(first) == 20
    np.testing.assert_array_equal(np.stack(first), np.stack(second))


def test_truth_beside_the_clips(tmp_path: Path) -> None:
    options = SynthOptions(strength=1.0, seed=6, occlusion=1.0)
    specs = plan({"train": 3, "test": 1}, options)
    told: list[tuple[int, int]] = []
    rows = read_manifest(
        generate(specs, tmp_path, workers=2, progress=lambda *done: told.append(done), options=options)
    )
    assert told[-1] == (4, 4)
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == len(rows) == 4
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert (truth["preset"], truth["strength"]) == ("balanced", 1.0)
    assert (truth["options"]["seed"], truth["options"]["occlusion"]) == (6, 1.0)
    notes = [json.loads(row["annotations"]) for row in rows]
    assert all(note["occluded"] and 18 <= note["crf"] <= 26 for note in notes)
    assert list(truth["groups"]) == ["A", "B", "C", "D"]
    angry = truth["groups"]["B"]["expressions"]["Angry"]
    assert angry["prototype_at_strength_1"] == "Happy"
    assert angry["peak"] == truth["prototypes"]["Happy"]
    assert truth["agnostic_ceiling_uar"]["test"] == 1.0  # a single clip
    assert {s for split in truth["subjects"].values() for group in split.values() for s in group} == {
        spec.subject.subject_id for spec in specs
    }
    table = pq.read_table(tmp_path / "truth" / "aus.parquet")
    assert json.loads(table.schema.metadata[b"au_names"]) == list(AU_NAMES)
    for spec, row in zip(specs, table.to_pylist(), strict=True):
        planted = trajectory(spec)
        assert (row["clip_id"], row["subject"], row["label"], row["fps"]) == (
            spec.clip_id, spec.subject.subject_id, spec.label, 10,
        )  # fmt: skip
        np.testing.assert_array_equal(np.array(row["au_left"], np.float32), planted.left)
        np.testing.assert_allclose(np.array(row["au"], np.float32), planted.mean, rtol=1e-6)


def test_micro_clips_run_at_200_frames_per_second(tmp_path: Path) -> None:
    specs = plan({"train": 4}, SynthOptions("micro"))
    for row, spec in zip(read_manifest(generate(specs, tmp_path, workers=1)), specs, strict=True):
        with av.open(row["path"]) as container:
            stream = container.streams.video[0]
            assert stream.average_rate == 200
            assert stream.frames == spec.frames == round(200 * spec.seconds)
        assert 0 < row["onset"] < row["apex"] < row["offset"] < spec.frames - 1
        assert json.loads(row["annotations"])["emotion"] == spec.expressions[0]
        aus = trajectory(spec).mean
        accent = aus[0]
        assert np.abs(aus[: row["onset"]] - accent).max() < 1e-2
        assert np.abs(aus[row["apex"]] - accent).max() == pytest.approx(np.abs(aus - accent).max())
        assert np.abs(aus - accent).max() < 0.65
        assert np.abs(aus[row["offset"] + 1 :] - accent).max() < 1e-2


def test_scenes_carry_their_polarity(tmp_path: Path) -> None:
    specs = plan({"train": 2}, SynthOptions("scene"))
    for row, spec in zip(read_manifest(generate(specs, tmp_path, workers=1)), specs, strict=True):
        assert json.loads(row["annotations"])["polarity"] == spec.polarity
        assert next(iter_frames(row["path"])).image.shape == (216, 384, 3)


def test_a_stream_has_a_segment_for_each_expression(tmp_path: Path) -> None:
    (spec,) = plan_streams(1, seed=2)
    (row,) = read_manifest(generate([spec], tmp_path, workers=1))
    segments = json.loads(row["annotations"])["segments"]
    assert [segment["label"] for segment in segments] == list(spec.expressions)
    assert [segment["start_us"] for segment in segments] == [n * 5_000_000 for n in range(7)]
    assert row["label"] is row["onset"] is None
    assert sum(1 for _ in iter_frames(row["path"])) == 350


def test_clips_of_two_strengths_cannot_share_a_truth(tmp_path: Path) -> None:
    specs = [ClipSpec(str(s), STUDIO, "A", ("Sad",), 1, strength=s, seconds=0.5) for s in (0.2, 0.4)]
    with pytest.raises(ValueError, match="generate them apart"):
        generate(specs, tmp_path, workers=1)


def test_an_existing_folder_is_not_mixed_with_a_new_one(tmp_path: Path) -> None:
    specs = [ClipSpec(f"synth_{n}", STUDIO, "A", ("Sad",), n, seconds=0.3) for n in range(3)]
    generate(specs, tmp_path, workers=1)
    with pytest.raises(FileExistsError, match="pass --overwrite"):
        generate(specs[:1], tmp_path, workers=1)
    generate(specs[:1], tmp_path, workers=1, overwrite=True)
    assert [path.stem for path in (tmp_path / "videos").iterdir()] == ["synth_0"]
    (tmp_path / "truth.json").unlink()
    with pytest.raises(FileExistsError, match="no SynthFER"):
        generate(specs, tmp_path, workers=1, overwrite=True)
    assert (tmp_path / "manifest.parquet").exists()


def test_plans_that_cannot_be_rendered(tmp_path: Path) -> None:
    spec = ClipSpec("c", STUDIO, "A", ("Sad",), 1, seconds=0.5)
    with pytest.raises(ValueError, match="same clip_id"):
        generate([spec, spec], tmp_path, workers=1)
    with pytest.raises(ValueError, match="no clip to render"):
        generate([], tmp_path, workers=1)


def test_two_plans_in_one_run_keep_their_faces() -> None:
    """Subjects of two seeds have the same names and other faces."""
    specs = [plan({"test": 4}, SynthOptions(seed=seed))[0] for seed in (1, 2)]
    together = [batch[0] for batch in iter_batches(specs, 1, frames=1)]
    for spec, frames in zip(specs, together, strict=True):
        np.testing.assert_array_equal(frames, next(iter_batches([spec], 1, frames=1))[0])


def test_the_number_of_workers_changes_no_pixel(tmp_path: Path) -> None:
    specs = [ClipSpec(f"synth_{n}", STUDIO, "B", ("Happy",), n, seconds=0.3) for n in range(3)]
    files = [generate(specs, tmp_path / str(workers), workers=workers).parent / "videos" for workers in (1, 2)]
    for spec in specs:
        assert (files[0] / f"{spec.clip_id}.mp4").read_bytes() == (files[1] / f"{spec.clip_id}.mp4").read_bytes()


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    command = [
        "from ray_fer.cli import main; main()",
        "synth",
        str(tmp_path / "out"),
        "--clips",
        "200",
        "--workers",
        "1",
    ]
    parent = subprocess.Popen([sys.executable, "-c", *command], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "out" / "videos").glob("*.mp4")):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        children = psutil.Process(parent.pid).children(recursive=True)
        assert children
    finally:
        parent.kill()
        parent.wait()
    assert psutil.wait_procs(children, timeout=30)[1] == []
