"""Train ResNet50V2 on mixtures of datasets, and test it by group (papers' Tables 3, 5 and 6 of the EiLA study).

ray job submit --working-dir . -- python jobs/train_multidataset.py --sweep --store /data/stills \
    --set pretrained=/data/resnet50v2_notop.h5 --set gpus_per_worker=0.5 --output /data/sweep
"""

import typer

from ray_fer.cli import train, with_defaults

if __name__ == "__main__":
    typer.run(with_defaults(train, recipe="multidataset"))
