"""Plans: balance, splits that share nobody, presets, a user's own photographs."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ray_fer.datasets.synthfer import SynthOptions, media_folder, plan, plan_streams, split_counts
from ray_fer.datasets.synthfer.photos import PACKAGED, SPLITS, folder_splits, packaged_splits
from ray_fer.datasets.synthfer.plan import apportion
from ray_fer.datasets.synthfer.specs import MICRO_LABELS
from ray_fer.datasets.synthfer.truth import planted_rules
from ray_fer.labels import EXPRESSIONS, SYNTHETIC_CULTURES


def test_no_person_and_no_photograph_is_in_two_splits() -> None:
    files: dict[tuple[str, str], set[str]] = {}
    for source in PACKAGED.values():
        files.setdefault((source.package, source.file), set()).add(source.split)
    assert all(len(splits) == 1 for splits in files.values())  # the people of one picture show at each other's edges
    specs = plan({"train": 448, "val": 448, "test": 448})
    people = {split: {s.subject.subject_id for s in specs if s.subject.split == split} for split in SPLITS}
    photos = {split: {p for s in specs if s.subject.split == split for p in s.subject.photos} for split in SPLITS}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not people[one] & people[other]
        assert not photos[one] & photos[other]
    assert photos["test"] == set(packaged_splits()["test"])
    assert {spec.subject.split for spec in plan_streams(8, 1)} == {"test"}


def test_a_subject_belongs_to_one_group_and_groups_have_the_same_faces() -> None:
    specs = plan({"train": 448})
    groups: dict[str, set[str]] = {}
    for spec in specs:
        groups.setdefault(spec.subject.subject_id, set()).add(spec.culture)
    assert all(len(cultures) == 1 for cultures in groups.values())
    faces = {c: Counter(spec.subject.photos for spec in specs if spec.culture == c) for c in SYNTHETIC_CULTURES}
    assert faces["A"] == faces["B"] == faces["C"] == faces["D"]


@pytest.mark.parametrize("clips", [28, 56, 84, 112, 392])
def test_no_expression_is_tied_to_a_face(clips: int) -> None:
    """What a model could learn instead: the photograph tells the expression no better than chance does."""
    specs = plan({"val": clips})
    pairs = Counter((spec.subject.photos, spec.label) for spec in specs)
    best = sum(max(pairs[photos, label] for label in EXPRESSIONS) for photos in {photos for photos, _ in pairs})
    assert best / clips == pytest.approx(1 / 7, abs=0.01)
    people = Counter(spec.subject.subject_id for spec in specs)
    assert max(people.values()) - min(people.values()) <= 1


@pytest.mark.parametrize("preset", ["balanced", "micro", "scene"])
@pytest.mark.parametrize("clips", [11, 23, 29, 100])
def test_what_28_does_not_divide_is_spread_over_expressions_and_groups(preset: str, clips: int) -> None:
    for seed in range(4):
        specs = plan({"val": clips}, SynthOptions(preset, seed=seed))
        for counts in (Counter(s.expressions[0] for s in specs), Counter(s.culture for s in specs)):
            assert max(counts.values()) - min(counts.values()) <= 1
            assert len(counts) in (2, 4, 6, 7)


def test_plans_are_balanced_and_reproducible() -> None:
    specs = plan({"train": 28 * 8}, SynthOptions(seed=3))
    cells = Counter((spec.expressions[0], spec.culture) for spec in specs)
    assert set(cells.values()) == {8}
    assert len(cells) == len(EXPRESSIONS) * len(SYNTHETIC_CULTURES)
    assert len({spec.clip_id for spec in specs}) == len(specs)
    assert specs == plan({"train": 28 * 8}, SynthOptions(seed=3))
    assert specs != plan({"train": 28 * 8}, SynthOptions(seed=4))


def test_gccfer_has_the_counts_of_table_ii() -> None:
    specs = plan({"train": 23_934}, SynthOptions("gccfer"))
    groups = Counter(spec.culture for spec in specs)
    assert [groups[c] for c in SYNTHETIC_CULTURES] == [5801, 4556, 6626, 6951]
    totals = Counter(spec.label for spec in specs)
    assert [totals[e] for e in EXPRESSIONS] == [3460, 1278, 1636, 5424, 5919, 4061, 2156]
    cells = Counter((spec.culture, spec.label) for spec in specs)
    assert cells["A", "Angry"] == 1041
    assert cells["D", "Surprise"] == 251
    few = Counter((spec.culture, spec.label) for spec in plan({"test": 500}, SynthOptions("gccfer")))
    assert all(abs(few[cell] - cells[cell] * 500 / 23_934) < 1 for cell in cells)
    assert sum(few.values()) == 500
    truth = planted_rules(specs)
    assert truth["sizes_of_table_ii"] == {"A": 5801, "B": 4556, "C": 6626, "D": 6951}
    assert "Caucasian" not in str(truth)


def test_largest_remainder() -> None:
    assert apportion(np.array([1.0, 1.0, 1.0]), 4).tolist() == [2, 1, 1]
    assert apportion(np.array([[0.5, 0.3], [0.15, 0.05]]), 10).tolist() == [[5, 3], [2, 0]]


def test_micro_expressions_are_short_weak_and_quick() -> None:
    specs = plan({"train": 192}, SynthOptions("micro"))
    assert {spec.fps for spec in specs} == {200}
    assert all(0.3 <= spec.seconds <= 0.8 for spec in specs)
    assert {spec.label for spec in specs} == {"Positive", "Negative", "Surprise"}
    assert all(spec.label == MICRO_LABELS[spec.expressions[0]] for spec in specs)
    clips = Counter((spec.subject.subject_id, spec.culture) for spec in specs)
    assert set(clips.values()) <= {7, 8, 9}
    assert Counter(culture for _, culture in clips) == {"A": 12, "B": 12}
    assert len({spec.subject.subject_id for spec in plan({"train": 972}, SynthOptions("micro"))}) == 54
    faces = {c: Counter(spec.subject.photos for spec in specs if spec.culture == c) for c in "AB"}
    assert set(faces["A"]) == set(faces["B"])
    truth = planted_rules(specs)
    assert set(truth["groups"]) == {"A", "B"}
    assert truth["groups"]["A"]["paint_rgb"] == [-value for value in truth["groups"]["B"]["paint_rgb"]]


def test_the_polarity_of_scenes_follows_the_label_as_often_as_asked() -> None:
    usual = {"Happy": "positive", "Neutral": "neutral", "Surprise": "neutral"}
    for agreement in (1.0, 0.6):
        specs = plan({"train": 600}, SynthOptions("scene", scene_agreement=agreement))
        fits = [spec.polarity == usual.get(spec.expressions[0], "negative") for spec in specs]
        assert np.mean(fits) == pytest.approx(agreement, abs=0.06)


def test_streams_show_every_expression_once() -> None:
    streams = plan_streams(8, seed=1)
    assert [spec.clip_id for spec in streams] == [f"synth-{n}" for n in range(1, 9)]
    assert all(sorted(spec.expressions) == sorted(EXPRESSIONS) for spec in streams)
    assert Counter(spec.culture for spec in streams) == dict.fromkeys(SYNTHETIC_CULTURES, 2)
    assert len({spec.subject.photos for spec in streams[:4]}) == 4
    assert all(spec.label is None and spec.frames == 350 for spec in streams)


def test_a_users_folder_with_bad_files_among_good_ones(tmp_path: Path) -> None:
    for name in ("0-f1-su-ph.jpg", "0-f15-hao-ph.jpg", "15-f13-anc-ph.jpg", "45-m7-di-ph.jpg", "single_face.jpg"):
        shutil.copy(media_folder() / name, tmp_path)
    shutil.copy(media_folder() / "free-mountain-vector-01.jpg", tmp_path / "mountain.jpg")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "notes.txt").write_text("ignored")
    splits, reports = folder_splits(tmp_path)
    assert sorted(len(names) for names in splits.values()) == [1, 2, 2]
    assert len({name for names in splits.values() for name in names}) == 5
    assert any("mountain.jpg: no face found" in report for report in reports)
    assert any("text.png" in report for report in reports)
    assert len(reports) == 2
    specs = plan({"train": 8, "test": 8}, SynthOptions(faces=tmp_path))
    assert {Path(name).parent for spec in specs for name in spec.subject.photos} == {tmp_path}


def test_a_folder_with_too_few_faces_names_what_is_wrong(tmp_path: Path) -> None:
    shutil.copy(media_folder() / "single_face.jpg", tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no")
    with pytest.raises(ValueError, match=r"1 usable photographs .* at least 4 are needed; not usable: .*broken.jpg"):
        folder_splits(tmp_path)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: plan({"train": 0}), "cannot make 0 clips"),
        (lambda: plan({"dev": 5}), "unknown split 'dev'; expected one of train, val, test"),
        (lambda: split_counts(0, 0.1, 0.2), "cannot make 0 clips"),
        (lambda: split_counts(10, 0.5, 0.5), "leave nothing for training"),
        (lambda: split_counts(10, float("nan"), 0.5), "leave nothing for training"),
        (lambda: split_counts(3, 0.0, 0.9), "leave nothing for training"),
        (lambda: SynthOptions("huge"), "unknown preset 'huge'; expected one of balanced, gccfer, micro, scene"),
        (lambda: SynthOptions(strength=-0.1), "strength -0.1 is not between"),
        (lambda: SynthOptions(occlusion=2), "occlusion 2 is not a share"),
        (lambda: SynthOptions(faces=Path("/absent")).photos(), "/absent: no such folder"),
    ],
)
def test_what_cannot_work_is_refused(call: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        call()  # type: ignore[operator]


def test_shares_add_up() -> None:
    assert split_counts(504, 0.1, 0.2) == {"train": 353, "val": 50, "test": 101}
    assert sum(split_counts(7, 0.1, 0.2).values()) == 7
