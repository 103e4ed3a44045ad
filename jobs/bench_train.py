"""Print how fast the training loop is beside a bare PyTorch loop, and what a step costs by number of workers.

ray job submit --working-dir . -- python jobs/bench_train.py --output bench.json
"""

import typer

from ray_fer.cli import bench_train

if __name__ == "__main__":
    typer.run(bench_train)
