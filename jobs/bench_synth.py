"""Print how many SynthFER frames are rendered per second, on the CPU and on a GPU where there is one.

ray job submit --working-dir . -- python jobs/bench_synth.py --batch-size 16
"""

import typer

from ray_fer.cli import bench_synth

if __name__ == "__main__":
    typer.run(bench_synth)
