"""Manifests hold against the schemas of Kubernetes, and their commands are commands of this project."""

import os
import re
import shlex
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml

import sweep
import teach
from deploy import command_lines, manifests, render
from helpers.documents import command_lines as command_lines_of
from helpers.paths import ROOT
from textual_inversion.cli import generation, parser, train
from textual_inversion.storage import client, reading
from textual_inversion.system.errors import SettingsError

MACHINE = ["--name", "cat", "--image", "registry/textual-inversion:gpu", "--claim", "results"]
TRAINING = ["--train_data_dir", "/results/photos", "--learning_rate=0.001"]
VERSIONS = ("1.29", "1.36")
OF_OPERATORS = {"PaddleJob", "RayJob"}  # whose schemas are those of their operators
PARSE = {"train": train.parse, "infer": generation.parse_infer, "sweep": sweep.build_parser().parse_args}


def rendered(kind, *more, flags=()):
    settings = MACHINE[:4] if more == tuple(NO_CLAIM) else MACHINE if kind != "claim" else ["--name", "results"]
    documents = render.rendered([kind, *settings, *more, *(["--", *flags] if flags else [])])
    return list(yaml.safe_load_all(yaml.safe_dump_all(documents)))


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


def check(document):
    """Hold an object against its schema, unknown fields included, in an old and a new release."""
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)


def commands_in(document):
    """The command lines of this project in a run's own object, each as its words from `python` on."""
    spec = document["spec"]
    words = (
        spec["entrypoint"] if "entrypoint" in spec else shlex.join(next(pods(spec))["spec"]["containers"][0]["command"])
    )
    unpacked = re.fullmatch(r"(?:cd /app && )?sh -c (.*)", words)
    text = shlex.split(unpacked[1])[0] if unpacked else words.removeprefix("cd /app && ")
    return [shlex.split(one) for one in re.findall(r"(?:exec )?(python .*?)(?:; else|; fi|$)", text)]


NO_CLAIM = ["--output", "s3://bucket/cat", "--secret", "keys"]
STORED = ["--train_data_dir", "s3://bucket/photos", "--pretrained_model_name_or_path", "s3://bucket/sd"]
CASES = {
    "object storage": ("train", NO_CLAIM, STORED),
    "one processor": ("train", [], TRAINING),
    "one card": ("train", ["--cards", "1", "--secret", "hub", "--secret", "more"], TRAINING),
    "four cards": ("train", ["--cards", "4", "--node_label", "gpu.nvidia.com/class=H100"], TRAINING),
    "two machines": ("train", ["--cards", "8", "--nodes", "2", "--namespace", "art"], TRAINING),
    "a fork": ("train", ["--cards", "1"], ["--resume_from_checkpoint", "/results/old/checkpoint-50"]),
    "images": ("infer", ["--cards", "2"], ["--prompt", "a <cat-toy> on the moon"]),
    "a grid": ("infer", ["--cards", "2", "--nodes", "2", "--namespace", "art"], ["--guidance_scale", "1:9:5"]),
    "a search": ("sweep", ["--cards", "1", "--nodes", "4", "--ray_secret", "mine"], ["--max_train_steps", "500"]),
    "a search on one machine": ("sweep", ["--cards", "2"], ["--max_train_steps", "500"]),
    "many concepts": ("teach", ["--nodes", "2"], ["--max_train_steps", "500"]),
    "a shell": ("shell", ["--cards", "1"], ()),
    "a volume": ("claim", ["--size", "1Ti", "--storage_class", "shared"], ()),
}


