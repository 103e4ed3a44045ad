"""Batched rendering in torch: AU weights and head poses in, frames out, on a CPU or a GPU.

For each frame the AU fields of its face are summed, composed with the head's pose, and the photograph is sampled once
(`grid_sample`). There is no loop over frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch.nn import functional

from ray_fer.datasets.synthfer.conditions import Take, make_take
from ray_fer.datasets.synthfer.geometry import CANVAS
from ray_fer.datasets.synthfer.identities import Identity, Subject, build_identity
from ray_fer.datasets.synthfer.mouth import BOX, box_origin, mouth_layer, skin_tone
from ray_fer.datasets.synthfer.photos import load_photos
from ray_fer.datasets.synthfer.specs import ClipSpec
from ray_fer.labels import AU_NAMES, EXPRESSIONS, SYNTHETIC_CULTURES
from ray_fer.video.sampling import uniform_indices

_NODES = 80  # side of the grid on which positions are computed before they are spread over the frame
_HALF_STEPS = 2
_MIDDLE = (CANVAS - 1) / 2
_sample = partial(functional.grid_sample, mode="bilinear", align_corners=True)


def render(takes: Sequence[Take], frames: np.ndarray, device: str | torch.device = "cpu") -> torch.Tensor:
    """Frames of clips of one size -> uint8 [B,T,3,H,W]; `frames` int64 [B,T] says which of each clip.

    The channels lie innermost in memory, as encoders and detectors want them: [H,W,3] is a view without a copy.
    Raises ValueError when the clips differ in size.
    """
    sizes = {take.spec.size for take in takes}
    if len(sizes) != 1:
        raise ValueError(f"cannot render clips of different sizes in one batch: {sorted(sizes)}")
    ((width, height),) = sizes
    batch, count = frames.shape

    def pick(arrays: Iterable[np.ndarray]) -> torch.Tensor:
        """Chosen frames of per-frame arrays [N,...], joined to [B,T,...]."""
        chosen = np.stack([array[index] for array, index in zip(arrays, frames, strict=True)])
        return torch.from_numpy(chosen).to(device)

    def join(arrays: Iterable[np.ndarray]) -> torch.Tensor:
        every = list(arrays)
        return torch.from_numpy(np.stack(every) if len(every) > 1 else every[0][None]).to(device)

    weights, poses = pick(take.weights for take in takes), pick(take.poses for take in takes).flatten(0, 1)
    fields = join(take.identity.fields for take in takes)
    flow = torch.bmm(weights, fields.flatten(2)).view(batch * count, *fields.shape[2:]).permute(0, 3, 1, 2)
    at = _positions(poses, _axis(width, _NODES, device), _axis(height, _NODES, device))
    # A pixel shows what moved to it: the movement must be looked up where the pixel came from. Half steps converge
    # where skin is stretched, as below an eyelid that closes.
    came = at - _moved(flow, at)
    for _ in range(_HALF_STEPS):
        came = (came + at - _moved(flow, came)) / 2
    coarse = _unit(came).permute(0, 3, 1, 2).contiguous()  # without the copy the next line is six times slower
    grid = functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
    grid = grid.permute(0, 2, 3, 1)
    backgrounds = [take.background for take in takes if take.background is not None]
    layers = 4 if backgrounds else 3
    canvas = join(take.canvas[:layers] for take in takes)
    # The frames of a clip lie below one another in one tall picture, so that the canvas need not be repeated.
    image = _sample(canvas, grid.reshape(batch, count * height, width, 2), padding_mode="border")
    image = image.view(batch, layers, count, height, width).transpose(1, 2)
    if backgrounds:
        matte = image[:, :, 3:]
        image = _over(join(backgrounds)[:, None], image[:, :, :3] * matte, matte)
    _draw_mouths(image, takes, weights, poses)
    _draw_overlays(image, takes, poses.view(batch, count, 2, 3))
    light = _gradients(join(take.gradient for take in takes), height, width) * pick(take.drift for take in takes)
    grain = _grain(join(take.grain for take in takes), pick(take.offsets for take in takes), height, width)
    image = torch.addcmul(grain, image, light)
    pixels = image.clamp_(0, 255).permute(0, 1, 3, 4, 2).to(torch.uint8, memory_format=torch.contiguous_format)
    return pixels.permute(0, 1, 4, 2, 3)


def iter_batches(
    specs: Sequence[ClipSpec],
    batch_size: int,
    device: str | torch.device = "cpu",
    frames: int | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Render clips without writing them: (frames uint8 [B,T,3,H,W], AUs [B,T,20], labels [B], cultures [B]).

    All on `device`. `frames` of each clip are chosen uniformly; without it all are there, and the clips of a batch
    must be equally long. AUs are the mean of both sides; labels index EXPRESSIONS (also for `micro`, by emotion),
    -1 for a stream of several; cultures index SYNTHETIC_CULTURES. Identities (7 MB each) are made
    once per run through `specs` and kept until its end.
    Raises ValueError for a batch size below one or clips of different length or size.
    """
    if batch_size < 1:
        raise ValueError(f"cannot render batches of {batch_size} clips; ask for at least 1")
    photos = load_photos([name for spec in specs for name in spec.subject.photos])
    identities: dict[Subject, Identity] = {}
    rest = iter(specs)
    while chosen := list(islice(rest, batch_size)):
        for spec in chosen:
            if spec.subject not in identities:
                identities[spec.subject] = build_identity(spec.subject, photos, spec.polarity is not None)
        yield render_batch(chosen, identities, device, frames)


