"""Find how fast the HTTP API answers videos and live cameras, beside plain loops over the same requests.

ray job submit --working-dir . -- python jobs/bench_serve.py --output serve.json   # about ten minutes
"""

import typer

from ray_fer.cli import bench_serve

if __name__ == "__main__":
    typer.run(bench_serve)
