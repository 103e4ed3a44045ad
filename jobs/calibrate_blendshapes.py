"""Fit the map from MediaPipe's blendshapes to Action Units anew, and show how well it reads faces that it has not seen.

ray job submit --working-dir . -- python jobs/calibrate_blendshapes.py /data/blendshape_map.json
"""

import typer

from ray_fer.cli import calibrate_blendshapes

if __name__ == "__main__":
    typer.run(calibrate_blendshapes)
