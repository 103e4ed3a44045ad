"""The motion of a clip as one image: optical flow and strain from onset to apex, and the apex frame itself."""

from __future__ import annotations

import json

import numpy as np

from ray_fer.preprocessing.shards import Row
from ray_fer.video.apex import estimate_apex
from ray_fer.video.clip_frames import clip_frames
from ray_fer.video.face_clip import FaceFrame, find_face
from ray_fer.video.faces import FaceFinder, align, align_all
from ray_fer.video.flow import FlowMethod, flow_image
from ray_fer.video.images import encode_jpeg
from ray_fer.video.limits import MediaError
from ray_fer.video.sampling import Sampling

_CANDIDATES = 32


def motion_columns(row: Row, finder: FaceFinder, method: FlowMethod, jpeg_quality: int) -> Row:
    """`flow` (u, v and strain, float16 [3,224,224] as bytes, pixels of the crop), `apex_frame` (JPEG) and their frames.

    Both frames are cropped by the landmarks of the onset frame, so that no alignment hides or adds motion. An apex
    that the dataset does not give (or only guesses: `apex_estimated`) is looked for between onset and offset. Raises
    MediaError when the onset frame shows no face or the apex is not after it.
    """
    onset = row["onset"] if row["onset"] is not None else row["start_frame"] or 0
    first = clip_frames(row | {"start_frame": onset, "end_frame": onset + 1}, Sampling(frames=1))[0]
    box = None if row["bbox"] is None else tuple(row["bbox"])
    face = find_face(finder, first.image, box)
    if face is None:
        raise MediaError(row["path"], f"no face in the onset frame {onset}, so there is no optical flow")
    guessed = bool(json.loads(row["annotations"] or "{}").get("apex_estimated"))
    if row["apex"] is None or guessed:
        last = row["offset"] + 1 if row["offset"] is not None else row["end_frame"]
        apex, _ = _look_for_apex(row, face, onset + 1, last)
        # Long clips were looked at in steps: look again at every frame between the neighbours of the best.
        step = _CANDIDATES // 4
        end = apex + step if last is None else min(apex + step, last)
        apex, crop = _look_for_apex(row, face, max(onset + 1, apex - step), end)
    else:
        apex = row["apex"]
        frame = clip_frames(row | {"start_frame": apex, "end_frame": apex + 1}, Sampling(frames=1))[0]
        crop = align(frame.image, face.landmarks)
    if apex <= onset:
        raise MediaError(row["path"], f"the apex {apex} is not after the onset {onset}")
    flow = flow_image(face.crop, crop, method)
    return {
        "flow": flow.astype(np.float16).tobytes(),
        "apex_frame": encode_jpeg(crop, jpeg_quality),
        "onset": onset,
        "apex": apex,
    }


def _look_for_apex(row: Row, face: FaceFrame, start: int, end: int | None) -> tuple[int, np.ndarray]:
    """The frame from `start` up to `end` that moved most from the onset `face`, and its crop, among at most 32."""
    frames = clip_frames(row | {"start_frame": start, "end_frame": end}, Sampling(frames=_CANDIDATES))
    crops = align_all([frame.image for frame in frames], face.landmarks)
    chosen = max(estimate_apex([face.crop, *crops]) - 1, 0)
    return frames[chosen].index, crops[chosen]
