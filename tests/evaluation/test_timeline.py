from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ray_fer.evaluation.timeline import COLOURS, plot_timeline
from ray_fer.labels import EXPRESSIONS
from ray_fer.video.images import decode_image
from tests.predictions import prediction


def share_of(image: np.ndarray, colour: str) -> float:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return float((np.abs(image.astype(int) - wanted).max(axis=2) < 12).mean())


def test_blocks_have_the_colours_of_their_expressions(tmp_path: Path) -> None:
    path = plot_timeline(
        [prediction(0, "Happy"), prediction(1, "Happy"), prediction(2, None)], tmp_path / "sub" / "t.png"
    )
    image = decode_image(path.read_bytes())
    # The legend shows every colour; the lane shows happy over two of its three seconds.
    assert share_of(image, COLOURS["Happy"]) > 5 * share_of(image, COLOURS["Sad"])
    assert set(COLOURS) == set(EXPRESSIONS)


def test_nothing_to_plot(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no prediction"):
        plot_timeline([], tmp_path / "t.png")
