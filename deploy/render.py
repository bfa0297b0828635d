"""Write Kubernetes manifests for the commands of this project.

    python deploy/render.py claim --name results --size 50Gi
    python deploy/render.py train --name cat --image IMAGE --cards 4 --claim results -- --train_data_dir /results/cat …
    python deploy/render.py train … --cards 8 --nodes 2 -- …     a PaddleJob
    python deploy/render.py sweep … --cards 1 --nodes 4 -- …     a RayJob
    python deploy/render.py shell --name desk --image IMAGE --claim results
    … | kubectl apply -f -

One machine is a Job, one training on several is a PaddleJob of the Kubeflow training operator, and many independent
trainings or images on several are a RayJob of KubeRay. What is after `--` are the flags of the command itself, which
are checked here, before anything reaches a cluster.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from deploy import command_lines, manifests  # noqa: E402
from deploy.manifests import RESULTS, Document, Machine, Names  # noqa: E402
from textual_inversion.cli.parser import OneLineParser  # noqa: E402
from textual_inversion.settings.bounds import count  # noqa: E402
from textual_inversion.storage.reading import address  # noqa: E402
from textual_inversion.system.addresses import is_address  # noqa: E402
from textual_inversion.system.errors import SettingsError, run_command  # noqa: E402
from textual_inversion.system.paths import SCRIPTS  # noqa: E402

COMMANDS = ("train", "infer", "sweep", "teach")
_number = count(1, 10_000)
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,39}[a-z0-9])?")
_IMAGE = re.compile(r"[\w.:/@-]+", re.ASCII)
_QUANTITY = re.compile(r"[1-9][0-9]{0,8}(\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
_LABEL = re.compile(r"[\w./-]{1,253}=[\w.-]{0,63}", re.ASCII)


# -------------------------------------------------------------------------------------------------------- arguments


def name(text: str) -> str:
    """A name that Kubernetes takes, short enough for what operators put behind it."""
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name for Kubernetes: at most 41 of a-z, 0-9 and -, beginning with a letter"
        )
    return text


def image(text: str) -> str:
    """The name of an image."""
    if not _IMAGE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no image; name one like registry/textual-inversion:gpu")
    return text


def quantity(text: str) -> str:
    """An amount as Kubernetes writes it, such as 16Gi or 500m."""
    if not _QUANTITY.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no amount; write one like 16Gi")
    return text


def label(text: str) -> tuple[str, str]:
    """A label of machines."""
    if not _LABEL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no label; write one like gpu.nvidia.com/class=H100")
    key, _, value = text.partition("=")
    return key, value


def build_parser() -> OneLineParser:
    """The command's flags."""
    parser = OneLineParser(prog="deploy/render.py", description="Writes Kubernetes manifests to standard output.")
    kinds = parser.add_subparsers(
        dest="kind", required=True, metavar="{" + ",".join([*COMMANDS, "shell", "claim"]) + "}"
    )
    for command in COMMANDS:
        _add_run(_add_machine(kinds.add_parser(command, help=f"run {SCRIPTS[command]}")), command)
    _add_machine(kinds.add_parser("shell", help="a pod beside the results, to copy, look and draw"))
    claim = _add_names(kinds.add_parser("claim", help="a volume for images and results"))
    claim.add_argument("--size", type=quantity, default="50Gi", metavar="AMOUNT", help="of the volume")
    claim.add_argument("--storage_class", type=name, metavar="NAME", help="unset: the cluster's own")
    return parser


