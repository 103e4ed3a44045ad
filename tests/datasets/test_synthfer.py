"""SynthFER: planted AUs are really in the pictures, splits do not share people, the same seed gives the same clips."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ray_fer.action_units.blendshapes import aus_from_blendshapes
from ray_fer.datasets.manifest import read_manifest
from ray_fer.datasets.synthfer import ClipSpec, generate, plan, plan_streams
from ray_fer.datasets.synthfer_faces import IDENTITIES, TEST_IDENTITIES, TRAIN_IDENTITIES, load_identity, warp
from ray_fer.datasets.synthfer_profiles import BASE_PATTERNS, peak_intensities
from ray_fer.labels import AU_NAMES, EXPRESSIONS, SYNTHETIC_CULTURES
from ray_fer.video.decode import iter_frames
from ray_fer.video.faces import FaceFinder


def test_no_person_is_in_both_splits() -> None:
    assert not set(TRAIN_IDENTITIES) & set(TEST_IDENTITIES)
    train = {(s.file, s.crop) for s in TRAIN_IDENTITIES.values()}
    test = {(s.file, s.crop) for s in TEST_IDENTITIES.values()}
    assert not train & test
    assert {spec.identity for spec in plan(112, 1, "test")} == set(TEST_IDENTITIES)
    assert {spec.identity for spec in plan(112, 1, "train")} == set(TRAIN_IDENTITIES)
    assert {spec.identity for spec in plan_streams(8, 1)} == set(TEST_IDENTITIES)


def test_plans_are_balanced_and_reproducible() -> None:
    specs = plan(28 * 8, seed=3, split="train")
    cells = Counter((spec.expressions[0], spec.culture) for spec in specs)
    assert set(cells.values()) == {8}
    assert len(cells) == len(EXPRESSIONS) * len(SYNTHETIC_CULTURES)
    # No expression is tied to a face, which a model could learn instead.
    faces = Counter((spec.expressions[0], spec.identity) for spec in specs)
    assert min(faces.values()) >= 2
    assert len(faces) == len(EXPRESSIONS) * len(TRAIN_IDENTITIES)
    assert specs == plan(28 * 8, seed=3, split="train")
    assert specs != plan(28 * 8, seed=4, split="train")


@pytest.mark.parametrize(("clips", "split"), [(0, "train"), (5, "dev")])
def test_bad_plans_are_refused(clips: int, split: str) -> None:
    with pytest.raises(ValueError, match=r"cannot make|unknown split"):
        plan(clips, 0, split)


@pytest.mark.parametrize("name", IDENTITIES)
def test_every_identity_shows_a_face_that_moves(name: str) -> None:
    identity = load_identity(name)
    rest = warp(identity, np.zeros(20, np.float32))
    np.testing.assert_array_equal(rest, identity.canvas)
    surprise = warp(identity, peak_intensities("Surprise", "Synthetic A"))
    with FaceFinder() as finder:
        assert finder.find(surprise) is not None
    assert np.abs(surprise.astype(int) - rest.astype(int)).mean() > 2


@pytest.mark.parametrize(
    ("planted", "read"),
    [(("AU04",), "AU04"), (("AU01", "AU02"), "AU01"), (("AU25", "AU26"), "AU26"), (("AU43",), "AU43")],
)
def test_mediapipe_reads_planted_aus_back(planted: tuple[str, ...], read: str) -> None:
    """An independent reader: MediaPipe's blendshape network knows nothing of py-feat's mesh model.

    Over all identities, the AU that was planted is the one that changes most.
    """
    values = np.isin(AU_NAMES, planted).astype(np.float32)
    changes = []
    with FaceFinder() as finder:
        for name in IDENTITIES:
            identity = load_identity(name)
            before, after = finder.find(identity.canvas), finder.find(warp(identity, values))
            assert before is not None
            assert after is not None
            changes.append(aus_from_blendshapes(after.blendshapes) - aus_from_blendshapes(before.blendshapes))
    mean = np.mean(changes, axis=0)
    assert AU_NAMES[int(np.argmax(mean))] == read
    assert mean.max() > 0.15


def test_culture_profiles_differ_and_neutral_is_neutral() -> None:
    for culture in SYNTHETIC_CULTURES:
        assert not peak_intensities("Neutral", culture).any()
        for expression, pattern in BASE_PATTERNS.items():
            assert all(peak_intensities(expression, culture)[AU_NAMES.index(au)] > 0 for au in pattern)
    happy = [peak_intensities("Happy", culture).tolist() for culture in SYNTHETIC_CULTURES]
    assert len({tuple(values) for values in happy}) == 4
    with pytest.raises(ValueError, match="unknown synthetic culture"):
        peak_intensities("Happy", "African")


def test_a_clip_begins_neutral_and_carries_its_truth(tmp_path: Path) -> None:
    spec = ClipSpec("c", "woman_studio", "Synthetic C", ("Surprise",), "test", seed=5)
    (row,) = read_manifest(generate([spec], tmp_path, workers=1))
    assert (row["label"], row["culture"], row["subject_id"], row["split"]) == (
        "Surprise", "Synthetic C", "woman_studio", "test",
    )  # fmt: skip
    (segment,) = json.loads(row["annotations"])["segments"]
    assert (segment["label"], segment["start_us"], segment["end_us"]) == ("Surprise", 0, 5_000_000)
    frames = list(iter_frames(row["path"]))
    assert len(frames) == 50
    with FaceFinder() as finder:
        faces = [finder.find(frames[i].image) for i in (0, row["apex"])]
    opened = [aus_from_blendshapes(face.blendshapes)[AU_NAMES.index("AU26")] for face in faces if face is not None]
    assert opened[1] - opened[0] > 0.1  # the jaw drops: at rest it reads 0.03


def test_the_same_spec_gives_the_same_pixels(tmp_path: Path) -> None:
    spec = ClipSpec("c", "man_group", "Synthetic B", ("Sad", "Happy"), "test", seed=9, seconds=1.0)
    paths = [read_manifest(generate([spec], tmp_path / name, workers=1))[0]["path"] for name in "ab"]
    first, second = ([frame.image for frame in iter_frames(path)] for path in paths)
    assert len(first) == 20
    np.testing.assert_array_equal(np.stack(first), np.stack(second))
