"""SynthFER: videos of real photographs moved by known Action Units, a benchmark whose truth is planted.

A clip is planned (`plan` -> `ClipSpec`), its AUs are drawn (`trajectory`, after the groups' `rules`), its face is
made (`photos` -> `identities`), its pose, light and background are drawn (`conditions`, `scene`), and it is rendered
in batches (`renderer`), into files (`write`, with `truth` beside them) or straight into a training loop
(`iter_batches`). `check` reads the planted AUs back with MediaPipe, `preview` draws contact sheets.

The culture groups A to D stand for nobody: their display rules are invented, so that a culture-aware model can be
compared with one that is not, by a known amount.
"""

from ray_fer.datasets.synthfer.photos import media_folder
from ray_fer.datasets.synthfer.plan import SynthOptions, plan, plan_streams, split_counts
from ray_fer.datasets.synthfer.renderer import iter_batches
from ray_fer.datasets.synthfer.specs import ClipSpec
from ray_fer.datasets.synthfer.write import generate

__all__ = [
    "ClipSpec",
    "SynthOptions",
    "generate",
    "iter_batches",
    "media_folder",
    "plan",
    "plan_streams",
    "split_counts",
]
