"""Print how fast clips are preprocessed, beside a plain script and beside what the work must cost; and the memory.

ray job submit --working-dir . -- python jobs/bench_preprocess.py --output bench.json
"""

import typer

from ray_fer.cli import bench_preprocess

if __name__ == "__main__":
    typer.run(bench_preprocess)
