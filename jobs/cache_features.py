"""Write what a frozen encoder makes of all clips of a store, once for all training runs, on a Ray cluster.

ray job submit --working-dir . -- python jobs/cache_features.py /data/clips /data/features --recipe ous
"""

import typer

from ray_fer.cli import cache_features

if __name__ == "__main__":
    typer.run(cache_features)
