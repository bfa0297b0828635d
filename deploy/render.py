"""Write Kubernetes manifests for the commands of this project.

    python deploy/render.py train --name cat --image IMAGE --cards 4 -- --train_data_dir /results/photos …
    python deploy/render.py train --name cat --image IMAGE --cards 8 --nodes 2 -- …       a PaddleJob
    python deploy/render.py sweep --name cat-sweep --image IMAGE --cards 1 --nodes 4 -- …  a RayJob
    python deploy/render.py claim --name results --size 50Gi
    … | kubectl apply -f -

One machine is a Job, one training on several is a PaddleJob of the Kubeflow training operator, and many independent
trainings or images on several are a RayJob of KubeRay. What is after `--` are the flags of the command itself, which
are checked here, before anything reaches a cluster.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from textual_inversion import commands  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.system.errors import SettingsError, run_command  # noqa: E402

SCRIPTS = {"train": "train_textual_inversion.py", "infer": "infer.py", "sweep": "sweep.py", "teach": "teach.py"}
ON_RAY = ("sweep", "teach")
RESULTS, SHARED_MEMORY = "/results", "/dev/shm"  # where a pod finds them
USER = 10001  # the image's own, see Dockerfile
GRACE_SECONDS = 120  # from SIGTERM to SIGKILL: a step of a large model, and its checkpoint
BAD_INPUT = 2  # the status of a command that was asked for what cannot be; again would end in the same way
RAY_VERSION = "2.60.0"
RAY_SECRET_KEY = "auth_token"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,49}[a-z0-9])?")
_QUANTITY = re.compile(r"[1-9][0-9]*(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")

Document = dict[str, Any]


# -------------------------------------------------------------------------------------------------------- arguments


def name(text: str) -> str:
    """A name that Kubernetes takes, short enough for what operators put behind it."""
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name for Kubernetes: at most 51 of a-z, 0-9 and -, not beginning or ending with -"
        )
    return text


def quantity(text: str) -> str:
    """An amount as Kubernetes writes it, such as 16Gi or 500m."""
    if not _QUANTITY.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no amount; write one like 16Gi")
    return text


def positive(text: str) -> int:
    """A number from 1."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 10000")
    return int(text)


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="render.py", description="Writes Kubernetes manifests to standard output.")
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="|".join([*SCRIPTS, "claim"]))
    for command in SCRIPTS:
        _add_flags(kinds.add_parser(command, help=f"a manifest that runs {SCRIPTS[command]}"), command)
    claim = kinds.add_parser("claim", help="a volume for images and results")
    _add_common(claim)
    claim.add_argument("--size", type=quantity, default="50Gi", metavar="AMOUNT", help="of the volume (default: 50Gi)")
    claim.add_argument("--storage_class", type=name, metavar="NAME", help="unset: the cluster's own")
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", type=name, required=True, metavar="NAME", help="of the objects")
    parser.add_argument("--namespace", type=name, metavar="NAME", help="unset: that of kubectl")


def _add_flags(parser: argparse.ArgumentParser, command: str) -> None:
    _add_common(parser)
    add = parser.add_argument
    add("--image", required=True, metavar="IMAGE", help="container image, built from deploy/Dockerfile")
    add("--cards", type=positive, metavar="N", help="NVIDIA cards a machine; unset: processor cores only")
    add("--cpus", type=quantity, default="4", metavar="N", help="cores a machine (default: 4)")
    add("--memory", type=quantity, default="16Gi", metavar="AMOUNT", help="memory a machine (default: 16Gi)")
    if command != "infer":
        add("--nodes", type=positive, default=1, metavar="N", help="machines (default: 1)")
    add("--claim", type=name, metavar="NAME", help=f"volume claim for images and results, in {RESULTS}")
    add("--output", metavar="PLACE", help=f"output_dir of the command; unset: {RESULTS}/NAME with --claim")
    add("--secret", type=name, action="append", default=[], metavar="NAME",
        help="secret whose keys become environment variables, such as HF_TOKEN; may be given several times")  # fmt: skip
    if command in ON_RAY:
        add("--ray_secret", type=name, metavar="NAME",
            help=f"secret whose key {RAY_SECRET_KEY} is the cluster's token; unset: NAME-token")  # fmt: skip
    add("--retries", type=positive, default=6, metavar="N", help="times that a job begins again (default: 6)")
    add("flags", nargs="*", metavar="-- FLAG", help=f"flags of {SCRIPTS[command]}")


