"""What models read beside faces, as training changes it: motion keeps its meaning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as vision

from ray_fer.evaluation.inputs import prepared, standardised
from ray_fer.models.transform import Augment, TransformConfig, draw
from ray_fer.video.flow import optical_strain
from ray_fer.video.images import encode_jpeg

CONFIG = TransformConfig(frames=1, size=224, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
STILL = Augment(flip=False, rotate=0, scale=0, aspect=0, shift=0, colour=0, gamma=0, grey=0)


def motion(seed: int = 0) -> np.ndarray:
    """Smooth motion of a face, [224,224,2]."""
    coarse = torch.randn(1, 2, 9, 9, generator=torch.Generator().manual_seed(seed))
    return vision.resize(coarse, [224, 224], antialias=True)[0].permute(1, 2, 0).numpy()


def stored(flow: np.ndarray) -> bytes:
    image = np.concatenate([flow.transpose(2, 0, 1), optical_strain(flow)[None]])
    return image.astype(np.float16).tobytes()


def read(flow: np.ndarray) -> torch.Tensor:
    """[1,3,224,224] as a reader keeps it."""
    return prepared("flow", stored(flow), CONFIG)[None]


def test_a_mirrored_flow_is_that_of_the_mirrored_face() -> None:
    flow = motion()
    mirrored = flow[:, ::-1] * np.array([-1, 1])
    drawn = draw(1, CONFIG, STILL)
    drawn.matrix[:, 0, 0] = -1
    ours = standardised("flow", read(flow), CONFIG, drawn)
    theirs = standardised("flow", read(np.ascontiguousarray(mirrored)), CONFIG)
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)
    assert (theirs[:, 0] - standardised("flow", read(flow), CONFIG).flip(3)[:, 0]).abs().max() > 0.5, "another sign"


def test_a_shifted_flow_lies_elsewhere_and_is_the_same_motion() -> None:
    kept = read(motion(1))
    drawn = draw(1, CONFIG, STILL)
    drawn.matrix[:, 0, 2] = 2 * 20 / 224  # what was 20 pixels to the right
    ours = standardised("flow", kept, CONFIG, drawn)
    torch.testing.assert_close(ours[..., :-20], kept.float()[..., 20:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["flow", "apex"])
def test_each_clip_is_changed_in_its_own_way_and_nothing_drawn_is_nothing_changed(name: str) -> None:
    one = stored(motion(2)) if name == "flow" else encode_jpeg((40 * motion(2)[..., [0, 1, 0]] + 120).astype(np.uint8))
    kept = prepared(name, one, CONFIG)[None].expand(2, *[-1] * (3 if name == "flow" else 4)).contiguous()
    plain = standardised(name, kept, CONFIG)
    torch.testing.assert_close(standardised(name, kept, CONFIG, draw(2, CONFIG, STILL)), plain, atol=1e-5, rtol=0)
    moved = standardised(name, kept, CONFIG, draw(2, CONFIG, Augment(rotate=0), torch.Generator().manual_seed(1)))
    assert moved.shape == plain.shape == (2, 3, 224, 224)
    assert (moved[0] - moved[1]).abs().mean() > 0.02
    assert (moved - plain).abs().mean() > 0.02
