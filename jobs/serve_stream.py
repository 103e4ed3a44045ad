"""Serve a bundle on a Kafka topic with Ray Serve.

ray job submit --working-dir . -- python jobs/serve_stream.py packaged --bootstrap-servers kafka:9092
"""

import typer

from ray_fer.cli import serve

if __name__ == "__main__":
    typer.run(serve)
