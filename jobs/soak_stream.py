"""Run the stream for a quarter of an hour on cameras that come and go, and fail if memory grows or a window is lost.

ray job submit --working-dir . -- python jobs/soak_stream.py --plot soak.png
"""

import typer

from ray_fer.cli import soak_stream

if __name__ == "__main__":
    typer.run(soak_stream)
