"""What an Action Unit extractor is, and how to make one by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ray_fer.labels import index_of


class ActionUnitExtractor(Protocol):
    """Rows of a clip store -> Action Units of their frames. One process owns one extractor; it is not thread-safe."""

    name: str
    """What is recorded in the AU table and in priors: the method and what it measured with."""
    columns: tuple[str, ...]
    """Columns of the clip store that `extract` reads beside `clip_id` and `face_found`."""
    active: float
    """Intensity from which one of its AUs counts as active (see `statistics`)."""

    def extract(self, clips: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """AU intensities float32 [T,20] in 0..1 of each clip, in the order of `labels.AU_NAMES`.

        NaN where nothing was measured: a frame without a face, or an AU that this extractor does not know. T is the
        number of frames of the row, whatever it is; memory beside the result does not grow with it. Raises ValueError
        that names the clip when a row does not hold what is needed.
        """

    def close(self) -> None:
        """Release models and files; safe to call twice."""


_CLASSES = {
    "blendshape": ("blendshapes", "BlendshapeExtractor"),
    "pyfeat": ("pyfeat", "PyFeatExtractor"),
    "openface_csv": ("openface_csv", "TableExtractor"),
}

EXTRACTORS = tuple(_CLASSES)
"""Names that `create_extractor` knows."""


def create_extractor(name: str, **options: Any) -> ActionUnitExtractor:
    """Make the extractor `name`; its options are the arguments of its class.

    Raises ValueError for an unknown name or option, and what the extractor raises itself (a missing file, say).
    """
    index_of(name, EXTRACTORS, "AU extractor")
    module, cls = _CLASSES[name]
    # Imported late: py-feat and torch take seconds, and only one of the extractors needs them.
    maker = getattr(importlib.import_module(f"ray_fer.action_units.{module}"), cls)
    signature = inspect.signature(maker)
    try:
        signature.bind(**options)
    except TypeError as error:
        known = ", ".join(signature.parameters)
        raise ValueError(f"extractor {name!r}: {error}; its options are {known}") from error
    extractor: ActionUnitExtractor = maker(**options)
    return extractor
