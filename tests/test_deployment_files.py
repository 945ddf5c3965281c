"""The files for clusters of one's own are what Ray and Serve accept, and name what exists."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._common.utils import import_attr
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve.deployment import Application
from ray.serve.schema import ServeDeploySchema

from cluster.up import APPLICATIONS

PROJECT = Path(__file__).parents[1]


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((PROJECT / name).read_text())
    return content


def test_the_cluster_file_is_one_ray_up_accepts() -> None:
    config = read("ray_cluster.yaml")
    validate_config(prepare_config(config))
    started = " ".join(config["head_start_ray_commands"])
    assert "RAY_SERVE_ENABLE_HA_PROXY=1" in started
    assert "--port=6380" in started, "Ray's own default is the port of Redis"


def test_the_serve_file_deploys_what_rayfeed_up_deploys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ServeDeploySchema.model_validate(read("serve_config.yaml"))
    assert {one.name: one.route_prefix for one in config.applications} == APPLICATIONS
    monkeypatch.chdir(tmp_path)
    for one in config.applications:
        builder = import_attr(one.import_path)
        assert isinstance(call_user_app_builder_with_args_if_necessary(builder, one.args), Application)