def checked_flags(command: str, flags: Sequence[str]) -> list[str]:
    """The command's own flags, as it understands them; raises SettingsError where it does not."""
    parser = commands.load(command).build_parser()
    known = {option for action in parser._actions for option in action.option_strings}
    for flag in flags:
        given = flag.split("=", 1)[0]
        if given.startswith("--") and given not in known:
            raise SettingsError(f"{given} is not a flag of {SCRIPTS[command]}")
        if given in ("--output_dir", "--resume_from_checkpoint", "--address"):
            raise SettingsError(f"{given} is set by render.py; leave it out, and see --output")
    return list(flags)


# -------------------------------------------------------------------------------------------------------- manifests


def container(args: argparse.Namespace, words: Sequence[str] | None, own_name: str) -> Document:
    """One container of a pod that runs a command; `words` None: what its operator gives it."""
    amount = {"cpu": args.cpus, "memory": args.memory}
    if args.cards:
        amount["nvidia.com/gpu"] = str(args.cards)
    mounts = [{"name": "shared-memory", "mountPath": SHARED_MEMORY}, {"name": "scratch", "mountPath": "/tmp"}]
    if args.claim:
        mounts.append({"name": "results", "mountPath": RESULTS})
    made = {
        "name": own_name,
        "image": args.image,
        "env": [{"name": key, "value": value} for key, value in environment(args).items()],
        "resources": {"requests": amount, "limits": dict(amount)},
        "volumeMounts": mounts,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if words is not None:
        made["command"] = list(words)
    if args.secret:
        made["envFrom"] = [{"secretRef": {"name": one}} for one in args.secret]
    return made


def environment(args: argparse.Namespace) -> Mapping[str, str]:
    """What a pod is told beside its command."""
    told = {"HOME": "/tmp", "PYTHONUNBUFFERED": "1"}
    if args.claim:
        told |= {"HF_HOME": f"{RESULTS}/models", "PPNLP_HOME": f"{RESULTS}/models", "XDG_CACHE_HOME": "/tmp/cache"}
    return told


def pod(args: argparse.Namespace, made: Document, restart: str | None = None) -> Document:
    """A pod around one container: not root, no token of the cluster, time to save."""
    volumes = [
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        {"name": "scratch", "emptyDir": {}},
    ]
    if args.claim:
        volumes.append({"name": "results", "persistentVolumeClaim": {"claimName": args.claim}})
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
        "containers": [made],
        "volumes": volumes,
    }
    if restart is not None:
        spec["restartPolicy"] = restart
    return {"metadata": {"labels": labels(args)}, "spec": spec}


def labels(args: argparse.Namespace) -> Mapping[str, str]:
    """What the objects of a run have in common."""
    return {"app.kubernetes.io/name": "textual-inversion", "app.kubernetes.io/instance": args.name}


def document(args: argparse.Namespace, version: str, kind: str, spec: Document, suffix: str = "") -> Document:
    """One object."""
    metadata: Document = {"name": args.name + suffix, "labels": dict(labels(args))}
    if args.namespace:
        metadata["namespace"] = args.namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def output(args: argparse.Namespace) -> str:
    """Where the command writes; raises SettingsError where results would be lost with the pod."""
    if args.output:
        return args.output
    if not args.claim:
        raise SettingsError("results would be lost with the pod: add --claim NAME, or --output with a place that stays")
    return f"{RESULTS}/{args.name}"


