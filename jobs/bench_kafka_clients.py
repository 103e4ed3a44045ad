"""Compare kafka-python, which the stream uses, with confluent-kafka on the same frames.

ray job submit --working-dir . -- python jobs/bench_kafka_clients.py --output clients.json
"""

import typer

from ray_fer.cli import bench_kafka_clients

if __name__ == "__main__":
    typer.run(bench_kafka_clients)
