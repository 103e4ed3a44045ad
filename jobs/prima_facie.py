"""EthnicMER's prima facie study (Table IV), over many draws of subjects on a Ray cluster.

ray job submit --working-dir . -- python jobs/prima_facie.py /data/micro-clips --pretrained resnet18-f37072fd.pth \
    --output /data/study
"""

import typer

from ray_fer.cli import prima_facie

if __name__ == "__main__":
    typer.run(prima_facie)
