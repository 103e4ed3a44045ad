"""Turn a manifest into a clip store on a Ray cluster.

ray job submit --working-dir . -- python jobs/preprocess.py /data/manifest.parquet /data/clips
"""

import typer

from ray_fer.cli import preprocess

if __name__ == "__main__":
    typer.run(preprocess)
