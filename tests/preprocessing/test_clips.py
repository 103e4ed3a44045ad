"""One row of a manifest to one row of the clip store, without Ray: what is kept of videos, folders, images, scenes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ray_fer.datasets.manifest import Clip, read_manifest
from ray_fer.datasets.synthfer import generate
from ray_fer.datasets.synthfer.plan import SynthOptions, plan
from ray_fer.preprocessing.clips import ClipOptions, ClipProcessor, store_schema
from ray_fer.preprocessing.shards import Failure, Row
from ray_fer.video.decode import iter_frames
from ray_fer.video.faces import FaceFinder
from ray_fer.video.flow import flow_image
from ray_fer.video.images import decode_image, encode_jpeg
from ray_fer.video.sampling import Sampling


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder() as one:
        yield one


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Row:
    """One micro-expression of SynthFER."""
    specs = plan({"train": 1}, SynthOptions(preset="micro", seed=2))
    return read_manifest(generate(specs, tmp_path_factory.mktemp("micro"), workers=1))[0]


def process(finder: FaceFinder, row: Row, **options: Any) -> Row | Failure:
    (result,) = ClipProcessor(ClipOptions(**options), finder)([row])
    return result


def row(path: Path, media: str = "video", **more: Any) -> Row:
    return vars(Clip("one", "own", str(path), media)) | more


def test_a_video(finder: FaceFinder, media: Path) -> None:
    clip = process(finder, row(media / "single_face.mp4", label="Happy"))
    assert isinstance(clip, dict)
    assert set(clip) == set(store_schema(ClipOptions()).names)
    assert clip["label"] == "Happy"
    assert [decode_image(data).shape for data in clip["frames"]] == [(224, 224, 3)] * 16
    assert clip["face_found"] == [True] * 16
    assert len(clip["landmarks"]) == 16 * 478 * 3
    assert len(clip["blendshapes"]) == 16 * 52
    times = [frame.pts_us / 1e6 for frame in iter_frames(media / "single_face.mp4")]
    assert set(clip["timestamps"]) <= set(times)
    assert np.diff(clip["timestamps"]) == pytest.approx(72 / 16 / 30, abs=1 / 30)


def test_an_image_and_a_folder_of_frames(finder: FaceFinder, media: Path, tmp_path: Path) -> None:
    image = process(finder, row(media / "single_face.jpg", "image"), sampling=Sampling(frames=4))
    frames = [frame.image for frame in iter_frames(media / "single_face.mp4")][:3]
    for number, one in enumerate(frames):
        (tmp_path / f"img{number + 8}.jpg").write_bytes(encode_jpeg(one))
    folder = process(finder, row(tmp_path, "frames"), sampling=Sampling(frames=4))
    assert isinstance(image, dict)
    assert isinstance(folder, dict)
    assert len(set(image["frames"])) == 1
    assert len(set(folder["frames"])) == 3
    assert folder["frames"][2] == folder["frames"][3]
    assert image["timestamps"] == folder["timestamps"] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("path", "media_type", "reason"),
    [
        ("absent.mp4", "video", "no such file"),
        ("free-mountain-vector-01.jpg", "image", "no face in any of 16 sampled frames"),
        ("absent", "frames", "missing or holds no"),
    ],
)
def test_what_cannot_be_used_is_a_failure_with_a_reason(
    finder: FaceFinder, media: Path, path: str, media_type: str, reason: str
) -> None:
    failure = process(finder, row(media / path, media_type))
    assert isinstance(failure, Failure)
    assert failure.path == str(media / path)
    assert reason in failure.reason
    assert failure.path not in failure.reason


def test_the_scene_is_kept_whole_or_without_the_face(finder: FaceFinder, media: Path) -> None:
    scenes = {}
    for scene in ("whole", "masked"):
        clip = process(finder, row(media / "single_face.mp4"), scene=scene, sampling=Sampling(frames=2))
        assert isinstance(clip, dict)
        scenes[scene] = np.stack([decode_image(data) for data in clip["scene"]]).astype(int)
    assert scenes["whole"].shape == (2, 224, 224, 3)
    changed = np.abs(scenes["whole"] - scenes["masked"]).max(-1) > 24
    assert 0.01 < changed.mean() < 0.6


def test_motion_from_onset_to_apex(finder: FaceFinder, micro: Row) -> None:
    clip = process(finder, micro, flow="dis")
    assert isinstance(clip, dict)
    flow = np.frombuffer(clip["flow"], np.float16).reshape(3, 224, 224)
    assert (clip["onset"], clip["apex"]) == (micro["onset"], micro["apex"])
    assert np.isfinite(flow).all()
    assert (flow[2] >= 0).all()
    again = flow_image(decode_image(clip["apex_frame"]), decode_image(clip["apex_frame"]), "dis")
    assert np.abs(flow).mean() > 10 * np.abs(again).mean()


def test_an_apex_that_is_missing_is_looked_for(finder: FaceFinder, micro: Row) -> None:
    clip = process(finder, micro | {"apex": None}, flow="dis")
    assert isinstance(clip, dict)
    assert clip["apex"] == pytest.approx(micro["apex"], abs=0.35 * (micro["offset"] - micro["onset"]))


def test_no_apex_after_the_onset(finder: FaceFinder, micro: Row) -> None:
    failure = process(finder, micro | {"apex": micro["onset"]}, flow="dis")
    assert isinstance(failure, Failure)
    assert "is not after the onset" in failure.reason


def test_the_store_says_its_shapes() -> None:
    assert store_schema(ClipOptions()).metadata == {b"frames": b"16", b"landmarks": b"478x3", b"blendshapes": b"52"}
    assert {"scene", "flow", "apex_frame"} <= set(store_schema(ClipOptions(scene="whole", flow="dis")).names)


def test_options_that_cannot_work() -> None:
    with pytest.raises(ValueError, match="scene"):
        ClipOptions(scene="blurred")  # type: ignore[arg-type]
