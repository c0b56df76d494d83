"""The manifest for KubeRay has the fields that its operator knows, and bash can read the script for Slurm."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "examples" / "cluster"
# Fields of helm-chart/kuberay-operator/crds/ray.io_rayjobs.yaml of github.com/ray-project/kuberay, version v1, as far
# as the manifest may use them; Kubernetes drops an unknown one without a word.
SPEC = {"entrypoint", "shutdownAfterJobFinishes", "rayClusterSpec", "backoffLimit", "submissionMode"}
CLUSTER = {"headGroupSpec", "workerGroupSpecs", "rayVersion"}
HEAD = {"rayStartParams", "template"}
WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
CONTAINER = {"name", "image", "resources", "volumeMounts", "env"}


def manifest() -> Any:
    return yaml.safe_load((FOLDER / "rayjob.yaml").read_text(encoding="utf-8"))


def test_the_job_has_only_fields_of_the_operator() -> None:
    job = manifest()
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job["spec"]) <= SPEC
    cluster = job["spec"]["rayClusterSpec"]
    assert set(cluster) <= CLUSTER
    assert set(cluster["headGroupSpec"]) <= HEAD
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKERS
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert isinstance(group["rayStartParams"], Mapping)
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        for container in group["template"]["spec"]["containers"]:
            assert set(container) <= CONTAINER


def test_results_go_to_a_volume_of_the_head() -> None:
    pod = manifest()["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    mounted = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert f"--out {mounted[pod['volumes'][0]['name']]}/" in manifest()["spec"]["entrypoint"]


def test_the_script_for_slurm_can_be_read() -> None:
    subprocess.run(["bash", "-n", str(FOLDER / "slurm.sh")], check=True)
