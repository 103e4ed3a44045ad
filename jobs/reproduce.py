"""Make a table of the papers again on a Ray cluster: every system in it is cross-validated.

ray job submit --working-dir . -- python jobs/reproduce.py cafer-table-4 --data /data/dfew-clips --aus /data/dfew-aus \
    --output /data/repro --set gpus_per_worker=1
"""

import typer

from ray_fer.cli import reproduce

if __name__ == "__main__":
    typer.run(reproduce)
