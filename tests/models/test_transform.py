from __future__ import annotations

import torch
from torchvision.transforms.v2 import functional as vision

from ray_fer.models.transform import IMAGENET_MEAN, IMAGENET_STD, Augment, TransformConfig, draw, normalise, prepare


def crops(seed: int = 0) -> torch.Tensor:
    """Smooth random images, so that resampling methods may be compared."""
    coarse = torch.rand(4, 3, 14, 14, generator=torch.Generator().manual_seed(seed))
    fine = vision.resize(coarse, [224, 224], antialias=True)
    return (fine.permute(0, 2, 3, 1) * 255).to(torch.uint8)


def test_the_papers_transform_is_imagenet_normalisation() -> None:
    frames = crops()
    config = TransformConfig()
    ours = normalise(prepare(frames, config)[None], config)[0]
    theirs = vision.normalize(frames.permute(0, 3, 1, 2).float() / 255, list(IMAGENET_MEAN), list(IMAGENET_STD))
    torch.testing.assert_close(ours, theirs)


def test_crop_and_resize_agree_with_torchvision() -> None:
    frames = crops(1)
    config = TransformConfig(left=0.25, top=0.125, side=0.5, canvas=56, size=56)
    theirs = vision.resized_crop(frames.permute(0, 3, 1, 2), 28, 56, 112, 112, [56, 56], antialias=True)
    assert (prepare(frames, config).int() - theirs.int()).abs().max() <= 1


def test_zoom_is_a_central_crop() -> None:
    frames = crops(2)
    config = TransformConfig(canvas=224, zoom=0.5, size=112)
    ours = normalise(prepare(frames, config)[None], config)[0]
    central = vision.normalize(
        vision.center_crop(frames.permute(0, 3, 1, 2).float() / 255, [112, 112]),
        list(IMAGENET_MEAN),
        list(IMAGENET_STD),
    )
    torch.testing.assert_close(ours, central, atol=1e-4, rtol=1e-4)


def test_augmentation_is_the_same_for_all_frames_of_a_clip_and_differs_between_clips() -> None:
    config = TransformConfig(canvas=64, size=48, zoom=0.9)
    still = prepare(crops(3)[:1].expand(4, -1, -1, -1), config)
    drawn = draw(2, config, Augment(), torch.Generator().manual_seed(0))
    clips = normalise(torch.stack([still, still]), config, drawn)
    torch.testing.assert_close(clips[0, 0], clips[0, 3])
    assert not torch.allclose(clips[0, 0], clips[1, 0], atol=0.05)


def test_augmentation_of_strength_zero_changes_nothing() -> None:
    config = TransformConfig(canvas=64, size=48, zoom=0.9)
    clip = prepare(crops(4), config)[None]
    off = Augment(flip=False, rotate=0, scale=0, aspect=0, shift=0, colour=0, gamma=0, grey=0)
    drawn = draw(1, config, off)
    torch.testing.assert_close(normalise(clip, config, drawn), normalise(clip, config), atol=1e-3, rtol=1e-3)


def test_a_share_of_a_draw_changes_a_clip_as_the_whole_draw_does() -> None:
    config = TransformConfig(canvas=64, size=48, zoom=0.9)
    clips = torch.stack([prepare(crops(seed), config) for seed in range(5)])
    drawn = draw(5, config, Augment(), torch.Generator().manual_seed(1))
    whole = normalise(clips, config, drawn)
    share = torch.tensor([3, 1])
    torch.testing.assert_close(normalise(clips[share], config, drawn.rows(share)), whole[share])


def test_differences_are_to_the_first_frame_and_come_after_the_frames() -> None:
    config = TransformConfig(canvas=64, size=48, zoom=0.9)
    clips = prepare(crops(5), config)[None]
    plain = normalise(clips, config)
    both = normalise(clips, config.model_copy(update={"difference": True}))
    assert both.shape == (1, 4, 6, 48, 48)
    torch.testing.assert_close(both[:, :, :3], plain)
    torch.testing.assert_close(both[:, 2, 3:], plain[:, 2] - plain[:, 0])
    assert (both[:, 0, 3:] == 0).all()


def still_clip(config: TransformConfig) -> torch.Tensor:
    """[1,4,3,canvas,canvas], four times the same frame."""
    return prepare(crops(5)[:1].expand(4, -1, -1, -1), config)[None]


def test_jitter_is_torchvisions_brightness_contrast_and_saturation() -> None:
    config, only = (
        TransformConfig(canvas=64, size=64),
        Augment(flip=False, rotate=0, scale=0, aspect=0, shift=0, colour=0, gamma=0, grey=0, jitter=0.4),
    )
    for seed in range(5):
        drawn = draw(1, config, only, torch.Generator().manual_seed(seed))
        assert ((drawn.jitter >= 0.6) & (drawn.jitter <= 1.4)).all()
        brightness, contrast, saturation = drawn.jitter[0].tolist()
        pixels = still_clip(config)[0].float() / 255
        for adjust, factor in (
            (vision.adjust_brightness, brightness),
            (vision.adjust_contrast, contrast),
            (vision.adjust_saturation, saturation),
        ):
            pixels = adjust(pixels, factor)
        expected = vision.normalize(pixels, list(IMAGENET_MEAN), list(IMAGENET_STD))
        torch.testing.assert_close(normalise(still_clip(config), config, drawn)[0], expected, atol=2e-3, rtol=1e-3)


def test_a_random_crop_is_a_part_of_the_canvas_of_full_size() -> None:
    config = TransformConfig(canvas=64, zoom=0.75, size=48)
    only = Augment(flip=False, rotate=0, scale=0, aspect=0, shift=0, colour=0, gamma=0, grey=0, crop=True)
    drawn = draw(200, config, only, torch.Generator().manual_seed(0))
    corners = (drawn.matrix[:, :, 2] + 1 - 0.75) * 32  # pixels from the canvas's left and top edge
    assert corners.min() >= -1e-4
    assert corners.max() <= 16 + 1e-4
    assert corners.min() < 1
    assert corners.max() > 15, "all of the canvas is seen now and then"
    torch.testing.assert_close(drawn.matrix[:, 0, 0].abs(), torch.full((200,), 0.75))
