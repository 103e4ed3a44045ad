"""Train EthnicMER leaving out one subject at a time; trials share GPUs by fractions, and what is finished is kept.

ray job submit --working-dir . -- python jobs/train_ethnicmer.py /data/micro-clips --output /data/loso \
    --set pretrained=/data/resnet18.pth --set gpus_per_worker=0.125
"""

import typer

from ray_fer.cli import crossval, with_defaults

if __name__ == "__main__":
    typer.run(with_defaults(crossval, recipe="ethnicmer", protocol="loso"))
