"""Put cluster/serve.yaml into rayservice.yaml, with what is different on Kubernetes. Run it after changing the former.

python cluster/kuberay/put_serve_config.py
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

HERE = Path(__file__).parent
SERVE, SERVICE = HERE.parent / "serve.yaml", HERE / "rayservice.yaml"

# Where a line of serve.yaml begins, and what stands there on Kubernetes.
DIFFERENT = {
    "  host: 127.0.0.1": """\
  host: 0.0.0.0 # the pod's address; `keys` below says who may ask, network.yaml from where""",
    "        bootstrap_servers: ": """\
        bootstrap_servers: kafka-kafka-bootstrap:9093 # of strimzi.yaml
        security_protocol: SASL_SSL
        sasl_mechanism: SCRAM-SHA-512
        sasl_username: ray-fer
        sasl_password_file: /etc/ray-fer/kafka-password
        ssl_cafile: /etc/ray-fer/kafka-ca.crt""",
    "        # keys: ": """\
        keys: /etc/ray-fer/keys.json # of the Secret ray-fer-keys""",
}


def for_kubernetes(serve: str) -> str:
    """The text of serve.yaml without its heading, changed. Raises ValueError when a line to change is not there."""
    lines = serve.splitlines()
    while lines[0].startswith("#"):
        del lines[0]
    for beginning, other in DIFFERENT.items():
        found = [number for number, line in enumerate(lines) if line.startswith(beginning)]
        if len(found) != 1:
            raise ValueError(f"{SERVE} has {len(found)} lines that begin with {beginning!r}: correct DIFFERENT")
        lines[found[0]] = other
    return "\n".join(lines) + "\n"


def put(service: str, config: str) -> str:
    """The text of rayservice.yaml with another serveConfigV2. Raises ValueError when it has none."""
    block = "  serveConfigV2: |\n" + textwrap.indent(config, "    ")
    changed, count = re.subn(r"^  serveConfigV2: \|\n(?:    .*\n|\n)*", lambda _: block, service, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"{SERVICE} has {count} blocks `serveConfigV2: |`, expected one")
    return changed


if __name__ == "__main__":
    SERVICE.write_text(put(SERVICE.read_text(), for_kubernetes(SERVE.read_text())))
