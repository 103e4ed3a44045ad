"""Cross-validate a recipe on a Ray cluster: folds x seeds side by side.

ray job submit --working-dir . -- python jobs/crossval.py /data/dfew-clips --output /data/runs/dfew --recipe cafer \
    --aus /data/dfew-aus --set gpus_per_worker=1
"""

import typer

from ray_fer.cli import crossval

if __name__ == "__main__":
    typer.run(crossval)
