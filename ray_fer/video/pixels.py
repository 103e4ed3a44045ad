"""Decoded frames as the picture a viewer sees: uint8 RGB, upright, progressive, with square pixels.

* Colours: matrix and range as the stream tags them; BT.601 limited range where it does not. 10- and 12-bit samples are
  scaled to 8 bits, grey is repeated over the channels, an alpha channel is dropped (the colours under it are kept as
  they are stored, for images too: faces are not see-through).
* Interlaced frames show two instants in alternating lines; combs hurt landmarks. The upper field is kept and the lines
  between are interpolated. A filter that looks at neighbouring frames would sharpen still parts, and would make a
  frame's pixels depend on how it was reached.
* Non-square pixels (DV, DVD, anamorphic phones) are stretched to square ones, so that faces keep their proportions.
* The display matrix (rotation in steps of 90 degrees, mirroring) is applied last.
"""

from __future__ import annotations

from fractions import Fraction

import av.error
import av.filter
import cv2
import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

from ray_fer.video.container import check_pixels, reason
from ray_fer.video.limits import DecodeLimits, MediaError

_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED
_SENSIBLE_ASPECT = (Fraction(1, 4), Fraction(4))


def to_rgb(frame: VideoFrame, pixel_aspect: Fraction | None, name: str, limits: DecodeLimits) -> np.ndarray:
    """uint8 [H,W,3] of a decoded frame; `pixel_aspect` is width over height of one stored pixel.

    Aspects beyond 1:4 and 4:1 are taken for mistakes and ignored. Raises MediaError when the picture would exceed
    `max_pixels`.
    """
    check_pixels(name, frame.width, frame.height, limits)
    try:
        if frame.interlaced_frame and frame.height > 1:
            image = _interpolate(_rgb(_upper_field(frame)), frame.height)
        else:
            image = _rgb(frame)
    except av.error.FFmpegError as error:
        raise MediaError(name, f"its pixels ({frame.format.name}) cannot be converted: {reason(error)}") from error
    width, height = square_size(frame.width, frame.height, pixel_aspect)
    if (width, height) != (frame.width, frame.height):
        check_pixels(name, width, height, limits)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    if Type.DISPLAYMATRIX in [data.type for data in frame.side_data]:
        image = turned(image, np.frombuffer(bytes(frame.side_data[Type.DISPLAYMATRIX]), np.int32))
    return np.ascontiguousarray(image)


def square_size(width: int, height: int, pixel_aspect: Fraction | None) -> tuple[int, int]:
    """(width, height) with square pixels; the side that has too few pixels grows, so no detail is lost."""
    if not pixel_aspect or not _SENSIBLE_ASPECT[0] <= pixel_aspect <= _SENSIBLE_ASPECT[1]:
        return width, height
    if pixel_aspect >= 1:
        return round(width * pixel_aspect), height
    return width, round(height / pixel_aspect)


def turned(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply the nearest quarter turn and mirroring of a display matrix, int32 [9], to [H,W,3].

    In the matrix of ISO 14496-12, a point (x, y) moves to (a x + c y, b x + d y) with a, b, c, d at 0, 1, 3, 4.
    """
    a, b, c, d = (int(matrix[place]) for place in (0, 1, 3, 4))
    across, down = a, d
    if abs(b) > abs(a):
        image = image.transpose(1, 0, 2)
        across, down = c, b
    return image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def _rgb(frame: VideoFrame) -> np.ndarray:
    try:
        return frame.reformat(format="rgb24", threads=1).to_ndarray()
    except av.error.OSError:  # a matrix that swscale does not know, such as "reserved": the same as none
        frame.colorspace = _UNSPECIFIED
        return frame.reformat(format="rgb24", threads=1).to_ndarray()


def _upper_field(frame: VideoFrame) -> VideoFrame:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    graph.link_nodes(source, graph.add("field", "type=top"), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def _interpolate(field: np.ndarray, height: int) -> np.ndarray:
    """[ceil(height/2),W,3] lines 0, 2, 4, ... -> [height,W,3]; the lines between are the means of their neighbours."""
    image = np.empty((height, *field.shape[1:]), np.uint8)
    image[::2] = field
    between = height // 2
    below = np.minimum(np.arange(1, between + 1), len(field) - 1)
    image[1::2] = (field[:between].astype(np.uint16) + field[below] + 1) // 2
    return image
