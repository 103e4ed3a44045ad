"""The face stage on what records carry: images, segments and references, whole and broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_fer.bundle import PACKAGED
from ray_fer.labels import EXPRESSIONS
from ray_fer.models.transform import TransformConfig, prepare
from ray_fer.serving.stages import ExpressionStage, FaceResult, FaceStage, batches
from ray_fer.streaming.payload import Payload, PictureRequest
from ray_fer.streaming.references import ReferencePolicy
from ray_fer.streaming.source import segment_messages, video_messages
from ray_fer.video.face_clip import find_face
from ray_fer.video.faces import FaceFinder
from ray_fer.video.images import decode_image

WHOLE = TransformConfig()


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `stage` may read from."""
    return tmp_path_factory.mktemp("references")


@pytest.fixture(scope="module")
def stage(allowed: Path) -> Iterator[FaceStage]:
    one = FaceStage(ReferencePolicy(prefixes=[str(allowed)]))
    yield one
    one.close()


def same_faces(one: list[FaceResult], other: list[FaceResult]) -> bool:
    """Whether both show a face in the same place in every frame, up to what encoding moves landmarks by: 2 pixels."""
    return all(
        a.face is not None and b.face is not None and np.abs(a.face.landmarks - b.face.landmarks)[:, :2].mean() < 2
        for a, b in zip(one, other, strict=True)
    )


def test_frames_of_a_segment_show_what_single_images_show(stage: FaceStage, media: Path) -> None:
    path = media / "single_face.mp4"
    images = [message.source() for message in video_messages(path, "s")]
    segment = next(segment_messages(path, "s", 1)).source()
    wanted = (0, 12, 25)
    single = stage.find([PictureRequest(images[index], (0,)) for index in wanted], WHOLE)
    (together,) = stage.find([PictureRequest(segment, wanted)], WHOLE)
    assert same_faces(together, [result for (result,) in single])


def test_results_lie_where_they_were_asked_for(stage: FaceStage, allowed: Path, media: Path, jpeg: bytes) -> None:
    face = next(video_messages(media / "single_face.mp4", "s")).payload
    file = allowed / "face.jpg"
    file.write_bytes(face)
    requests = [
        PictureRequest(Payload("image/jpeg", jpeg), (0,)),
        PictureRequest(Payload("video/mp4", b"\0\0\0\x08ftyp"), (3, 5, 9)),
        PictureRequest(Payload("image/jpeg", b"", f"file://{file}"), (0,)),
        PictureRequest(Payload("image/jpeg", b"", "file:///etc/hostname"), (0,)),
        PictureRequest(Payload("image/jpeg", face), (0,)),
    ]
    none, broken, fetched, forbidden, whole = stage.find(requests, WHOLE)
    assert none == [FaceResult(None)]
    assert [result.face for result in broken] == [None] * 3
    assert all("not a readable video" in (result.error or "") for result in broken)
    assert "add it with --allow-reference" in (forbidden[0].error or "")
    assert same_faces(fetched, whole)
    assert stage.find([], WHOLE) == []


def test_by_default_no_reference_is_followed(media: Path) -> None:
    stage = FaceStage()
    ((result,),) = stage.find(
        [PictureRequest(Payload("image/jpeg", b"", f"file://{media}/multi_face.jpg"), (0,))], WHOLE
    )
    stage.close()
    assert "add it with --allow-reference" in (result.error or "")


def test_crops_are_those_of_the_model_and_what_it_would_make_of_the_whole_clip(media: Path) -> None:
    transform = TransformConfig(left=0.09, top=0.107, side=0.82, canvas=96, zoom=0.85, size=64)
    messages = list(video_messages(media / "single_face.mp4", "s"))[:4]
    stage = FaceStage()
    results = stage.find([PictureRequest(message.source(), (0,)) for message in messages], transform)
    stage.close()
    with FaceFinder() as finder:
        aligned = [find_face(finder, decode_image(message.payload)) for message in messages]
    whole = prepare(torch.from_numpy(np.stack([one.crop for one in aligned if one is not None])), transform)
    crops = np.stack([result.face.crop for (result,) in results if result.face is not None])
    assert crops.shape == (4, 96, 96, 3)
    np.testing.assert_array_equal(crops, whole.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("count", range(1, 40))
def test_batches_have_few_sizes_and_lose_no_clip(count: int) -> None:
    clips = [np.full(1, number) for number in range(count)]
    cut = list(batches(clips))
    assert [int(clip[0]) for batch in cut for clip in batch] == list(range(count))
    assert {len(batch) for batch in cut} <= {8, 4, 2, 1}
    assert len(cut) <= count // 8 + 3


def test_the_answer_for_a_clip_does_not_depend_on_the_clips_beside_it() -> None:
    stage = ExpressionStage(PACKAGED)
    side = stage.transform.canvas
    clips = list(np.random.default_rng(0).integers(0, 256, (11, stage.transform.frames, side, side, 3), np.uint8))
    together = stage.probabilities(clips)
    assert together.shape == (11, len(EXPRESSIONS))
    np.testing.assert_allclose(together, [stage.probabilities([clip])[0] for clip in clips], atol=1e-5)
