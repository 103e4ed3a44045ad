"""ray-cluster.yaml, as `ray up` checks it before it asks the cloud for anything."""

from __future__ import annotations

import copy
import re
import shlex

import jsonschema
import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.manifests import CLUSTER, ROOT, Document, documents
from tests.cluster.test_compose import command_exists

PATH = CLUSTER / "ray-cluster.yaml"


def config() -> Document:
    (found,) = documents(PATH)
    return found


def test_ray_accepts_it() -> None:
    validate_config(prepare_config(config()))


def test_ray_refuses_what_is_misspelt() -> None:
    wrong = copy.deepcopy(config())
    wrong["available_node_types"]["cpu"]["min_worker"] = 1
    with pytest.raises(jsonschema.ValidationError, match="'min_worker' was unexpected"):
        validate_config(prepare_config(wrong))


def test_types_of_nodes_have_room_and_an_image() -> None:
    found = config()
    types = found["available_node_types"]
    assert types.keys() == {"head", "cpu", "gpu"}
    assert sum(one["max_workers"] for one in types.values()) <= found["max_workers"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["gpu"]["docker"]["worker_image"] == found["docker"]["worker_image"] + "-gpu"
    for one in types.values():
        # Ray's default has a driver that CUDA 13 does not run on; this one does not exist, so nobody can forget it.
        assert one["node_config"]["ImageId"] == "ami-00000000000000000"
        assert one["min_workers"] <= one["max_workers"]


def test_ray_installs_nothing_of_its_own() -> None:
    prepared = prepare_config(config())
    assert prepared["head_setup_commands"] == prepared["worker_setup_commands"] == []
    (head,) = [one for one in prepared["head_start_ray_commands"] if "--head" in one]
    assert "--dashboard-host=127.0.0.1" in head
    for commands in (prepared["head_start_ray_commands"], prepared["worker_start_ray_commands"]):
        command_exists(shlex.split(commands[-1].rpartition(";")[2]))


def test_commands_in_its_heading_exist() -> None:
    heading = PATH.read_text().partition("cluster_name:")[0]
    commands = re.findall(r"^#     (ray .*?)(?:  +#.*)?$", heading, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command)
        command_exists(words)
        if words[1] == "exec":
            inside = shlex.split(words[-1])
            if inside[0] == "python":
                assert (ROOT / inside[1].removeprefix("/opt/ray-fer/")).is_file()
            else:
                command_exists(inside)
