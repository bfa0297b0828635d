"""Manifests hold against the schemas of Kubernetes, and their commands are commands of this project."""

import subprocess
import sys

import pytest
import yaml

from deploy import render
from helpers.paths import ROOT

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")

SETTINGS = ["--name", "cat", "--image", "registry/textual-inversion:gpu", "--claim", "results"]
TRAINING = ["--train_data_dir", "/results/photos", "--learning_rate=0.001"]
VERSION = "1.31"


def rendered(kind, *more, flags=()):
    settings = SETTINGS if kind != "claim" else ["--name", "results"]
    return render.manifests(render.build_parser().parse_args([kind, *settings, *more, *(["--", *flags] if flags else [])]))


def pods(value):
    """Every pod template in a manifest."""
    if isinstance(value, dict):
        if "containers" in value.get("spec", {}):
            yield value
        for one in value.values():
            yield from pods(one)
    elif isinstance(value, list):
        for one in value:
            yield from pods(one)


def is_valid(document):
    kubernetes_validate.validate(yaml.safe_load(yaml.safe_dump(document)), VERSION, strict=True)
    return True


CASES = {
    "one processor": ("train", [], TRAINING),
    "one card": ("train", ["--cards", "1", "--secret", "hub"], TRAINING),
    "four cards": ("train", ["--cards", "4"], TRAINING),
    "two machines": ("train", ["--cards", "8", "--nodes", "2", "--namespace", "art"], TRAINING),
    "a grid": ("infer", ["--cards", "2"], ["--config", "demo/grid.yaml"]),
    "a search": ("sweep", ["--cards", "1", "--nodes", "4"], ["--max_train_steps", "500"]),
    "many concepts": ("teach", ["--nodes", "2"], ["--max_train_steps", "500"]),
    "a volume": ("claim", ["--size", "1Ti", "--storage_class", "shared"], ()),
}


@pytest.mark.parametrize("case", CASES)
def test_manifests_hold_against_the_schemas(case):
    kind, more, flags = CASES[case]
    documents = rendered(kind, *more, flags=flags)

    own = {"PaddleJob", "RayJob"}  # their schemas are those of their operators
    assert all(is_valid(one) for one in documents if one["kind"] not in own)
    for template in pods(documents):
        template = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": "one", **template["metadata"]}}
        assert is_valid(template)
        security = template["spec"]["securityContext"]
        assert security["runAsNonRoot"] and template["spec"]["automountServiceAccountToken"] is False
        assert template["spec"]["terminationGracePeriodSeconds"] >= 60
    names = {one["metadata"].get("namespace") for one in documents}
    assert names == {"art" if "art" in more else None}


def test_one_machine_is_a_job_that_goes_on_from_its_checkpoint_and_is_not_repeated_after_bad_input():
    (job,) = rendered("train", "--cards", "4", "--retries", "3", flags=TRAINING)

    (made,) = job["spec"]["template"]["spec"]["containers"]
    assert made["command"] == [
        "python", "-u", "-m", "paddle.distributed.launch", "--gpus", "0,1,2,3", "train_textual_inversion.py",
        *TRAINING, "--output_dir", "/results/cat", "--resume_from_checkpoint", "latest",
    ]  # fmt: skip
    assert made["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert job["kind"] == "Job" and job["spec"]["backoffLimit"] == 3
    (fail, moved) = job["spec"]["podFailurePolicy"]["rules"]
    assert fail["action"] == "FailJob" and fail["onExitCodes"]["values"] == [2]
    assert fail["onExitCodes"]["containerName"] == made["name"]


def test_several_machines_are_a_paddle_job_behind_a_wall():
    job, wall = rendered("train", "--cards", "8", "--nodes", "2", flags=TRAINING)

    worker = job["spec"]["paddleReplicaSpecs"]["Worker"]
    (made,) = worker["template"]["spec"]["containers"]
    assert (job["kind"], worker["replicas"], worker["restartPolicy"]) == ("PaddleJob", 2, "OnFailure")
    assert made["name"] == "paddle" and made["command"][:6] == [
        "python", "-u", "-m", "paddle.distributed.launch", "--gpus", "0,1,2,3,4,5,6,7",
    ]  # fmt: skip
    own = wall["spec"]["podSelector"]["matchLabels"]
    assert wall["kind"] == "NetworkPolicy" and own == worker["template"]["metadata"]["labels"]
    assert wall["spec"]["ingress"] == [{"from": [{"podSelector": {"matchLabels": own}}]}]


def test_searches_and_many_concepts_run_on_a_ray_cluster_with_a_token():
    for kind in ("sweep", "teach"):
        job, wall = rendered(kind, "--cards", "1", "--nodes", "4", flags=["--max_train_steps", "500"])
        cluster = job["spec"]["rayClusterSpec"]
        assert cluster["authOptions"] == {"mode": "token", "secretName": "cat-token"}
        assert [group["replicas"] for group in cluster["workerGroupSpecs"]] == [3]
        assert "--address auto" in job["spec"]["entrypoint"] and "/results/cat" in job["spec"]["entrypoint"]
        (job, _) = rendered(kind, "--ray_secret", "mine", flags=["--max_train_steps", "500"])
        assert job["spec"]["rayClusterSpec"]["authOptions"]["secretName"] == "mine"
        assert "workerGroupSpecs" not in job["spec"]["rayClusterSpec"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    {
        "a flag that is none": (["train", *SETTINGS, "--", "--learning_rat", "1"], "--learning_rat is not a flag"),
        "a flag that is ours": (["train", *SETTINGS, "--", "--output_dir", "x"], "--output_dir is set by render.py"),
        "results that would be lost": (["train", *SETTINGS[:4]], "results would be lost with the pod"),
        "a name": (["train", "--name", "Cat_1", *SETTINGS[2:]], "is no name for Kubernetes"),
        "an amount": (["train", *SETTINGS, "--memory", "much"], "is no amount"),
        "no cards": (["train", *SETTINGS, "--cards", "0"], "is no number from 1"),
    }.values(),
)
def test_what_cannot_be_is_refused_in_one_line(arguments, said):
    ended = subprocess.run(
        [sys.executable, "deploy/render.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr and ended.stderr.count("\n") == 1 and "Traceback" not in ended.stderr
