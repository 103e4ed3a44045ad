"""Turn a clip store into an AU table (and culture priors) on a Ray cluster.

ray job submit --working-dir . -- python jobs/extract_aus.py /data/clips /data/aus --priors /data/priors.json
"""

import typer

from ray_fer.cli import aus

if __name__ == "__main__":
    typer.run(aus)
