"""Blendshapes to Action Units: the documented map, the fitted one, and both as an extractor."""

from __future__ import annotations

from pathlib import Path

import feat
import numpy as np
import pytest

from ray_fer.action_units.blendshape_map import (
    BLENDSHAPE_NAMES,
    PACKAGED,
    packaged_map,
    read_map,
    shape_columns,
)
from ray_fer.action_units.blendshapes import aus_from_blendshapes
from ray_fer.action_units.extractor import EXTRACTORS, create_extractor
from ray_fer.labels import AU_NAMES
from ray_fer.video.decode import iter_frames
from ray_fer.video.faces import FaceFinder

MEDIA = Path(feat.__file__).parent / "tests" / "data"


def shapes(**scores: float) -> np.ndarray:
    found = np.zeros(52, np.float32)
    for name, score in scores.items():
        found[BLENDSHAPE_NAMES.index(name)] = score
    return found


def test_a_smile_is_au12_and_an_open_jaw_au26() -> None:
    smile = shapes(mouthSmileLeft=1.0, mouthSmileRight=0.5)
    au = aus_from_blendshapes(smile, calibrated=False)
    assert au[AU_NAMES.index("AU12")] == pytest.approx(0.75)
    assert au.sum() == pytest.approx(0.75)
    assert aus_from_blendshapes(smile, calibrated=True)[AU_NAMES.index("AU12")] == pytest.approx(0.75, abs=0.2)
    fitted = packaged_map().aus["AU26"]
    assert fitted.calibrated
    expected = np.clip(fitted.weights["jawOpen"] * 0.4 + fitted.offset, 0, 1)
    jaw = aus_from_blendshapes(shapes(jawOpen=0.4), calibrated=True)[AU_NAMES.index("AU26")]
    assert 0 < jaw == pytest.approx(expected)
    with pytest.raises(ValueError, match="expected 52"):
        aus_from_blendshapes(np.zeros(51))


def test_a_paired_shape_stands_for_both_sides() -> None:
    assert shape_columns("browDown") == [1, 2]
    assert shape_columns("jawOpen") == [BLENDSHAPE_NAMES.index("jawOpen")]
    with pytest.raises(KeyError, match="browUp"):
        shape_columns("browUp")


def test_more_of_a_shape_never_is_less_of_an_au() -> None:
    weights, offsets = packaged_map().matrix()
    assert (weights >= 0).all()
    assert (offsets <= 0).all()
    everything = np.random.default_rng(0).random((50, 52))
    found = aus_from_blendshapes(everything, calibrated=True)
    assert found.dtype == np.float32
    assert (found >= 0).all()
    assert (found <= 1).all()
    assert not aus_from_blendshapes(np.zeros(52), calibrated=True).any()


def test_the_fitted_map_says_how_far_each_au_can_be_trusted() -> None:
    found = packaged_map()
    assert found.held_out_identities >= 10
    calibrated = [au for au in AU_NAMES if found.aus[au].calibrated]
    assert {"AU01", "AU24", "AU26", "AU28"} <= set(calibrated)
    assert {"AU06", "AU11"} <= set(found.unreliable)
    for au in found.unreliable:
        assert found.aus[au].held_out.within < 0.5
    for au in calibrated:  # no fit was chosen on these identities, and none is worse there
        row = found.aus[au]
        assert row.held_out.mae < row.held_out_documented.mae
        assert row.held_out.within > row.held_out_documented.within - 0.01
    anything = np.random.default_rng(0).random((50, 52))
    fitted, documented = (aus_from_blendshapes(anything, calibrated=yes) for yes in (True, False))
    for number, au in enumerate(AU_NAMES):
        if au not in calibrated:
            assert found.aus[au].held_out == found.aus[au].held_out_documented
            np.testing.assert_allclose(fitted[:, number], documented[:, number], atol=1e-5)


def test_a_neutral_face_reads_small_values() -> None:
    frame = next(iter(iter_frames(MEDIA / "single_face.mp4", wanted=[2])))
    with FaceFinder(max_faces=1) as finder:
        face = finder.find(frame.image)
    assert face is not None
    fitted, documented = (aus_from_blendshapes(face.blendshapes, calibrated=yes) for yes in (True, False))
    trusted = [number for number, au in enumerate(AU_NAMES) if au not in packaged_map().unreliable]
    assert fitted[trusted].max() < 0.2
    assert fitted.sum() < documented.sum()


def test_a_damaged_map_is_named(tmp_path: Path) -> None:
    text = PACKAGED.read_text()
    (tmp_path / "map.json").write_text(text)
    assert read_map(tmp_path / "map.json") == packaged_map()
    (tmp_path / "map.json").write_text(text.replace('"AU12"', '"AU99"'))
    with pytest.raises(ValueError, match=r"map\.json has no map for AU12"):
        read_map(tmp_path / "map.json")
    (tmp_path / "map.json").write_text("{}")
    with pytest.raises(ValueError, match="does not hold a blendshape map"):
        read_map(tmp_path / "map.json")
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        read_map(tmp_path / "absent.json")


def test_the_extractor_reads_clips_of_any_length_and_leaves_frames_without_a_face_open() -> None:
    smile = shapes(mouthSmileLeft=0.8, mouthSmileRight=0.8)
    clips = [
        {"clip_id": "a", "face_found": [True, False], "blendshapes": [*smile, *np.zeros(52)]},
        {"clip_id": "b", "face_found": [True] * 40, "blendshapes": np.tile(smile, 40)},
    ]
    for calibrated, name in ((True, "mediapipe-blendshapes-calibrated"), (False, "mediapipe-blendshapes")):
        extractor = create_extractor("blendshape", calibrated=calibrated)
        assert (extractor.name, extractor.columns) == (name, ("blendshapes",))
        first, second = extractor.extract(clips)
        assert (first.shape, second.shape, second.dtype) == ((2, 20), (40, 20), np.float32)
        np.testing.assert_array_equal(first[0], aus_from_blendshapes(smile, calibrated))
        assert np.isnan(first[1]).all()
        extractor.close()


def test_unknown_extractors_and_options_are_named() -> None:
    assert EXTRACTORS == ("blendshape", "pyfeat", "openface_csv")
    with pytest.raises(ValueError, match="unknown AU extractor 'afar'; expected one of blendshape, pyfeat"):
        create_extractor("afar")
    with pytest.raises(ValueError, match=r"extractor 'blendshape'.*'speed'.*its options are calibrated"):
        create_extractor("blendshape", speed=3)