def words(args: argparse.Namespace) -> list[str]:
    """The command line in a pod, as the image's working folder knows it."""
    begin = ["python", "-u"]
    if args.kind == "train" and (args.cards or 1) * args.nodes > 1:
        begin += ["-m", "paddle.distributed.launch"]
        begin += ["--gpus", ",".join(map(str, range(args.cards)))] if args.cards else ["--nproc_per_node", "1"]
    command = [*begin, SCRIPTS[args.kind], *checked_flags(args.kind, args.flags)]
    if args.kind == "train":
        return [*command, "--output_dir", output(args), "--resume_from_checkpoint", "latest"]
    return [*command, "--output_dir", output(args)]


def job(args: argparse.Namespace) -> list[Document]:
    """A Job on one machine. It begins again where its pod was lost or ended, unless its input was bad."""
    rule = {"operator": "In", "values": [BAD_INPUT]}
    fail = {"action": "FailJob", "onExitCodes": {"containerName": args.kind, **rule}}
    moved = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    spec = {
        "backoffLimit": args.retries,
        "podFailurePolicy": {"rules": [fail, moved]},
        "template": pod(args, container(args, words(args), args.kind), "Never"),
    }
    return [document(args, "batch/v1", "Job", spec)]


def paddle_job(args: argparse.Namespace) -> list[Document]:
    """One training on several machines, and a wall around its ports, which know no passwords."""
    made = container(args, words(args), "paddle")  # the operator looks for a container of this name
    made["ports"] = [{"name": "master", "containerPort": 36543}]
    spec = {
        "runPolicy": {"backoffLimit": args.retries, "cleanPodPolicy": "Running"},
        "paddleReplicaSpecs": {
            "Worker": {"replicas": args.nodes, "restartPolicy": "OnFailure", "template": pod(args, made)}
        },
    }
    return [document(args, "kubeflow.org/v1", "PaddleJob", spec), wall(args)]


def ray_job(args: argparse.Namespace) -> list[Document]:
    """Many trainings on a Ray cluster of their own, which asks for a token and goes when they are done."""
    command = [*words(args), "--address", "auto"]
    head = pod(args, container(args, None, "ray-head"))
    cluster: Document = {
        "rayVersion": RAY_VERSION,
        "authOptions": {"mode": "token", "secretName": args.ray_secret or f"{args.name}-token"},
        "headGroupSpec": {"rayStartParams": {"dashboard-host": "127.0.0.1"}, "template": head},
    }
    if args.nodes > 1:
        group = {"groupName": "workers", "replicas": args.nodes - 1, "minReplicas": 0, "maxReplicas": args.nodes - 1}
        template = pod(args, container(args, None, "ray-worker"))
        cluster["workerGroupSpecs"] = [{**group, "rayStartParams": {}, "template": template}]
    spec = {
        "entrypoint": shell(command),
        "submissionMode": "HTTPMode",
        "shutdownAfterJobFinishes": True,
        "backoffLimit": args.retries,
        "rayClusterSpec": cluster,
    }
    return [document(args, "ray.io/v1", "RayJob", spec), wall(args)]


def shell(command: Sequence[str]) -> str:
    """A command line for a shell; the entry point of a RayJob is one."""
    import shlex

    return shlex.join(command)


def wall(args: argparse.Namespace) -> Document:
    """Only pods of the same run may connect to one another."""
    own = {"podSelector": {"matchLabels": dict(labels(args))}}
    spec = {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]}
    return document(args, "networking.k8s.io/v1", "NetworkPolicy", spec, "-wall")


def claim(args: argparse.Namespace) -> list[Document]:
    """A volume that several machines may write to."""
    spec: Document = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": args.size}}}
    if args.storage_class:
        spec["storageClassName"] = args.storage_class
    return [document(args, "v1", "PersistentVolumeClaim", spec)]


def manifests(args: argparse.Namespace) -> list[Document]:
    """All objects of a run."""
    if args.kind == "claim":
        return claim(args)
    if args.kind in ON_RAY:
        return ray_job(args)
    return paddle_job(args) if getattr(args, "nodes", 1) > 1 else job(args)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = build_parser().parse_args(argv)
    sys.stdout.write(yaml.safe_dump_all(manifests(args), sort_keys=False, default_flow_style=False))


if __name__ == "__main__":
    run_command(main)
