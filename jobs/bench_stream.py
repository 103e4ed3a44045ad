"""Find how many live streams this machine answers through Kafka and Ray Serve, beside plain loops over the same frames.

ray job submit --working-dir . -- python jobs/bench_stream.py --output bench.json
"""

import typer

from ray_fer.cli import bench_stream

if __name__ == "__main__":
    typer.run(bench_stream)
