"""`POST /v1/predict`: a video or images in, windows out, as one JSON or line by line."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Annotated, Any, Literal, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Depends, File, Form, HTTPException, Query, Request, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from ray_fer.bundle import BundleError
from ray_fer.serving.backend import Backend, Behind
from ray_fer.serving.isolated import IsolatedDecoder
from ray_fer.serving.uploads import (
    Image,
    TooLargeError,
    Upload,
    answers,
    decode_limits,
    fetched,
    image_upload,
    kept,
    video_upload,
)
from ray_fer.streaming.frame_message import MAX_PTS_US
from ray_fer.streaming.messages import ModelInfo, Prediction
from ray_fer.streaming.windows import WindowConfig
from ray_fer.video.limits import MediaError

T = TypeVar("T")

router = APIRouter(prefix="/v1", tags=["prediction"])

_LOG = logging.getLogger(__name__)
_LINES = "application/x-ndjson"
_BUSY_S = 5


class BrokenItem(BaseModel):
    """A part of the request that could not be used."""

    item: str
    reason: str


class Predicted(BaseModel):
    """All windows of what was sent."""

    stream_id: str
    model: ModelInfo
    windows: list[Prediction]
    broken: list[BrokenItem] = Field(default_factory=list)


async def _held() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


Held = Annotated[AsyncExitStack, Depends(_held)]
"""What is let go of when the answer has been sent, or nobody waits for it any more."""
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "what was sent cannot be used; `detail` says why"},
    403: {"description": "the address is not of an allowed host"},
    404: {"description": "no such model"},
    413: {"description": "too large"},
    503: {"description": "too much to do, or the model does not answer; try again"},
}


@router.post(
    "/predict",
    response_model=Predicted,
    responses={
        200: {
            "description": "With `format=ndjson` a line for each window as soon as it is done, then one of type `end`",
            "content": {_LINES: {"example": '{"type": "window", "prediction": {}}\n{"type": "end", "windows": 1}\n'}},
        },
        **_REFUSALS,
    },
)
async def predict(
    request: Request,
    backend: Behind,
    stack: Held,
    model: Annotated[str | None, Query(description="name of a model (default: whoever answers streams)")] = None,
    size: Annotated[float | None, Query(ge=0.1, le=600, description="seconds that a window covers")] = None,
    stride: Annotated[float | None, Query(ge=0.05, le=600, description="seconds from one window to the next")] = None,
    format: Annotated[Literal["json", "ndjson"], Query(description="one JSON, or a line for each window")] = "json",
    video: Annotated[UploadFile | None, File(description="a video file: MP4, WebM, MOV, MKV, AVI")] = None,
    images: Annotated[list[UploadFile] | None, File(description="JPEGs or PNGs, in their order")] = None,
    url: Annotated[str | None, Form(max_length=2048, description="address of a video, of an allowed host")] = None,
    pts_us: Annotated[
        list[Annotated[int, Field(ge=0, le=MAX_PTS_US)]] | None, Form(description="time of each image in microseconds")
    ] = None,
    fps: Annotated[float, Form(ge=0.01, le=1000, description="images per second, where no times are given")] = 25.0,
) -> Any:
    """Predict the expression in every window of a video or of a series of images. Send one of video, images and url."""
    if sum(one is not None for one in (video, images or None, url)) != 1:
        raise HTTPException(400, "send one of: a file `video`, files `images`, a field `url`")
    stream_id = f"upload-{secrets.token_hex(4)}"
    served = backend.catalogue().choose(model, stream_id)
    config = _windows(backend, served.transform.frames, size, stride)
    sent = _images(images, pts_us, fps, backend.options.api.uploads.max_images) if images else []
    await stack.enter_async_context(_turn(request, backend))
    files = stack.enter_context(ExitStack())

    def opened() -> tuple[Upload, Iterator[Prediction]]:
        api = backend.options.api
        decoder = files.enter_context(IsolatedDecoder(decode_limits(api.uploads)))
        if sent:
            pictures = [Image(name, time_us, file.file.read()) for name, time_us, file in sent]
            upload = image_upload(decoder, pictures, stream_id, config, api.uploads.max_windows)
        else:
            path = kept(video.file, files) if video else fetched(url or "", api.allow_hosts, api.uploads, files)
            upload = video_upload(decoder, path, stream_id, config, api.uploads.max_windows)
        return upload, answers(upload, backend.stages(), served)

    upload, predictions = await _said(opened)
    # Before any answer is begun: what cannot be used at all has a status of its own.
    first = await _said(lambda: next(predictions, None))
    if format == "ndjson":
        return StreamingResponse(_lines(_items(predictions, first), upload), media_type=_LINES)
    return Predicted(
        stream_id=stream_id,
        model=served.info,
        windows=[prediction async for prediction in _items(predictions, first)],
        broken=[BrokenItem(item=one.item, reason=one.reason) for one in upload.broken],
    )


def _windows(backend: Backend, frames: int, size: float | None, stride: float | None) -> WindowConfig:
    usual = backend.options.stream.windows
    size = size or usual.size
    stride = stride or min(usual.stride, size)
    try:
        return WindowConfig(size=size, stride=stride, frames=frames)
    except ValueError:
        raise HTTPException(400, f"stride {stride:g} s exceeds size {size:g} s: frames would fall between") from None


def _images(
    images: Sequence[UploadFile], pts_us: Sequence[int] | None, fps: float, most: int
) -> list[tuple[str, int, UploadFile]]:
    if len(images) > most:
        raise HTTPException(413, f"{len(images)} images; send at most {most}, or a video")
    if pts_us and len(pts_us) != len(images):
        raise HTTPException(400, f"{len(images)} images and {len(pts_us)} times; give one `pts_us` for each image")
    times = pts_us or [round(number * 1e6 / fps) for number in range(len(images))]
    names = [image.filename or f"image {number}" for number, image in enumerate(images)]
    return list(zip(names, times, images, strict=True))


@asynccontextmanager
async def _turn(request: Request, backend: Backend) -> AsyncIterator[None]:
    """As many files are decoded at once as the limits say; others wait a while."""
    turns: asyncio.Semaphore = request.app.state.decoding
    try:
        await asyncio.wait_for(turns.acquire(), backend.options.api.uploads.wait_s)
    except TimeoutError:
        raise HTTPException(503, "too many files at once; try again", {"Retry-After": str(_BUSY_S)}) from None
    try:
        yield
    finally:
        turns.release()


async def _said(call: Callable[[], T]) -> T:
    """The result of a call on a thread; what it raises becomes the status that clients understand."""
    try:
        return await to_thread.run_sync(call)
    except MediaError as error:
        raise HTTPException(400, error.reason) from None
    except TooLargeError as error:
        raise HTTPException(413, str(error)) from None
    except PermissionError as error:
        raise HTTPException(403, str(error)) from None
    except (BundleError, RayError, RayServeException, TimeoutError) as error:
        _LOG.warning("a model did not answer: %s", error)
        raise HTTPException(503, "the model does not answer; try again", {"Retry-After": str(_BUSY_S)}) from None


async def _items(predictions: Iterator[Prediction], first: Prediction | None) -> AsyncIterator[Prediction]:
    following = first
    while following is not None:
        yield following
        following = await _said(lambda: next(predictions, None))


async def _lines(predictions: AsyncIterator[Prediction], upload: Upload) -> AsyncIterator[str]:
    count = 0
    try:
        async for prediction in predictions:
            count += 1
            yield f'{{"type": "window", "prediction": {prediction.model_dump_json()}}}\n'
    except HTTPException as error:
        yield json.dumps({"type": "error", "reason": error.detail}) + "\n"
        return
    for one in upload.broken:
        yield json.dumps({"type": "broken", "item": one.item, "reason": one.reason}) + "\n"
    yield json.dumps({"type": "end", "windows": count}) + "\n"
