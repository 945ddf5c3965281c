"""The files for clusters of one's own are what Ray and Serve accept, and name what exists."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._common.utils import import_attr
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve.deployment import Application
from ray.serve.schema import ServeDeploySchema

from cluster.ray_environment import CLUSTER
from cluster.up import APPLICATIONS

PROJECT = Path(__file__).parents[1]
NOT_INSTALLED = {"tests", "benchmarks"}
CLUSTER_FILES = ("ray_cluster.yaml", "ray_cluster_aws.yaml")


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((PROJECT / name).read_text())
    return content


@pytest.mark.parametrize("name", CLUSTER_FILES)
def test_a_cluster_file_is_one_ray_up_accepts(name: str) -> None:
    config = read(name)
    validate_config(prepare_config(config))
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        (start,) = (command for command in commands if "ray start" in command)
        assert "python -m cluster.ray_environment ray start" in start, "what workers inherit has one place"
        assert "--port=6380" in start or "$RAY_HEAD_IP:6380" in start, "Ray's own default is the port of Redis"


def test_both_cluster_files_install_and_start_the_same() -> None:
    own, aws = map(read, CLUSTER_FILES)
    different = {"provider", "auth", "max_workers", "head_node_type", "available_node_types", "initialization_commands"}
    assert {key: value for key, value in own.items() if key not in different | {"head_setup_commands"}} == {
        key: value for key, value in aws.items() if key not in different | {"head_setup_commands"}
    }
    assert aws["head_setup_commands"][-1:] == own["head_setup_commands"]


def test_a_cluster_file_sends_all_that_is_installed() -> None:
    """What Git knows and `make install` needs goes to every machine."""
    sent = set(read("ray_cluster.yaml")["file_mounts"].values())
    known = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert sent <= {Path(name).parts[0] for name in known.splitlines()}
    packages = {Path(name).parts[0] for name in known.splitlines() if name.endswith("/__init__.py")} - NOT_INSTALLED
    assert sent == packages | {"Makefile", "pyproject.toml", "uv.lock", ".python-version", "README.md", "LICENSE"}


def test_no_secret_stands_in_a_file_for_clusters() -> None:
    for name in CLUSTER_FILES:
        text = (PROJECT / name).read_text()
        assert "RAY_AUTH_TOKEN=" not in text
        # Made where it is used, never shown.
        assert "ray get-auth-token --generate > /dev/null" in text
    assert CLUSTER["RAY_AUTH_MODE"] == "token"


def test_the_serve_file_deploys_what_rayfeed_up_deploys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ServeDeploySchema.model_validate(read("serve_config.yaml"))
    assert {one.name: one.route_prefix for one in config.applications} == APPLICATIONS
    monkeypatch.chdir(tmp_path)
    for one in config.applications:
        builder = import_attr(one.import_path)
        assert isinstance(call_user_app_builder_with_args_if_necessary(builder, one.args), Application)
