"""Ranks that differ are found before they train: what each of them runs and learns from, held against rank 0's.

Every machine has its own copy of the program, its own packages, its own command line and its own data. Ranks average
their gradients whatever those came from, so a difference would show in nothing but a worse embedding, or in ranks that
wait for one another at different places. Compared are, part by part:

    the program    each of its source files, by a hash
    the packages   their versions, as far as numbers depend on them
    the flags      all but those in `_MAY_DIFFER`: places, names, what belongs to one machine, and the hub
    the data       pictures, sentences, masks; the base model and embeddings to start from: `run_settings`

The first three as soon as the ranks have met, the data when it is known. The ranks exchange it in the launcher's
key-value store, where it does not matter who comes when, and every rank comes to the same judgement.
"""

import hashlib
import json
import platform
import time
from pathlib import Path
from typing import Any

from textual_inversion.system import signals
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import ROOT
from textual_inversion.system.provenance import versions

_POLL_SECONDS = 0.02
_MOST_NAMED = 5  # differences of a rank
_LONGEST = 60  # characters of a value in a message
_MAY_DIFFER = set(
    # names and places, whose contents are compared
    """config output_dir logging_dir train_data_dir mask_dir template_file initializer_embeds cache_dir clip_model
    pretrained_model_name_or_path tokenizer_name revision variant validation_prompt validation_prompts_file
    device num_threads dataloader_num_workers gradient_checkpointing enable_xformers_memory_efficient_attention
    low_memory compile
    push_to_hub hub_whole_pipeline hub_token hub_model_id""".split()
    # made from others
    + ["concepts", "explicit", "demo_defaults"]
)
_NAMES = {"sample_prompts": "the sample prompts", "demo": "the demo"}  # settings that are no flags
# Part of what is compared -> the way out.
_PROGRAM, _PACKAGES, _FLAGS, _DATA = "program", "packages", "flags", "data"
_WAYS_OUT = {
    _PROGRAM: "put the same version of the program on every machine",
    _PACKAGES: "install the same versions on every machine",
    _FLAGS: "start every node with the same flags",
    _DATA: "give every node the same pictures, captions, masks and models",
}


def of_program(args) -> dict[str, dict[str, Any]]:
    """What is known before anything is read: part -> name -> JSON value.

    Args:
        args: as `arguments.parse_arguments` returns them.
    """
    settings = {name: value for name, value in vars(args).items() if name not in _MAY_DIFFER}
    flags = {_NAMES.get(name, f"--{name}"): value for name, value in settings.items()}
    flags["--resume_from_checkpoint"] = args.resume_from_checkpoint is not None  # rank 0 says which
    return {_PROGRAM: of_source(ROOT), _PACKAGES: versions(), _FLAGS: json.loads(json.dumps(flags, default=str))}


def of_source(root: Path) -> dict[str, str]:
    """The program's source files, by their paths from its folder: hashes of their bytes."""
    files = [root / "train_textual_inversion.py", *(root / "textual_inversion").rglob("*.py")]
    names = {path.relative_to(root).as_posix(): path for path in files if path.is_file()}
    return {name: hashlib.sha256(names[name].read_bytes()).hexdigest()[:16] for name in sorted(names)}


def agree_on_data(ranks, settings: dict[str, Any]) -> None:
    """Hold what this rank learns from against rank 0's; to be called by all ranks.

    Args:
        ranks: `distributed.Ranks`.
        settings: from `run_settings`.

    Raises:
        SettingsError: on every rank, where they differ.
    """
    if ranks.world_size > 1:
        from paddle.base.core import create_or_get_global_tcp_store

        agree(create_or_get_global_tcp_store(), ranks.rank, ranks.world_size, {_DATA: settings})


def agree(store, rank: int, world_size: int, facts: dict[str, dict[str, Any]]) -> None:
    """Exchange facts among all ranks, and hold them against rank 0's.

    Args:
        store: the launcher's key-value store, with `set`, `get` and `add`.
        facts: part -> name -> JSON value.

    Raises:
        SettingsError: on every rank, where they differ.
    """
    everyone = _exchange(store, rank, world_size, {"host": platform.node(), "facts": facts})
    found, ways_out = {}, set()  # what differs -> ranks; parts that do
    for number, one in enumerate(everyone):
        parts = {p: differences(p, everyone[0]["facts"].get(p, {}), one["facts"].get(p, {})) for p in _WAYS_OUT}
        ways_out |= {part for part, named in parts.items() if named}
        named = [difference for part in parts.values() for difference in part]
        if named:
            more = [f"{len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else []
            found.setdefault(", ".join(named[:_MOST_NAMED] + more), []).append(f"{number} ({one['host']})")
    if found:
        who = "; ".join(f"rank {', '.join(ranks)} in {named}" for named, ranks in found.items())
        ways = ", and ".join(way for part, way in _WAYS_OUT.items() if part in ways_out)
        raise SettingsError(f"the processes of this run differ from rank 0 ({everyone[0]['host']}): {who}; {ways}")


def differences(part: str, first: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names in a part whose values differ, with both values where these are no hashes; [] where none do.

    Args:
        first: of rank 0; what is not there, there or here, counts as None.
        other: of another rank.
    """
    found = []
    for name in sorted({*first, *other}):
        there, here = first.get(name), other.get(name)
        if there != here:
            is_plain = part == _PACKAGES or name.startswith("--") or name == "the global batch"
            found.append(f"{name} ({short(here)}, there {short(there)})" if is_plain else name)
    return found


def short(value: Any) -> str:
    """A setting's value as it appears in a message."""
    text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _exchange(store, rank: int, world_size: int, value: dict[str, Any]) -> list[dict[str, Any]]:
    """What each rank has brought, in the order of the ranks; [] where all have brought the same facts.

    An answer of the store takes a tenth of a second. So each rank asks for rank 0's facts, and for those of all only
    where somebody's differ. Rank 0, whose the store is, does not leave while another reads.
    """
    text = json.dumps(value)
    with signals.blocked():
        name = f"textual_inversion/agreement/{store.add(f'textual_inversion/agreements/{rank}', 1)}"
        store.set(f"{name}/{rank}", text)
    meet(store, f"{name}/written", world_size)
    with signals.blocked():
        if rank and json.loads(bytes(store.get(f"{name}/0")))["facts"] != json.loads(text)["facts"]:
            store.add(f"{name}/differing", 1)
    meet(store, f"{name}/compared", world_size)
    with signals.blocked():
        if not store.add(f"{name}/differing", 0):
            return []
        everyone = [json.loads(bytes(store.get(f"{name}/{number}"))) for number in range(world_size)]
        store.add(f"{name}/read", 1)
    if rank == 0:
        meet(store, f"{name}/read", world_size, comes=0)
    return everyone


def meet(store, name: str, world_size: int, comes: int = 1) -> None:
    """Return when `world_size` have come; a signal finds this process between two questions, which it would spoil."""
    count = 0
    while count < world_size:
        with signals.blocked():
            count = store.add(name, comes)
        comes = 0
        if count < world_size:
            time.sleep(_POLL_SECONDS)
