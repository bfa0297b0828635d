"""Configurations of other trainers: which program a file is of, and what it says.

What decides is the content, never the file's name:

    kohya             TOML, with the data set in the same file or in one that it names; or a data set in JSON
    OneTrainer        JSON, with lists of concepts and samples in the same file or in ones that it names
    invoke-training   YAML with `type: …_TEXTUAL_INVERSION`
    Determined        YAML with `hyperparameters:`

Nothing else is taken from such a file than keys and plain values.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual_inversion.system import user_files
from textual_inversion.system.checked_json import UnusableJson, is_text, parse_json
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.terminal_text import visible

MOST_LEVELS, MOST_VALUES, MOST_DOTS = 12, 20_000, 4000  # the last because tomllib's time grows with their square
# The first line of a TOML file that is neither blank nor a comment: a table, or a key and an equals sign.
_TOML = re.compile(
    r"""(?: [ \t]* (?:\#[^\n]*)? \n )*  [ \t]*
        (?: \[\[? [\w."'\ -]+ \]\]? [ \t]* (?:\#[^\n]*)? (?:\n|$)
          | (?: [\w.-]+ | "[^"\n]*" | '[^'\n]*' ) [ \t]* = )""",
    re.VERBOSE,
)
_ONETRAINER = {"training_method", "base_model_name", "concept_file_name", "embedding_learning_rate"}
# Keys that name a further file of the same program.
_INCLUDES = {"kohya": ("dataset_config",), "OneTrainer": ("concept_file_name", "sample_definition_file_name")}
_UNDER = {"concept_file_name": "concepts", "sample_definition_file_name": "samples"}
_NULL = "tag:yaml.org,2002:null"


@dataclass(frozen=True)
class Setting:
    """A key with its value, as in the file.

    Attributes:
        key: the names that lead to it, with dots; positions in lists are left out.
        values: its plain values as text; several for a list.
    """

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class ForeignFile:
    """A configuration of another program.

    Attributes:
        system: the program, one of `settings.other_names.SYSTEMS`.
        settings: what it says, in the order of the file; keys without a value are left out.
    """

    system: str
    settings: tuple[Setting, ...]


def of_text(path: str | Path, text: str) -> ForeignFile | None:
    """What a file in JSON or TOML says; None if it is neither, or JSON of no program that is known.

    Raises:
        SettingsError: it is TOML that is damaged or too large, or a configuration for something else.
    """
    content = _json(text)
    if isinstance(content, dict) and _ONETRAINER & content.keys():
        return _onetrainer(path, content)
    if isinstance(content, dict) and isinstance(content.get("datasets"), list):
        return _kohya(path, content)
    if content is None and _TOML.match(text):
        return _kohya(path, _toml(path, text))
    return None


def of_yaml(path: str | Path, root: Any) -> ForeignFile | None:
    """What a file in YAML says, from its root node; None if it is of no program that is known."""
    keys = {key.value: value for key, value in root.value if isinstance(key.value, str)} if root is not None else {}
    if "hyperparameters" in keys:
        return ForeignFile("Determined", tuple(_settings(path, _plain(path, root, [0]))))
    kind = getattr(keys.get("type"), "value", None)
    if isinstance(kind, str) and {"data_loader", "base_output_dir", "optimizer"} & keys.keys():
        _check_kind(path, "invoke-training", kind, kind in ("SD_TEXTUAL_INVERSION", "SDXL_TEXTUAL_INVERSION"))
        content = _plain(path, root, [0])
        del content["type"]
        return ForeignFile("invoke-training", tuple(_settings(path, content)))
    return None


def _check_kind(path: str | Path, system: str, kind: str, is_ours: bool) -> None:
    if not is_ours:
        raise SettingsError(
            f"--config {path} is a configuration of {system} for {visible(kind)[:60]}, not for textual inversion; "
            "give one of this program's flags instead"
        )


def _json(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return parse_json(text, most_items=MOST_VALUES)
    except UnusableJson:
        return None  # YAML may begin so as well, and is refused by its own parser


def _toml(path: str | Path, text: str) -> dict[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib

    if text.count(".") > MOST_DOTS:
        raise SettingsError(f"--config {path} has more than {MOST_DOTS:,} dots, far more than a configuration needs")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = visible(str(error))[:200]
        raise SettingsError(f"--config {path} is not TOML ({reason}); write a line such as seed = 1") from None
    except RecursionError:
        raise SettingsError(f"--config {path} is nested too deeply; a configuration has few levels") from None
    except ValueError:  # a number of thousands of digits
        raise SettingsError(f"--config {path} holds a number that is far too long; shorten it") from None


def _kohya(path: str | Path, content: dict[str, Any]) -> ForeignFile:
    """A configuration or a data set of kohya's scripts, with the data set that it names."""
    parts = [content]
    for name, value in _named_files("kohya", content):
        text = _included(path, name, value)
        data_set = _json(text)
        parts.append(data_set if isinstance(data_set, dict) else _toml(value, text))
    found = [setting for part in parts for setting in _settings(path, _without_regularization(part))]
    return ForeignFile("kohya", tuple(one for one in found if one.key.rpartition(".")[2] != "dataset_config"))


def _named_files(system: str, content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, file) of the further files that a configuration names; in a table of TOML, or in none."""
    for table in (content, *(value for value in content.values() if isinstance(value, dict))):
        for name in _INCLUDES[system]:
            if isinstance(value := table.get(name), str) and value:
                yield name, value


def _without_regularization(content: dict[str, Any]) -> dict[str, Any]:
    """The content without the subsets of regularization images, which must not be learned."""
    sets = content.get("datasets")
    if not isinstance(sets, list):
        return content
    kept = []
    for one in sets:
        subsets = one.get("subsets") if isinstance(one, dict) else None
        if isinstance(subsets, list):
            left = [own if not _is_regularization(own) else {"is_reg": True} for own in subsets]
            one = {**one, "subsets": left}
        kept.append(one)
    return {**content, "datasets": kept}


def _is_regularization(subset: Any) -> bool:
    return isinstance(subset, dict) and subset.get("is_reg") is True


def _onetrainer(path: str | Path, content: dict[str, Any]) -> ForeignFile:
    """A preset or a whole configuration of OneTrainer, with the lists that it names."""
    method = content.get("training_method")
    if method is not None:
        _check_kind(path, "OneTrainer", str(method), method == "EMBEDDING")
    content = {**content}
    for name, value in _named_files("OneTrainer", content):
        if _found(path, value) is None:
            continue  # the key stays, and is named as one that was not taken over
        included = _json(_included(path, name, value))
        if not isinstance(included, list):
            raise SettingsError(f"--config {path}, {name}: {value} is not a list in JSON; give OneTrainer's file")
        if not content.get(_UNDER[name]):
            content[_UNDER[name]] = included
        content.pop(name, None)
    content = {key: _in_use(value) if key in ("concepts", "samples") else value for key, value in content.items()}
    return ForeignFile("OneTrainer", tuple(_settings(path, _with_equal_embeddings(content))))


def _in_use(items: Any) -> Any:
    """The concepts or samples that are switched on, and are no regularization or validation images."""
    if not isinstance(items, list):
        return items
    kept = [one for one in items if not isinstance(one, dict) or one.get("enabled") is not False]
    return [one for one in kept if not isinstance(one, dict) or one.get("type", "STANDARD") == "STANDARD"]


def _with_equal_embeddings(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the embedding before additional ones, each with all that the others have."""
    further = content.get("additional_embeddings")
    if not isinstance(further, list) or not all(isinstance(one, dict) for one in further):
        return content
    defaults = {"placeholder": "<embedding>", "initial_embedding_text": "*", "token_count": 1}
    main = content.get("embedding")
    rest = {key: value for key, value in content.items() if key not in ("embedding", "additional_embeddings")}
    if not further:
        return rest | ({"embedding": main} if main is not None else {})
    main = main if isinstance(main, dict) else {}
    return {"embedding": {**defaults, **main}, "additional_embeddings": [{**defaults, **one} for one in further]} | rest


def _found(path: str | Path, named: str) -> Path | None:
    """A file that a configuration names: as seen from the working directory, else from the configuration."""
    for place in (Path(named), Path(path).parent / named):
        try:
            if place.is_file():
                return place
        except (OSError, ValueError):
            return None
    return None


def _included(path: str | Path, key: str, named: str) -> str:
    place = _found(path, named)
    try:
        return user_files.read_text(place or named, user_files.SETTINGS)
    except OSError as error:
        reason = error.strerror
    except (UnicodeDecodeError, ValueError):
        reason = "it is no text"
    raise SettingsError(f"--config {path}, {key}: {visible(named)[:200]} cannot be read ({reason}); correct its path")


# ------------------------------------------------------------------------------------------------------- plain values


def _plain(path: str | Path, node: Any, seen: list[int], level: int = 0) -> Any:
    """A node of YAML as dictionaries, lists and texts. Its scalars keep their text as written: `1e-4`, `True`."""
    import yaml

    seen[0] += 1
    _check_size(path, level, seen[0])
    if isinstance(node, yaml.MappingNode):
        return {key.value if isinstance(key.value, str) else "a nested value": _plain(path, value, seen, level + 1)
                for key, value in node.value}  # fmt: skip
    if isinstance(node, yaml.SequenceNode):
        return [_plain(path, item, seen, level + 1) for item in node.value]
    return None if node.tag == _NULL else node.value


def _check_size(path: str | Path, level: int, count: int) -> None:
    if level > MOST_LEVELS:
        raise SettingsError(f"--config {path} is nested too deeply; a configuration has few levels")
    if count > MOST_VALUES:
        raise SettingsError(f"--config {path} has more than {MOST_VALUES:,} values, far more than a configuration has")


def _settings(path: str | Path, content: Any) -> list[Setting]:
    """All keys with a value, in order."""
    found: list[Setting] = []
    _collect(path, content, (), found)
    return found


def _collect(path: str | Path, value: Any, key: tuple[str, ...], found: list[Setting]) -> None:
    _check_size(path, len(key), len(found))
    if isinstance(value, dict):
        for name, inner in value.items():
            _collect(path, inner, (*key, str(name)), found)
    elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        for item in value:
            _collect(path, item, key, found)
    else:
        values = value if isinstance(value, list) else [value]
        texts = tuple(text for text in map(_text, values) if text)
        if not all(map(is_text, texts)):
            raise SettingsError(f"--config {path}, {visible('.'.join(key))[:60]} holds half of a character; write it "
                                "without an escape")  # fmt: skip
        if texts:
            found.append(Setting(".".join(key), texts))


def _text(value: Any) -> str:
    """A plain value as it would be typed; empty for what is not set."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
