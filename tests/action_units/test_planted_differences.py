"""Does the ANOVA find what was planted into SynthFER, and nothing else? With the true AUs, and with those read back.

SynthFER's own display rules change nearly every AU of every group. For a sharp test, groups get one AU each here, shown
at rest; all others move with the expressions, which are the same in all groups. Four subjects, one of each group, share
their photographs. Subjects are compared, not clips: they show several. The AUs to plant are such as MediaPipe reads
apart: a smile, say, is also read as pressed and stretched lips (AU24, AU20), and that difference is no false finding
of the ANOVA.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ray_fer.action_units.extractor import create_extractor
from ray_fer.action_units.profiles import Priors, culture_priors
from ray_fer.action_units.statistics import au_statistics
from ray_fer.datasets.synthfer import rules
from ray_fer.datasets.synthfer.conditions import make_take
from ray_fer.datasets.synthfer.identities import Identity, build_identity, make_subjects
from ray_fer.datasets.synthfer.photos import load_photos, packaged_splits
from ray_fer.datasets.synthfer.renderer import render
from ray_fer.datasets.synthfer.rules import DisplayRules
from ray_fer.datasets.synthfer.specs import ClipSpec
from ray_fer.datasets.synthfer.trajectory import trajectory
from ray_fer.labels import AU_NAMES, EXPRESSIONS, SYNTHETIC_CULTURES
from ray_fer.video.faces import FaceFinder
from ray_fer.video.sampling import uniform_indices

PLANTED = {"B": "AU26", "C": "AU04", "D": "AU43"}
RULES = {
    "A": DisplayRules(),
    "B": DisplayRules(accent={"AU26": 0.55}),
    "C": DisplayRules(accent={"AU04": 0.45}),
    "D": DisplayRules(accent={"AU43": 0.4}),
}
FACES = 24
SEED = 3
# The groups are the same at strength 0, differ in style at 0.5.
ALIKE, DIFFERENT = 0.0, 0.5
FRAMES = {ALIKE: 3, DIFFERENT: 6}


@pytest.fixture(scope="module", autouse=True)
def planted_rules() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for group, own in RULES.items():
            patch.setitem(rules.DISPLAY_RULES, group, own)
        yield


def clips(strength: float, seed: int, clips_each: int = 2) -> list[ClipSpec]:
    """Clips of held-out faces: `FACES` subjects of each group, who show expressions in turn."""
    photos = load_photos(packaged_splits()["test"])
    rng = np.random.default_rng(seed)
    return [
        ClipSpec(
            f"{number}-{turn}", subject, SYNTHETIC_CULTURES[number % 4],
            (EXPRESSIONS[(clips_each * (number // 4) + turn) % len(EXPRESSIONS)],), int(rng.integers(2**31)),
            strength=strength,
        )
        for number, subject in enumerate(make_subjects("test", 4 * FACES, photos, seed))
        for turn in range(clips_each)
    ]  # fmt: skip


def priors_of(specs: list[ClipSpec], aus: list[np.ndarray], name: str) -> Priors:
    return culture_priors(
        np.stack([au_statistics(au) for au in aus]), [spec.culture for spec in specs], SYNTHETIC_CULTURES, name,
        subjects=[spec.subject.subject_id for spec in specs], unit="subject",
    )  # fmt: skip


def findings(priors: Priors) -> set[str]:
    """AUs of which a statistic differs at the corrected level."""
    return {row.statistic.rsplit("_", 1)[1] for row in priors.anova if row.significant()}


def ranking(priors: Priors) -> list[str]:
    """AUs by their greatest eta squared."""
    return list(dict.fromkeys(row.statistic.rsplit("_", 1)[1] for row in priors.ranked()))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_true_aus_show_the_planted_differences_and_no_others(seed: int) -> None:
    specs = clips(DIFFERENT, seed, clips_each=4)
    priors = priors_of(specs, [trajectory(spec).mean for spec in specs], "true")
    assert findings(priors) == set(PLANTED.values())
    assert set(ranking(priors)[:3]) == set(PLANTED.values())
    for group, au in PLANTED.items():
        profile = {name: priors.normalised[name][AU_NAMES.index(au)] for name in SYNTHETIC_CULTURES}
        assert profile[group] == 1
        assert max(value for name, value in profile.items() if name != group) < 0.25


def test_groups_that_are_alike_seldom_show_a_difference() -> None:
    """The corrected level is the chance of any false finding, 0.05: more than 3 in 20 would be a defect (p 0.016)."""
    wrong = 0
    for seed in range(20):
        specs = clips(ALIKE, seed, clips_each=4)
        wrong += bool(findings(priors_of(specs, [trajectory(spec).mean for spec in specs], "true")))
    assert wrong <= 3


@pytest.fixture(scope="module")
def read_back() -> dict[float, tuple[list[ClipSpec], list[dict[str, Any]]]]:
    """Clips at both strengths, rendered, and the rows of a clip store that MediaPipe makes of them."""
    found = {}
    with FaceFinder(max_faces=1) as finder:
        photos = load_photos(packaged_splits()["test"])
        faces: dict[str, Identity] = {}
        for strength in (ALIKE, DIFFERENT):
            specs, rows = clips(strength, seed=SEED), []
            for spec in specs:
                name = spec.subject.subject_id
                if name not in faces:
                    faces[name] = build_identity(spec.subject, photos)
                take = make_take(spec, faces[name])
                index = uniform_indices(spec.frames, FRAMES[strength])[None]
                images = render([take], index)[0].permute(0, 2, 3, 1).numpy()
                seen = [finder.find(image) for image in images]
                shapes = [np.zeros(52) if face is None else face.blendshapes for face in seen]
                rows.append(
                    {
                        "clip_id": spec.clip_id,
                        "face_found": [face is not None for face in seen],
                        "blendshapes": np.concatenate(shapes),
                    }
                )
            found[strength] = specs, rows
    return found


@pytest.mark.parametrize("calibrated", [True, False])
def test_aus_read_back_show_the_planted_differences_and_no_others(
    read_back: dict[float, tuple[list[ClipSpec], list[dict[str, Any]]]], calibrated: bool
) -> None:
    extractor = create_extractor("blendshape", calibrated=calibrated)
    alike, different = (
        priors_of(specs, extractor.extract(rows), extractor.name)
        for specs, rows in (read_back[ALIKE], read_back[DIFFERENT])
    )
    assert findings(alike) == set()
    assert findings(different) == set(PLANTED.values())
    assert set(ranking(different)[:3]) == set(PLANTED.values())
    for group, au in PLANTED.items():
        assert different.normalised[group][AU_NAMES.index(au)] == 1
