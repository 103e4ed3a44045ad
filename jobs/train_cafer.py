"""Train CA-FER on a Ray cluster and write a bundle.

ray job submit --working-dir . -- python jobs/train_cafer.py --synthfer demo --output /data/cafer-synthfer
"""

import typer

from ray_fer.cli import train

if __name__ == "__main__":
    typer.run(train)
