"""Clips of one face: who is chosen, what short and long gaps become, and video mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from ray_fer.video.boxes import Box, face_box, iou
from ray_fer.video.decode import iter_frames
from ray_fer.video.face_clip import FaceClip, FaceFrame, assemble, clip_faces, find_face
from ray_fer.video.faces import Face, FaceFinder, FaceTracker, align
from ray_fer.video.images import decode_image
from ray_fer.video.sampling import uniform_indices


class CountingFinder(FaceFinder):
    """Counts what it is asked to search."""

    searched = 0

    def find_faces(self, image: np.ndarray) -> list[Face]:
        self.searched += 1
        return super().find_faces(image)


@pytest.fixture(scope="module")
def finder() -> Iterator[CountingFinder]:
    with CountingFinder() as one:
        yield one


@pytest.fixture(scope="module")
def sampled(media: Path) -> Callable[[str, int], list[np.ndarray]]:
    def frames(name: str, count: int) -> list[np.ndarray]:
        every = [frame.image for frame in iter_frames(media / name)]
        return [every[index] for index in uniform_indices(len(every), count)]

    return frames


@pytest.fixture(scope="module")
def talking(sampled: Callable[[str, int], list[np.ndarray]]) -> list[np.ndarray]:
    """Ten frames of one woman."""
    return sampled("single_face.mp4", 10)


@pytest.fixture(scope="module")
def two_people(media: Path) -> tuple[np.ndarray, np.ndarray]:
    """A man alone, left in the frame; and beside him a woman whose face is larger."""
    alone = np.full((520, 1000, 3), 90, np.uint8)
    man = cv2.resize(decode_image((media / "single_face.jpg").read_bytes()), (420, 413))
    alone[:413, :420] = man
    both = alone.copy()
    both[:512, 460:972] = decode_image((media / "0-f1-su-ph.jpg").read_bytes())
    return alone, both


def face_frame(value: int) -> FaceFrame:
    crop = np.full((224, 224, 3), value, np.uint8)
    return FaceFrame(crop, np.full((478, 3), value, np.float32), np.full(52, value, np.float32))


def same(first: FaceClip, second: FaceClip) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in FaceClip.__dataclass_fields__)


def covered(image: np.ndarray) -> np.ndarray:
    """The same frame, with nothing left that is a face."""
    return cv2.GaussianBlur(image, (0, 0), 60)


def trembling(landmarks: np.ndarray) -> float:
    """Pixels: how much landmarks [T,478,>=2] depart from even movement."""
    return float(np.abs(np.diff(landmarks[..., :2], 2, axis=0)).mean())


def test_missing_frames_show_the_nearest_face() -> None:
    clip = assemble([None, face_frame(1), None, None, face_frame(4), None])
    assert clip.found.tolist() == [False, True, False, False, True, False]
    assert clip.crops[:, 0, 0, 0].tolist() == [1, 1, 1, 4, 4, 4]
    assert clip.blendshapes[:, 0].tolist() == [0, 1, 0, 0, 4, 0]


def test_a_clip_without_a_face_is_black(finder: FaceFinder) -> None:
    for clip in (assemble([None, None]), clip_faces(finder, [np.zeros((90, 90, 3), np.uint8)] * 2)):
        assert not clip.found.any()
        assert not clip.crops.any()
        assert clip.crops.shape == (2, 224, 224, 3)


def test_the_box_of_a_manifest_chooses_the_person(finder: FaceFinder, media: Path) -> None:
    """With a box the face in it, at its place in the image; the same in a clip as frame by frame."""
    image = decode_image((media / "multi_face.jpg").read_bytes())
    for box in [(290.0, 245.0, 90.0, 110.0), (500.0, 310.0, 90.0, 110.0)]:
        found = find_face(finder, image, box)
        assert found is not None
        centre = found.landmarks[:, :2].mean(0)
        assert box[0] < centre[0] < box[0] + box[2]
        assert box[1] < centre[1] < box[1] + box[3]
        assert same(clip_faces(finder, [image], box), assemble([found]))
    outside = (-500.0, 0.0, 10.0, 10.0)
    assert find_face(finder, image, outside) is None
    assert not clip_faces(finder, [image], outside).found.any()


def test_a_larger_face_in_the_margin_of_the_box_is_not_chosen() -> None:
    class Finder(FaceFinder):
        def __init__(self) -> None:
            pass

        def reset(self) -> None:
            pass

        def find_faces(self, image: np.ndarray) -> list[Face]:
            return [Face(shape + corner, np.zeros(52, np.float32)) for shape, corner in faces]

    def face_of(size: float) -> np.ndarray:
        return np.random.default_rng(0).uniform(0, size, (478, 3)).astype(np.float32)

    # The box's view starts at (75, 75) of the image: the neighbour overlaps it only a little.
    faces = [(face_of(90), np.float32([105, 20, 0])), (face_of(70), np.float32([35, 35, 0]))]
    image, box = np.zeros((300, 300, 3), np.uint8), (100.0, 100.0, 100.0, 100.0)
    found = find_face(Finder(), image, box)
    assert found is not None
    assert np.ptp(found.landmarks[:, 0]) == pytest.approx(70, abs=2)
    assert np.ptp(clip_faces(Finder(), [image], box).landmarks[0, :, 0]) == pytest.approx(70, abs=2)
    del faces[1]
    faces[0] = (face_of(20), np.float32([0, 0, 0]))
    assert find_face(Finder(), image, box) is None


def test_of_one_person_a_clip_is_what_its_frames_are(finder: FaceFinder, talking: list[np.ndarray]) -> None:
    assert same(clip_faces(finder, talking), assemble([find_face(finder, image) for image in talking]))


def test_of_two_people_the_one_who_stays_is_chosen(
    finder: FaceFinder, two_people: tuple[np.ndarray, np.ndarray]
) -> None:
    alone, both = two_people
    largest = find_face(finder, both)
    assert largest is not None
    assert largest.landmarks[:, 0].mean() > 460
    clip = clip_faces(finder, [both.copy(), alone, both.copy(), alone.copy()])
    assert clip.found.all()
    assert (clip.landmarks[:, :, 0].mean(1) < 420).all()
    assert clip.landmarks[[0, 2], :, 0].mean() == pytest.approx(clip.landmarks[[1, 3], :, 0].mean(), abs=2)


def test_a_repeated_image_is_searched_and_counted_once(
    finder: CountingFinder, two_people: tuple[np.ndarray, np.ndarray]
) -> None:
    """Short clips are padded with their last frame: who is seen there is not seen more often for it."""
    alone, both = two_people
    only_woman = both.copy()
    only_woman[:, :460] = 90
    before = finder.searched
    clip = clip_faces(finder, [alone, both, *[only_woman] * 6])
    assert finder.searched - before == 3
    # Both are seen in two frames, and the woman's face is larger; the man would be found in frame 0.
    assert clip.found.tolist() == [False] + [True] * 7
    for name in ("crops", "landmarks", "blendshapes"):
        assert (getattr(clip, name)[3:] == getattr(clip, name)[2]).all()


def test_a_short_gap_is_bridged_with_the_frames_own_pixels(finder: FaceFinder, talking: list[np.ndarray]) -> None:
    hidden = {3: covered(talking[3]), 6: covered(talking[6]), 7: covered(talking[7])}
    images = [hidden.get(position, image) for position, image in enumerate(talking)]
    clip = clip_faces(finder, images)
    assert np.flatnonzero(~clip.found).tolist() == [3, 6, 7]
    for position, before, after, share in ((3, 2, 4, 1 / 2), (6, 5, 8, 1 / 3), (7, 5, 8, 2 / 3)):
        between = clip.landmarks[before] + share * (clip.landmarks[after] - clip.landmarks[before])
        np.testing.assert_allclose(clip.landmarks[position], between, atol=1e-3)
        np.testing.assert_array_equal(clip.crops[position], align(images[position], clip.landmarks[position]))
        assert not clip.blendshapes[position].any()
    # The person was there: the landmarks between are nearer to the truth than those of either neighbour.
    truth = clip_faces(finder, talking).landmarks
    assert np.abs(clip.landmarks[3] - truth[3]).mean() < np.abs(truth[2] - truth[3]).mean()


@pytest.mark.parametrize(("hidden", "max_gap"), [((4, 5, 6), 2), ((4,), 0), ((0, 1), 2), ((8, 9), 2)])
def test_long_gaps_and_ends_repeat_the_nearest_face(
    finder: FaceFinder, talking: list[np.ndarray], hidden: tuple[int, ...], max_gap: int
) -> None:
    images = [covered(image) if position in hidden else image for position, image in enumerate(talking)]
    expected = assemble([find_face(finder, image) for image in images])
    assert np.flatnonzero(~expected.found).tolist() == list(hidden)
    assert same(clip_faces(finder, images, max_gap=max_gap), expected)


def test_there_is_no_bridge_to_another_place(finder: FaceFinder, talking: list[np.ndarray]) -> None:
    """A cut: the face after the gap lies elsewhere, so that a face between both would be of nobody."""
    elsewhere = np.roll(talking[2], 260, axis=1)
    images = [talking[0], covered(talking[1]), elsewhere]
    clip = clip_faces(finder, images)
    assert clip.found.tolist() == [True, False, True]
    np.testing.assert_array_equal(clip.landmarks[1], clip.landmarks[0])


@pytest.mark.parametrize(("name", "seen"), [("face_noface.mov", (0, 7)), ("noface_face.mov", (9, 16))])
def test_a_person_who_leaves_or_comes(
    finder: FaceFinder, sampled: Callable[[str, int], list[np.ndarray]], name: str, seen: tuple[int, int]
) -> None:
    """In the last frame of face_noface.mov MediaPipe sees a face in the empty room; it is not the person who left."""
    clip = clip_faces(finder, sampled(name, 16))
    assert np.flatnonzero(clip.found).tolist() == list(range(*seen))
    assert clip.crops[~clip.found].any()


class FixedBoxes:
    """Finds the same boxes in every image."""

    def __init__(self, *boxes: Box) -> None:
        self.boxes = list(boxes)

    def find_boxes(self, image: np.ndarray) -> list[Box]:
        return self.boxes


def test_boxes_of_another_detector_show_faces_that_mediapipe_overlooks(finder: FaceFinder, media: Path) -> None:
    """Of the five people of this photograph it finds the two largest; each of the others in its box."""
    image = decode_image((media / "multi_face.jpg").read_bytes())
    seen = [face_box(face.landmarks) for face in finder.find_faces(image)]
    boxes: list[Box] = [(315.0, 245.0, 97.0, 116.0), (214.0, 72.0, 93.0, 104.0), (437.0, 219.0, 80.0, 92.0)]
    for box in boxes:
        assert all(iou(box, other) == 0 for other in seen)
        clip = clip_faces(finder, [image], box_finder=FixedBoxes(box))
        assert clip.found.all()
        assert iou(face_box(clip.landmarks[0]), box) > 0.7


def test_boxes_of_another_detector_are_tracked(finder: FaceFinder, two_people: tuple[np.ndarray, np.ndarray]) -> None:
    alone, both = two_people
    man, woman = sorted((face_box(face.landmarks) for face in finder.find_faces(both)), key=lambda box: box[0])
    clip = clip_faces(finder, [both, alone, both.copy()], box_finder=FixedBoxes(woman, man))
    assert clip.found.all()
    assert (clip.landmarks[:, :, 0].mean(1) < 420).all()
    assert not clip_faces(finder, [both], box_finder=FixedBoxes()).found.any()
    # The image is cut to the manifest's box before the detector sees it; its boxes count from there.
    part = (460.0, 0.0, 512.0, 512.0)
    shifted = (woman[0] - 332, woman[1], woman[2], woman[3])
    clip = clip_faces(finder, [both], part, FixedBoxes(shifted))
    assert face_box(clip.landmarks[0]) == pytest.approx(woman, abs=8)


def test_video_mode_forgets_the_clip_before(media: Path, talking: list[np.ndarray]) -> None:
    other = [frame.image for frame in islice(iter_frames(media / "WolfgangLanger_Pexels.mp4"), 5)]
    with FaceTracker() as tracker:
        first = clip_faces(tracker, talking)
        clip_faces(tracker, other)
        assert same(clip_faces(tracker, talking), first)
        # Without `reset` the search goes on where the other clip's face was.
        clip_faces(tracker, other)
        assert first.found[0]
        assert tracker.find(talking[0]) is None


def test_video_mode_sees_the_same_face_trembling_less(finder: FaceFinder, media: Path) -> None:
    images = [frame.image for frame in iter_frames(media / "single_face.mp4")][:40]
    with FaceTracker(fps=30) as tracker:
        video = clip_faces(tracker, images)
    single = clip_faces(finder, images)
    assert video.found.all()
    assert trembling(video.landmarks) < 0.7 * trembling(single.landmarks)
    assert np.abs(video.landmarks - single.landmarks)[..., :2].mean() < 1.5


def test_what_makes_no_sense(finder: FaceFinder) -> None:
    with pytest.raises(ValueError, match="without frames"):
        clip_faces(finder, [])
    for fps in (0, -1, 2000, float("nan")):
        with pytest.raises(ValueError, match="frames per second"):
            FaceTracker(fps)
    tracker = FaceTracker()
    with pytest.raises(ValueError, match="follows the face by itself"):
        clip_faces(tracker, [np.zeros((9, 9, 3), np.uint8)], box_finder=FixedBoxes())
    tracker.close()
    for use in (tracker.reset, lambda: tracker.find(np.zeros((9, 9, 3), np.uint8))):
        with pytest.raises(ValueError, match="FaceTracker is closed"):
            use()