@pytest.mark.parametrize("case", CASES)
def test_objects_hold_against_the_schemas_and_pods_against_the_strictest_standard(case):
    kind, more, flags = CASES[case]
    documents = rendered(kind, *more, flags=flags)

    for document in documents:
        if document["kind"] not in OF_OPERATORS:
            check(document)
    found = list(pods(documents))
    assert bool(found) == (kind != "claim")
    for template in found:
        check({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": template["spec"]})
        spec, (made,) = template["spec"], template["spec"]["containers"]
        # What the standard "restricted" of Kubernetes demands, and more.
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert made["securityContext"]["allowPrivilegeEscalation"] is False
        assert made["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert made["securityContext"]["readOnlyRootFilesystem"] and spec["automountServiceAccountToken"] is False
        assert kind == "shell" or spec["terminationGracePeriodSeconds"] >= 60
        volumes = {"/tmp", "/dev/shm"} if more is NO_CLAIM else {"/results", "/tmp", "/dev/shm"}
        assert {mount["mountPath"] for mount in made["volumeMounts"]} == volumes
        assert {mount["name"] for mount in made["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
        assert made["resources"]["limits"].get("nvidia.com/gpu", "0") == (more[1] if "--cards" in more else "0")
    namespaces = {one["metadata"].get("namespace") for one in documents}
    assert namespaces == {"art" if "art" in more else None}


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][0] not in ("claim", "shell")])
def test_the_commands_of_a_manifest_are_taken_by_their_parsers(case):
    kind, more, flags = CASES[case]
    document, *_ = rendered(kind, *more, flags=flags)

    lines = commands_in(document)

    assert lines
    for words in lines:
        (script,) = [place for place, word in enumerate(words) if word.endswith(".py")]
        assert (ROOT / words[script]).is_file()
        given = words[script + 1 :]
        parse = {**PARSE, "sweep": sweep.build_parser, "teach": teach.build_parser}[kind]
        if kind in ("sweep", "teach"):
            own, _ = command_lines.own_flags.split(given, parse())
            settings = parse().parse_args(own)
            assert settings.resume == "/results/cat" or settings.output_dir == "/results/cat"
            assert settings.address == ("auto" if "--nodes" in more else None)
        else:
            with parser.asking_nobody():
                settings = parse(given)
            output = settings.saving if kind == "train" else settings.output
            assert output.output_dir == ("s3://bucket/cat" if more is NO_CLAIM else "/results/cat")


def test_every_run_stands_behind_a_wall_that_only_its_own_pods_pass_and_kuberay_for_its_dashboard():
    for case, (kind, more, flags) in CASES.items():
        if kind == "claim":
            continue
        document, wall = rendered(kind, *more, flags=flags)
        own = wall["spec"]["podSelector"]["matchLabels"]
        labels = [template["metadata"]["labels"] for template in pods(document)] or [document["metadata"]["labels"]]
        assert wall["kind"] == "NetworkPolicy" and all(one == own for one in labels), case
        assert wall["spec"]["policyTypes"] == ["Ingress"]
        pods_of_run, *others = wall["spec"]["ingress"] or [None]
        assert bool(pods_of_run) == (document["kind"] in OF_OPERATORS)
        assert pods_of_run in (None, {"from": [{"podSelector": {"matchLabels": own}}]})
        if document["kind"] != "RayJob":
            assert not others
            continue
        (operator,) = others
        assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]
        (peer,) = operator["from"]
        assert peer["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}
        head = document["spec"]["rayClusterSpec"]["headGroupSpec"]
        assert head["rayStartParams"] == {"dashboard-host": "0.0.0.0"}


def test_one_machine_is_a_job_that_goes_on_from_its_checkpoint_and_is_not_repeated_after_bad_input():
    job, _ = rendered("train", "--cards", "4", "--retries", "3", flags=TRAINING)

    (made,) = job["spec"]["template"]["spec"]["containers"]
    assert made["command"] == [
        "python", "-u", "-m", "paddle.distributed.launch", "--log_dir", "/tmp/log", "--gpus", "0,1,2,3",
        "train_textual_inversion.py", *TRAINING, "--output_dir", "/results/cat", "--resume_from_checkpoint", "latest",
    ]  # fmt: skip
    assert job["kind"] == "Job" and job["spec"]["backoffLimit"] == 3
    moved, fail = job["spec"]["podFailurePolicy"]["rules"]
    assert moved["action"] == "Ignore" and moved["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert fail["action"] == "FailJob" and fail["onExitCodes"]["values"] == [2]
    assert fail["onExitCodes"]["containerName"] == made["name"]


def test_several_machines_are_a_paddle_job_and_independent_work_a_ray_job_with_a_token():
    job, _ = rendered("train", "--cards", "8", "--nodes", "2", flags=TRAINING)
    worker = job["spec"]["paddleReplicaSpecs"]["Worker"]
    (made,) = worker["template"]["spec"]["containers"]
    assert (job["kind"], worker["replicas"], worker["restartPolicy"]) == ("PaddleJob", 2, "OnFailure")
    assert made["name"] == "paddle" and made["ports"] == [{"name": "master", "containerPort": 36543}]
    assert made["command"][made["command"].index("--gpus") + 1] == "0,1,2,3,4,5,6,7"

    for kind in ("sweep", "teach", "infer"):
        job, _ = rendered(kind, "--cards", "1", "--nodes", "4", "--retries", "2")
        cluster = job["spec"]["rayClusterSpec"]
        assert (job["kind"], job["spec"]["backoffLimit"], job["spec"]["submissionMode"]) == ("RayJob", 2, "HTTPMode")
        assert cluster["authOptions"] == {"mode": "token"}
        assert [group["replicas"] for group in cluster["workerGroupSpecs"]] == [3]
        assert all("launch" not in words for words in commands_in(job))
        job, _ = rendered(kind, "--nodes", "2", "--ray_secret", "mine")
        assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token", "secretName": "mine"}
        job, _ = rendered(kind)
        assert job["kind"] == "Job"


def test_cards_of_one_machine_share_images_under_the_launcher():
    job, _ = rendered("infer", "--cards", "2", flags=["--prompt", "a <cat-toy>"])

    ((*begin, script, prompt, said, output, place),) = commands_in(job)

    assert begin[-2:] == ["--gpus", "0,1"] and (script, said, place) == ("infer.py", "a <cat-toy>", "/results/cat")


def run_line(command, folder):
    """What a manifest's command would start, with the pod's folder of results in a folder here."""
    line = command[-1].replace("/results", str(folder)).replace("exec python", r"printf '%s\n' python")
    said = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
    return said.replace(str(folder), "/results").splitlines()


@pytest.mark.parametrize("kind", ["sweep", "teach"])
def test_a_search_or_list_begins_once_and_its_later_pods_resume_it(tmp_path, kind):
    job, _ = rendered(kind, "--cards", "1", flags=["--max_train_steps", "50", "--parallel=2", "--max_failures", "5"])
    command = next(pods(job))["spec"]["containers"][0]["command"]

    first = run_line(command, tmp_path)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / f"{kind}.json").touch()
    again = run_line(command, tmp_path)

    assert first == ["python", "-u", f"{kind}.py", "--max_train_steps", "50", "--parallel=2", "--max_failures", "5",
                     "--output_dir", "/results/cat"]  # fmt: skip
    assert again == ["python", "-u", f"{kind}.py", "--resume", "/results/cat", "--parallel", "2", "--max_failures", "5"]


def test_a_fork_begins_at_the_checkpoint_it_names_and_goes_on_from_its_own(tmp_path):
    flags = ["--resume_from_checkpoint=/results/old/checkpoint-50", "--allow_changed_settings", "--seed", "7"]
    job, _ = rendered("train", flags=flags)
    command = next(pods(job))["spec"]["containers"][0]["command"]

    first = run_line(command, tmp_path)
    (tmp_path / "cat" / "checkpoint-60").mkdir(parents=True)
    again = run_line(command, tmp_path)

    common = ["python", "-u", "train_textual_inversion.py", "--allow_changed_settings", "--seed", "7",
              "--output_dir", "/results/cat", "--resume_from_checkpoint"]  # fmt: skip
    assert first == [*common, "/results/old/checkpoint-50"] and again == [*common, "latest"]
    job, _ = rendered("train", flags=["--resume_from_checkpoint", "latest"])
    assert commands_in(job)[0].count("--resume_from_checkpoint") == 1


def run_stored_line(command, folder, status):
    """As `run_line`, where looking into object storage ends with a status."""
    line = command[-1].replace("exec python", r"printf '%s\n' python")
    (folder / "python").write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\nexit {status}\n')
    (folder / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(("kind", "flags", "first", "again", "asked"), [
    ("train", ["--resume_from_checkpoint", "s3://bucket/old/checkpoint-50"], "s3://bucket/old/checkpoint-50", "latest",
     "checkpoint-*/SHA256SUMS"),
    ("sweep", ["--max_train_steps", "50"], "--output_dir\ns3://bucket/cat", "--resume\ns3://bucket/cat", "sweep.json"),
    ("teach", ["--max_train_steps", "50"], "--output_dir\ns3://bucket/cat", "--resume\ns3://bucket/cat", "teach.json"),
])  # fmt: skip
def test_whether_a_pod_begins_or_goes_on_is_seen_in_object_storage(tmp_path, kind, flags, first, again, asked):
    job, _ = rendered(kind, *NO_CLAIM, flags=flags)
    command = next(pods(job))["spec"]["containers"][0]["command"]

    found = [run_stored_line(command, tmp_path, status) for status in (0, 3, 1)]

    assert [one.returncode for one in found] == [0, 0, 2]
    assert again in found[0].stdout and first in found[1].stdout and found[2].stdout == ""
    assert first not in found[0].stdout and again not in found[1].stdout
    said = (tmp_path / "asked").read_text().strip()
    assert said == f"-m textual_inversion.storage.look s3://bucket/cat {asked}"


def test_addresses_are_looked_at_and_nobody_is_asked_for_them(monkeypatch):
    monkeypatch.setattr(client, "Client", None)
    monkeypatch.setattr(reading, "Client", None)
    for flags in (STORED, ["--resume_from_checkpoint", "s3://bucket/run", "--template_file", "gs://bucket/t.txt"]):
        rendered("train", *NO_CLAIM, flags=flags)
    rendered("infer", *NO_CLAIM, flags=["--embeds", "s3://bucket/run", "s3://bucket/cat.pt"])
    rendered("teach", *NO_CLAIM, flags=["--concepts", "s3://bucket/list.csv", "--skip_broken"])
    rendered("sweep", *NO_CLAIM, flags=["--space", "s3://bucket/space.yaml", *STORED])
    with pytest.raises(SettingsError, match="--train_data_dir: an address of object storage names no bucket"):
        rendered("train", *NO_CLAIM, flags=["--train_data_dir", "s3:///photos"])
    with pytest.raises(SettingsError, match="--cache_latents_dir must lie on this machine"):
        rendered("train", *NO_CLAIM, flags=["--cache_latents_dir", "s3://bucket/latents"])


def test_what_stands_for_addresses_lies_in_the_volume_where_there_is_one():
    for more, place in ((NO_CLAIM, None), (NO_CLAIM[:2], "/results/storage")):
        (made,) = next(pods(rendered("train", *more)))["spec"]["containers"]
        told = {one["name"]: one["value"] for one in made["env"]}
        assert told.get("TEXTUAL_INVERSION_STORAGE") == place
        assert made.get("envFrom", []) == ([{"secretRef": {"name": "keys"}}] if more is NO_CLAIM else [])


def test_a_file_that_lies_in_the_pod_alone_is_left_out_of_the_check_and_said(capsys, tmp_path):
    rendered("train", flags=["--config", "/results/run.yaml", "--seed", "3"])
    assert (
        capsys.readouterr().err == "note: the file of --config is not on this machine, so what it says is not checked\n"
    )
    here = tmp_path / "run.yaml"
    here.write_text("learning_rat: 1\n")
    with pytest.raises(SettingsError, match="learning_rat"):
        rendered("train", flags=["--config", str(here)])


def test_what_the_manifests_say_of_ray_and_of_the_image_is_true():
    requirement = re.search(r"^ray>=(\d+\.\d+)", (ROOT / "requirements-cluster.txt").read_text(), re.M)[1]
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()

    assert manifests.RAY_VERSION.startswith(f"{requirement}.")
    assert f"--uid {manifests.USER} " in dockerfile and f"USER {manifests.USER}:{manifests.USER}" in dockerfile
    assert f"WORKDIR {command_lines.APP}\n" in dockerfile and f"mkdir {manifests.RESULTS} " in dockerfile


def test_the_manifests_of_the_guide_are_rendered():
    lines = [words for words in command_lines_of("docs/guides/clusters.md") if "deploy/render.py" in words]

    kinds = set()
    for words in lines:
        begin = words.index("deploy/render.py") + 1
        (end, *_) = [place for place, word in enumerate(words) if word in ("|", ">")]
        kinds |= {document["kind"] for document in render.rendered(words[begin:end])}
    assert kinds == {"PersistentVolumeClaim", "Pod", "Job", "RayJob", "NetworkPolicy"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    {
        "a flag that is none": (["train", *MACHINE, "--", "--learning_rat", "1"], "did you mean --learning_rate?"),
        "a value out of range": (["train", *MACHINE, "--", "--learning_rate", "-1"], "--learning_rate: must be"),
        "flags that contradict": (["teach", *MACHINE, "--", "--alone", "--together", "3"], "contradict each other"),
        "a flag of another command": (["infer", *MACHINE, "--", "--max_train_steps", "3"], "is not a flag of infer.py"),
        "a flag of ours": (["train", *MACHINE, "--", "--output_dir", "x"], "--output_dir is not for a manifest"),
        "where it runs": (["sweep", *MACHINE, "--", "--address=auto"], "--address is not for a manifest"),
        "a secret in sight": (["train", *MACHINE, "--", "--hub_token", "hf_1"], "make a secret"),
        "results that would be lost": (["train", *MACHINE[:4]], "results would be lost with the pod"),
        "no address": (["train", *MACHINE[:4], "--output", "s3://key:secret@bucket/x"], "holds credentials"),
        "machines without a folder in common": (
            ["sweep", *MACHINE[:4], "--output", "s3://bucket/x", "--nodes", "2"],
            "name with --claim the volume",
        ),
        "results beside the volume": (["train", *MACHINE, "--output", "/results/../x"], "would be lost with the pod"),
        "a name": (["train", "--name", "Cat_1", *MACHINE[2:]], "is no name for Kubernetes"),
        "an image": (["train", *MACHINE[:2], "--image", "a b", *MACHINE[4:]], "is no image"),
        "an amount": (["train", *MACHINE, "--memory", "much"], "is no amount"),
        "a label": (["train", *MACHINE, "--node_label", "h100"], "is no label"),
        "no cards": (["train", *MACHINE, "--cards", "0"], "must be at least 1, not 0"),
        "too many machines": (["train", *MACHINE, "--nodes", "10001"], "must be at most 10000, not 10001"),
        "a token for nobody": (["sweep", *MACHINE, "--ray_secret", "mine"], "--ray_secret has no effect"),
        "flags for nobody": (["shell", *MACHINE, "--", "--seed", "1"], "shell runs no command"),
        "a flag before the --": (["train", *MACHINE, "--seed", "1"], "--seed"),
        "no kind": (["fly"], "invalid choice: 'fly'"),
    }.values(),
)
def test_what_cannot_be_is_refused_in_one_line(arguments, said):
    ended = subprocess.run(
        [sys.executable, "deploy/render.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr and ended.stderr.count("\n") == 1 and "Traceback" not in ended.stderr