def render_batch(
    specs: Sequence[ClipSpec],
    identities: Mapping[Subject, Identity],
    device: str | torch.device = "cpu",
    frames: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """One batch as `iter_batches` yields it, of identities that are already there (by subject)."""
    takes = [make_take(spec, identities[spec.subject]) for spec in specs]
    if frames is None and len({spec.frames for spec in specs}) != 1:
        raise ValueError("the clips of a batch differ in length; say how many frames of each to take")
    index = np.stack([uniform_indices(spec.frames, frames or spec.frames) for spec in specs])
    aus = np.stack([take.trajectory.mean[chosen] for take, chosen in zip(takes, index, strict=True)])
    labels = [EXPRESSIONS.index(spec.expressions[0]) if len(spec.expressions) == 1 else -1 for spec in specs]
    cultures = [SYNTHETIC_CULTURES.index(spec.culture) for spec in specs]
    return (
        render(takes, index, device), torch.from_numpy(aus).to(device),
        torch.tensor(labels, device=device), torch.tensor(cultures, device=device),
    )  # fmt: skip


def _axis(length: int, nodes: int, device: str | torch.device) -> torch.Tensor:
    return torch.linspace(0, length - 1, nodes, device=device)


def _positions(poses: torch.Tensor, xs: torch.Tensor, ys: torch.Tensor) -> torch.Tensor:
    """Frame positions (xs, ys) in canvas pixels, [F,len(ys),len(xs),2], for poses [F,2,3]."""
    across = poses[:, None, None, :, 0] * xs[:, None]
    down = poses[:, None, None, :, 1] * ys[:, None, None]
    return across + down + poses[:, None, None, :, 2]


def _unit(positions: torch.Tensor) -> torch.Tensor:
    """Canvas pixels -> the -1..1 of `grid_sample`."""
    return positions / _MIDDLE - 1


def _moved(flow: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Flow [F,2,N,N] over the canvas read at canvas pixels [F,h,w,2]."""
    return _sample(flow, _unit(at), padding_mode="zeros").permute(0, 2, 3, 1)


def _over(below: torch.Tensor, colour: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Premultiplied `colour` with `alpha` laid over `below`."""
    return below * (1 - alpha) + colour


def _draw_mouths(image: torch.Tensor, takes: Sequence[Take], weights: torch.Tensor, poses: torch.Tensor) -> None:
    """Draw the inside of open mouths into `image` [B,T,3,H,W], in the part of the frame where mouths are."""
    device, (batch, count) = image.device, weights.shape[:2]
    rest = torch.from_numpy(np.stack([take.identity.lips for take in takes])).to(device)
    moves = torch.from_numpy(np.stack([take.identity.lip_moves for take in takes])).to(device)
    lips = rest[:, None] + torch.bmm(weights, moves.flatten(2)).view(batch, count, -1, 2)
    origins = np.stack([box_origin(take.identity.lips) for take in takes])
    skin = torch.from_numpy(np.stack([skin_tone(take.canvas, take.identity.lips) for take in takes])).to(device)

    def spread(values: torch.Tensor) -> torch.Tensor:
        """[B,...] repeated for the T frames of each clip, [F,...]."""
        return values.repeat_interleave(count, 0)

    aus = weights[..., : 2 * len(AU_NAMES)].view(batch, count, 2, len(AU_NAMES)).mean(2).flatten(0, 1)
    corner = spread(torch.from_numpy(origins).to(device))
    layer = mouth_layer(lips.flatten(0, 1), spread(rest), corner, aus, spread(skin))
    if not bool(layer[:, 3].any()):
        return
    left, top, right, bottom = _window(takes, origins, image.shape[4], image.shape[3])
    xs = torch.arange(left, right, device=device, dtype=torch.float32)
    ys = torch.arange(top, bottom, device=device, dtype=torch.float32)
    where = (_positions(poses, xs, ys) - corner[:, None, None]) * (2 / BOX) - 1
    drawn = _sample(layer, where, padding_mode="zeros").view(batch, count, 4, bottom - top, right - left)
    part = image[..., top:bottom, left:right]
    part *= 1 - drawn[:, :, 3:]
    part += drawn[:, :, :3]


def _window(takes: Sequence[Take], origins: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """Part of the frame (left, top, right, bottom) that the mouths' boxes of all takes and frames stay in."""
    corners = np.array([[0, 0], [BOX, 0], [0, BOX], [BOX, BOX]])
    points = []
    for take, origin in zip(takes, origins, strict=True):
        linear, shift = take.poses[:, :, :2], take.poses[:, :, 2]
        points.append(np.linalg.solve(linear, (corners + origin - shift[:, None]).transpose(0, 2, 1)))
    low = np.min([p.min((0, 2)) for p in points], 0).astype(int)
    high = np.max([p.max((0, 2)) for p in points], 0).astype(int) + 2
    return max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)


def _draw_overlays(image: torch.Tensor, takes: Sequence[Take], poses: torch.Tensor) -> None:
    """Draw what hides a part of the face into image [B,T,3,H,W]: it moves with the head and not with the muscles."""
    height, width = image.shape[-2:]
    xs = torch.arange(width, device=image.device, dtype=torch.float32)
    ys = torch.arange(height, device=image.device, dtype=torch.float32)
    for number, take in enumerate(takes):
        if take.overlay is None:
            continue
        layer = torch.from_numpy(take.overlay).to(image.device).expand(image.shape[1], -1, -1, -1)
        drawn = _sample(layer, _unit(_positions(poses[number], xs, ys)), padding_mode="zeros")
        image[number] = _over(image[number], drawn[:, :3], drawn[:, 3:])


def _gradients(slopes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Change of light over the frame, [B,1,1,H,W], for slopes [B,2]."""
    xs = torch.linspace(-1, 1, width, device=slopes.device)
    ys = torch.linspace(-1, 1, height, device=slopes.device)
    return (1 + slopes[:, 0, None, None] * xs + slopes[:, 1, None, None] * ys[:, None])[:, None, None]


def _grain(grain: torch.Tensor, offsets: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Sensor noise [B,T,1,H,W]: windows of each clip's noise picture [B,GRAIN,GRAIN] at `offsets` [B,T,2]."""
    windows = grain.unfold(1, height, 1).unfold(2, width, 1)
    clips = torch.arange(len(grain), device=grain.device)[:, None]
    return windows[clips, offsets[..., 0], offsets[..., 1]][:, :, None]
