"""The manifest for Kubernetes: its pods are what Kubernetes accepts, its Serve part what Serve accepts, and it has no
field KubeRay does not know. The full schema of KubeRay is not ours to keep here: the fields used are written down."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from ray.serve.schema import ServeDeploySchema

from cluster.deploying import APPLICATIONS
from cluster.ray_environment import RAY, SERVE
from config import load

PROJECT = Path(__file__).parents[1]
VERSION = "1.30"
#: KubeRay's RayService (ray.io/v1, 1.5.1), of its fields those that the manifest may use.
SERVICE = {"serveConfigV2", "rayClusterConfig", "upgradeStrategy"}
CLUSTER = {"rayVersion", "authOptions", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"}
GROUP = {"rayStartParams", "template"}
WORKERS = GROUP | {"groupName", "replicas", "minReplicas", "maxReplicas"}


def _documents() -> list[dict[str, Any]]:
    text = (PROJECT / "cluster" / "kubernetes" / "rayservice.yaml").read_text()
    return list(yaml.safe_load_all(text))


def _service() -> dict[str, Any]:
    (service,) = (one for one in _documents() if one["kind"] == "RayService")
    return service


def _templates() -> dict[str, dict[str, Any]]:
    cluster = _service()["spec"]["rayClusterConfig"]
    return {
        "head": cluster["headGroupSpec"]["template"],
        **{group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]},
    }


def test_its_pods_and_volumes_are_what_kubernetes_accepts() -> None:
    for name, template in _templates().items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **template}
        kubernetes_validate.validate(pod, VERSION, strict=True)
    for document in _documents():
        if document["kind"] != "RayService":
            kubernetes_validate.validate(document, VERSION, strict=True)


def test_it_has_only_fields_that_kuberay_knows() -> None:
    service = _service()
    assert (service["apiVersion"], set(service)) == ("ray.io/v1", {"apiVersion", "kind", "metadata", "spec"})
    assert set(service["spec"]) <= SERVICE and {"serveConfigV2", "rayClusterConfig"} <= set(service["spec"])
    assert service["spec"]["upgradeStrategy"] == {"type": "None"}, "two clusters never write to one volume"
    cluster = service["spec"]["rayClusterConfig"]
    assert set(cluster) <= CLUSTER
    assert cluster["authOptions"] == {"mode": "token"}
    assert set(cluster["headGroupSpec"]) == GROUP
    for group in cluster["workerGroupSpecs"]:
        assert set(group) == WORKERS
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    installed = next(
        line for line in (PROJECT / "uv.lock").read_text().split("[[package]]") if 'name = "ray"\n' in line
    )
    assert f'version = "{cluster["rayVersion"]}"' in installed


def test_it_deploys_what_rayfeed_up_deploys_where_the_data_is() -> None:
    config = ServeDeploySchema.model_validate(yaml.safe_load(_service()["spec"]["serveConfigV2"]))
    own = ServeDeploySchema.model_validate(yaml.safe_load((PROJECT / "serve_config.yaml").read_text()))
    assert {one.name: one.route_prefix for one in config.applications} == {**APPLICATIONS, "sockets": "/ws"}
    for one, other in zip(config.applications, own.applications, strict=True):
        assert one.import_path == other.import_path
        assert one.args == {"data": "/data"}
        (deployment,) = one.deployments
        assert deployment.ray_actor_options.resources == {"node:__internal_head__": 0.001}


def test_its_pods_have_the_environment_that_ray_is_started_in() -> None:
    expected = {**RAY, **SERVE}
    del expected["RAY_SERVE_ENABLE_HA_PROXY"]
    for template in _templates().values():
        (container,) = template["spec"]["containers"]
        assert {one["name"]: one["value"] for one in container["env"]} == expected
        assert template["spec"]["securityContext"]["runAsNonRoot"]


def test_its_head_runs_the_actors_and_leaves_serve_to_kuberay(tmp_path: Path) -> None:
    (container,) = _templates()["head"]["spec"]["containers"]
    started = container["lifecycle"]["postStart"]["exec"]["command"][-1]
    assert "RAYFEED_RAY__SERVE=false rayfeed up --detach --data /data" in started
    assert load(tmp_path).ray.serve
    assert not load(tmp_path, {"ray": {"serve": False}}).ray.serve
    assert container["image"] in (PROJECT / "Dockerfile").read_text()
