"""Values of flags that are addresses of object storage: each becomes the path of this machine that stands for it.

All commands read their flags by one parser, which comes here: so an address may stand wherever a path may, and what is
wrong with it is said before anything begins. What is written below an address is uploaded in the background.
"""

import argparse
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from textual_inversion.settings import flag as kinds
from textual_inversion.system.addresses import Address, address_of, is_address
from textual_inversion.system.errors import SettingsError, StorageError
from textual_inversion.system.process_share import machines_of_start, share_of_process

_WRITES = (kinds.WRITTEN, kinds.WRITTEN_FILE)


def with_folders(actions: Iterable[argparse.Action], parsed: argparse.Namespace, *, fetches: bool = True) -> None:
    """Replace every address among the values by what stands for it on this machine.

    Args:
        fetches: otherwise addresses stay, and are only looked at: nobody is asked for them.

    Raises:
        SettingsError: an address is none, or its flag takes none.
        StorageError: it cannot be read or written, or there is nothing.
    """
    found = [action for action in actions if getattr(action, "flag", None) and action.flag.is_path]
    found = [action for action in found if any(map(is_address, _values(getattr(parsed, action.dest, None))))]
    for action in sorted(found, key=lambda action: action.flag.use_of_address not in _WRITES):
        value = getattr(parsed, action.dest)
        if not fetches:
            for one in filter(is_address, _values(value)):
                _checked(action, one)
            continue
        try:
            replaced = [_replaced(action, one, parsed) for one in _values(value)]
        except StorageError as error:
            raise StorageError(f"{_name(action)}: {error}", is_lasting=error.is_lasting) from error
        setattr(parsed, action.dest, replaced if isinstance(value, (list, tuple)) else replaced[0])


def file_at(text: str, flag: str) -> str:
    """The file that stands for an address which is read before the other flags; any other text stays."""
    return text if not is_address(text) else str(_read_file(_address(text, flag)))


def check_shared(output: Path, address: str | None) -> None:
    """Refuse a cluster of machines that would write into a folder of this one; raises SettingsError."""
    from textual_inversion.storage.mirror import PLACE

    place = address_of(output)
    if address is not None and place is not None and not os.environ.get(PLACE):
        raise SettingsError(
            f"--address lets other machines write, and what goes to {place} is kept in a folder until it is uploaded: "
            f"set {PLACE} to a folder that all machines share, or name such a folder with --output_dir"
        )


def check_launched(output: Path) -> None:
    """Refuse processes on several machines that would each upload to one address; raises SettingsError."""
    from textual_inversion.storage.mirror import PLACE

    place, count = address_of(output), machines_of_start()
    if count > 1 and place is not None and not os.environ.get(PLACE):
        raise SettingsError(
            f"{count} machines would upload to {place}: give each an address of its own and join them with --merge, or "
            f"set {PLACE} to a folder that all machines share"
        )


def _values(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _name(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else str(action.metavar)


def _replaced(action: argparse.Action, value: Any, parsed: argparse.Namespace) -> Any:
    """The path that stands for one value of a flag."""
    if not is_address(value):
        return value
    use = action.flag.use_of_address
    source, scale = _checked(action, value)
    if use in _WRITES:
        return str(_written(source, is_file=use == kinds.WRITTEN_FILE, only_looks=getattr(parsed, "plan", False)))
    return f"{_read(source, use, parsed)}{scale}"


def _checked(action: argparse.Action, value: str) -> tuple[Address, str]:
    """An address, and the scale behind it with its colon; raises SettingsError where it is none, or may not be one."""
    name, scale = _name(action), ""
    if action.flag.use_of_address == kinds.LOCAL:
        raise SettingsError(f"{name} must lie on this machine; give a folder here, not an address of object storage")
    if action.flag.metavar == "FILE[:SCALE]":
        value, _, scale = _scaled(value)
    return _address(value, name), scale


def _scaled(value: str) -> tuple[str, str, str]:
    """An address, a colon, and a scale with its colon; the scale is "" where there is none."""
    name, colon, number = value.rpartition(":")
    has_scale = "/" not in number
    return (name, colon, f":{number}") if has_scale else (value, "", "")


def _address(text: str, name: str) -> Address:
    from textual_inversion.storage.reading import address

    return address(text, name)


def _written(target: Address, *, is_file: bool, only_looks: bool) -> Path:
    from textual_inversion.storage import writing

    top = target.parent if is_file else target
    if is_file and not target.key:
        raise SettingsError(f"{target} is a bucket; name a file in it")
    if only_looks:
        return writing.folder_of(top)
    is_main = share_of_process().is_main
    if not is_file:
        return writing.written_folder(top, is_main=is_main)
    own = target.name
    return writing.written_folder(top, names=lambda name: name.partition("/")[0] == own, is_main=is_main) / own


def _read(source: Address, use: str, parsed: argparse.Namespace) -> Path:
    from textual_inversion.storage import reading, writing

    inside = writing.within(source)
    if inside is not None:
        return inside
    if use == kinds.TREE:
        return reading.folder(source)
    if use == kinds.RUN:
        return reading.folder(source, _of_run)
    if use == kinds.LIST:
        return reading.file(source, ()) if source.name.endswith(".csv") else reading.folders(source)
    if use in (kinds.MODEL, kinds.VAE):
        from textual_inversion.models import hub

        return hub.at_address(source, variant=getattr(parsed, "variant", None), is_vae=use == kinds.VAE)
    return _read_file(source)


def _read_file(source: Address) -> Path:
    from textual_inversion.embeddings import sources

    return sources.at_address(source)


def _of_run(names: Collection[str]) -> list[str]:
    """Of a run's folder, what tells of it: neither checkpoints nor the parts of a pipeline."""
    from textual_inversion.storage.units import PARTS

    tops = ((name, name.partition("/")[0]) for name in names)
    return [name for name, top in tops if not top.startswith("checkpoint-") and (top == name or top not in PARTS)]