def _add_names(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--name", type=name, required=True, metavar="NAME", help="of the objects")
    parser.add_argument("--namespace", type=name, metavar="NAME", help="unset: that of kubectl")
    return parser


def _add_machine(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    add = _add_names(parser).add_argument
    add("--image", type=image, required=True, metavar="IMAGE", help="container image, built from deploy/Dockerfile")
    add("--cards", type=_number, default=0, metavar="N", help="NVIDIA cards a machine; unset: processor cores only")
    add("--cpus", type=quantity, default="4", metavar="N", help="cores a machine")
    add("--memory", type=quantity, default="16Gi", metavar="AMOUNT", help="memory a machine")
    add("--claim", type=name, metavar="NAME",
        help=f"volume claim for images, models and results, in {RESULTS}; unset: object storage has them")  # fmt: skip
    add("--secret", type=name, action="append", default=[], metavar="NAME",
        help="secret whose keys become environment variables, such as HF_TOKEN; may be repeated")  # fmt: skip
    add("--node_label", type=label, action="append", default=[], metavar="KEY=VALUE",
        help="only machines with this label; may be repeated")  # fmt: skip
    return parser


def _add_run(parser: argparse.ArgumentParser, command: str) -> None:
    add = parser.add_argument
    add("--nodes", type=_number, default=1, metavar="N", help="machines")
    add("--output", metavar="DIR",
        help=f"output_dir of the command: a folder in {RESULTS}, or an address such as s3://bucket/NAME; "
        f"unset: {RESULTS}/NAME")  # fmt: skip
    add("--retries", type=_number, default=6, metavar="N", help="times that a run which ended badly begins again")
    if command != "train":
        add("--ray_secret", type=name, metavar="NAME",
            help="secret whose key auth_token is the token of Ray; unset: KubeRay makes one")  # fmt: skip


# -------------------------------------------------------------------------------------------------------- manifests


def rendered(argv: Sequence[str]) -> list[Document]:
    """All objects of a run.

    Args:
        argv: the arguments, and after `--` those of the command.

    Raises:
        SettingsError: an argument is wrong, the command refuses its own, or results would be lost.
    """
    position = argv.index("--") if "--" in argv else len(argv)
    args, flags = build_parser().parse_args(list(argv[:position])), list(argv[position + 1 :])
    names = Names(args.name, args.namespace)
    if args.kind not in COMMANDS and flags:
        raise SettingsError(f"{args.kind} runs no command, so {flags[0]} has no effect; leave out what is after --")
    if args.kind == "claim":
        return manifests.claim(names, args.size, args.storage_class)
    cards, labels = args.cards, dict(args.node_label)
    machine = Machine(args.image, cards, args.cpus, args.memory, args.claim, tuple(args.secret), labels)
    return manifests.shell(names, machine) if args.kind == "shell" else _run(args, names, machine, flags)


def _run(args: argparse.Namespace, names: Names, machine: Machine, flags: Sequence[str]) -> list[Document]:
    """The objects that run a command; raises SettingsError."""
    kind, nodes, cards = args.kind, args.nodes, args.cards
    is_ray = kind != "train" and nodes > 1
    output = _output(args.output, args.name, args.claim, is_ray=is_ray)
    if kind != "train" and args.ray_secret and not is_ray:
        raise SettingsError("--ray_secret has no effect on one machine; leave it out, or add --nodes")
    is_launched = kind in ("train", "infer") and not is_ray and max(1, cards) * nodes > 1
    one_each = ["--gpus", ",".join(map(str, range(cards)))] if cards else ["--nproc_per_node", "1"]
    words = command_lines.words(kind, flags, output, one_each if is_launched else (), is_cluster=is_ray)
    if is_ray:
        return manifests.ray_job(names, machine, words, nodes, args.retries, args.ray_secret)
    if nodes > 1:
        return manifests.paddle_job(names, machine, words, nodes, args.retries)
    return manifests.job(names, machine, kind, words, args.retries)


def _output(given: str | None, own_name: str, claim: str | None, *, is_ray: bool) -> str:
    """Where a command writes; raises SettingsError where results would be lost with the pod."""
    place = f"{RESULTS}/{own_name}" if given is None else given
    if is_address(place):
        if is_ray and claim is None:
            raise SettingsError(
                "several machines write into one folder, from which it is uploaded: name with --claim the volume for it"
            )
        return str(address(place, "--output"))
    if claim is None:
        raise SettingsError(
            f"results would be lost with the pod: name with --claim the volume to be in {RESULTS}, or with --output an "
            "address in object storage"
        )
    if not place.startswith(f"{RESULTS}/") or ".." in place.split("/"):
        raise SettingsError(f"--output {place} would be lost with the pod: choose a folder in {RESULTS}")
    return place


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    documents = rendered(sys.argv[1:] if argv is None else argv)
    sys.stdout.write(yaml.safe_dump_all(documents, sort_keys=False, default_flow_style=False, width=1000))


if __name__ == "__main__":
    run_command(main)
