"""A local S3: the API of the real one, in memory, in this process."""

from __future__ import annotations

import os
from types import TracebackType

import boto3
from moto.server import ThreadedMotoServer

_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


class S3Server:
    """moto's S3 on a free port of loopback, and credentials for it in the environment while it runs."""

    def __enter__(self) -> S3Server:
        self._before = {name: os.environ.get(name) for name in _CREDENTIALS}
        os.environ.update(_CREDENTIALS)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

    def bucket_url(self, name: str) -> str:
        """URL of a bucket, which is made, as pyarrow reads it."""
        endpoint = f"http://127.0.0.1:{self._port}"
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket=name)
        return f"s3://{name}/?scheme=http&endpoint_override=127.0.0.1:{self._port}&region=us-east-1"
