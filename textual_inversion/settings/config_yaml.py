"""Write `config.yaml`, with which a run can be repeated: a YAML file of flags without their dashes."""

from pathlib import Path
from typing import Any

from textual_inversion.settings.flag import Flag, flags_of, groups_of, values_of
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system import atomic
from textual_inversion.system.addresses import address_of
from textual_inversion.system.links import beginning_of
from textual_inversion.system.paths import how_to_call

FILE_NAME, OTHER_NAME = "config.yaml", "config-of-run.yaml"
_FIRST_WORDS = "# Repeats a run:"
_WIDTH = 10**6  # no line is folded
_SETTLED = {"seed", "max_train_steps"}  # what the run itself has decided


def write(folder: Path, config: TrainConfig, program: str, processes: int = 1) -> Path:
    """Write the configuration with which `--config` repeats a run, as `FILE_NAME`.

    An existing file of that name that no run wrote is the user's own. It is kept, and `OTHER_NAME` is used.

    The file has the flags that the user gave, the demo's defaults and the values that the run chose, such as the seed.
    Its paths are valid in any working directory. Flags with their default value are written as comments. Flags that
    are not `repeatable`, such as the output folder, the upload and resuming, are left out.

    Args:
        program: the command that the configuration is for.
        processes: the number of processes in the run.

    Returns:
        The file.

    Raises:
        OutputError: the file cannot be written.
    """
    values, chosen = values_of(config), {*config.given, *config.demo_defaults, *_SETTLED}
    lines = [f"{_FIRST_WORDS} {how_to_call(program)} --config THIS_FILE"]
    lines += [f"# It ran in {processes} processes, which the launcher must start again."] if processes > 1 else []
    if config.file.preset:
        lines.append(f"# Its presets, whose values stand below: {', '.join(config.file.preset)}")
    for _, group in groups_of(config):
        flags = {name: flag for name, flag in flags_of(group).items() if flag.repeatable}
        given = [name for name in flags if name in chosen and values[name] is not None]
        lines += ["", f"# {group.title}"] if flags else []
        lines += [_line(name, _lasting(values[name], flags[name])) for name in given]
        rest = [name for name in flags if name not in given]
        lines += [f"# {line}" for name in rest for line in _line(name, values[name]).splitlines()]
    path = folder / (FILE_NAME if _is_ours(folder / FILE_NAME) else OTHER_NAME)
    atomic.write_text(path, "\n".join(lines) + "\n")
    return path


def _is_ours(path: Path) -> bool:
    """Whether a run may write the file: it does not exist, or a run wrote it."""
    words = _FIRST_WORDS.encode()
    try:
        return beginning_of(path, len(words)) in (None, words)
    except OSError:
        return False


def _line(name: str, value: Any) -> str:
    import yaml

    dumped = yaml.safe_dump({name: _plain(value)}, allow_unicode=True, width=_WIDTH, default_flow_style=False)
    return dumped.rstrip("\n")


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)


def _lasting(value: Any, flag: Flag) -> Any:
    """A value with its existing paths made absolute. Other text, such as a repository id, is unchanged."""
    if isinstance(value, (list, tuple)):
        return [_lasting(item, flag) for item in value]
    if not flag.is_path or flag.is_inside_output or not isinstance(value, (str, Path)):
        return value
    if (address := address_of(value)) is not None:
        return address
    return str(Path(value).expanduser().resolve()) if Path(value).expanduser().exists() else str(value)
