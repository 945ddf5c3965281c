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

from cluster.deploying import APPLICATIONS
from cluster.front_door import front_door
from cluster.ray_environment import CLUSTER
from config import load
from serve_apps.applications import live_application

PROJECT = Path(__file__).parents[1]
STARTED = "head_start_ray_commands"
NOT_INSTALLED = {"tests", "benchmarks"}
CLUSTER_FILES = ("ray_cluster.yaml", "ray_cluster_aws.yaml")


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((PROJECT / name).read_text())
    return content


@pytest.mark.parametrize("name", CLUSTER_FILES)
def test_a_cluster_file_is_one_ray_up_accepts(name: str) -> None:
    config = read(name)
    validate_config(prepare_config(config))
    (head,) = (command for command in config[STARTED] if "ray start" in command)
    assert "python -m cluster.ray_environment ray start" in head, "what Ray's workers inherit has one place"
    assert "--port=6380" in head, "Ray's own default is the port of Redis"
    assert "python -m cluster.ray_worker --address=$RAY_HEAD_IP:6380" in config["worker_start_ray_commands"][-1]


def test_both_cluster_files_install_and_start_the_same() -> None:
    own, aws = map(read, CLUSTER_FILES)
    different = {"provider", "auth", "max_workers", "head_node_type", "available_node_types", "initialization_commands"}
    different |= {"head_setup_commands", "head_start_ray_commands"}
    assert {key: own[key] for key in own.keys() - different} == {key: aws[key] for key in aws.keys() - different}
    started = [command.replace("export RAY_enable_autoscaler_v2=0 && ", "") for command in own[STARTED]]
    assert started == aws[STARTED]
    assert aws["head_setup_commands"][-1] == own["head_setup_commands"][0], "the secret they share"


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
    assert APPLICATIONS.items() <= {one.name: one.route_prefix for one in config.applications}.items()
    monkeypatch.chdir(tmp_path)
    for one in config.applications:
        builder = import_attr(one.import_path)
        assert isinstance(call_user_app_builder_with_args_if_necessary(builder, one.args), Application)


def test_the_serve_file_answers_where_the_front_door_would(tmp_path: Path) -> None:
    """WebSockets too: without a front door Serve is who leads to them."""
    ports = dict.fromkeys(("serve", *APPLICATIONS, "edge metrics"), 1)
    led = {route.prefix or "/" for route in front_door(load(tmp_path, {"edge": {"tls": False}}), ports).routes}
    assert {one["route_prefix"] for one in read("serve_config.yaml")["applications"]} == led


def test_serve_lets_in_all_clients_of_the_live_feed(tmp_path: Path) -> None:
    """Who is one too many for it is told to come later; one too many for Serve would wait."""
    settings = load(tmp_path, {"live_feed": {"max_connections": 7000}})
    assert live_application(settings)._bound_deployment.max_ongoing_requests > 7000
