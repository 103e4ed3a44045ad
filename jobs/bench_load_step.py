"""Watch stream workers come and go with the number of live streams, on a Kafka and a Ray of its own.

ray job submit --working-dir . -- python jobs/bench_load_step.py --output step.json --plot step.png   # five minutes
"""

import typer

from ray_fer.cli import bench_load_step

if __name__ == "__main__":
    typer.run(bench_load_step)
