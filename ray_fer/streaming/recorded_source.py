"""What recorded streams a file or folder holds: videos, and folders of images, which are sent as they are stored."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ray_fer.streaming.encoding import Encoding
from ray_fer.streaming.frame_message import FrameMessage
from ray_fer.streaming.source import segment_messages
from ray_fer.streaming.timetable import RecordedStream
from ray_fer.video.decode import Frame, iter_frames
from ray_fer.video.frame_folder import VIDEO_SUFFIXES, frame_files, is_frame
from ray_fer.video.images import decode_image
from ray_fer.video.limits import DEFAULT_LIMITS, MediaError

# These are the sender's own files, and recordings of a whole day are ordinary.
_LIMITS = replace(DEFAULT_LIMITS, max_bytes=256 * 1024**3, max_seconds=25 * 3600.0, max_frames=25 * 3600 * 120)
_PNG = b"\x89PNG"


def recorded_streams(path: Path, encoding: Encoding, fps: float) -> tuple[list[RecordedStream], int]:
    """The streams of a file or folder, and how many files of the folder are none.

    A file is one stream, with its name as id. In a folder and all folders below it, every video is a stream, and the
    images of each folder are one, `fps` of them a second; the path below the folder is the id. Ids have no suffix.
    Raises FileNotFoundError when there is nothing.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [_video(path.stem, path, encoding)], 0
    streams: list[RecordedStream] = []
    passed_over = 0
    for here, folders, names in os.walk(path):
        folders.sort()
        folder = Path(here)
        files = [folder / name for name in sorted(names) if not name.startswith(".")]
        videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
        images = sum(is_frame(file) for file in files)
        passed_over += len(files) - len(videos) - images
        if images:
            name = path.resolve().name if folder == path else folder.relative_to(path).as_posix()
            streams.append(_images(name, folder, encoding, fps))
        streams += [_video(file.relative_to(path).with_suffix("").as_posix(), file, encoding) for file in videos]
    if not streams:
        raise FileNotFoundError(f"{path}: no video ({' '.join(VIDEO_SUFFIXES)}) and no image in this folder")
    return streams, passed_over


def _video(stream_id: str, path: Path, encoding: Encoding) -> RecordedStream:
    if encoding.segment_seconds is not None:
        read = functools.partial(segment_messages, path, stream_id, encoding.segment_seconds, limits=_LIMITS)
        return RecordedStream(stream_id, read)
    return RecordedStream(stream_id, lambda: encoding.messages(stream_id, iter_frames(path, _LIMITS)))


def _images(stream_id: str, folder: Path, encoding: Encoding, fps: float) -> RecordedStream:
    if encoding.segment_seconds is not None:
        return RecordedStream(stream_id, lambda: encoding.messages(stream_id, _pictures(folder, fps)))
    return RecordedStream(stream_id, functools.partial(_stored_images, stream_id, folder, fps))


def _stored_images(stream_id: str, folder: Path, fps: float) -> Iterator[FrameMessage]:
    """Image files as they are. What is no image is sent too, and ends among the receiver's dead letters."""
    for seq, file in enumerate(frame_files(folder)):
        data = _read(file)
        content_type = "image/png" if data.startswith(_PNG) else "image/jpeg"
        yield FrameMessage(stream_id, round(seq * 1e6 / fps), seq, content_type, data)


def _pictures(folder: Path, fps: float) -> Iterator[Frame]:
    for seq, file in enumerate(frame_files(folder)):
        yield Frame(seq, round(seq * 1e6 / fps), decode_image(_read(file), str(file)))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise MediaError(str(file), f"cannot be read: {error.strerror}") from error
