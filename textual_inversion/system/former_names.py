"""Names that ppdiffusers and paddlenlp import from other packages, although newer releases of these lack them.

Without them `import ppdiffusers` fails. Nobody calls them on the way to a model: ppdiffusers' `cached_download` serves
pipelines of code from the hub, and paddlenlp's `download` the AI Studio hub, and neither is used here. So each gets a
stand-in that says what it is.
"""

import importlib
from collections.abc import Callable
from typing import Any, NoReturn

# Module -> the names that its newer releases lack: huggingface_hub since 0.26, aistudio-sdk since 0.3.
_FORMER = {"huggingface_hub": ("cached_download",), "aistudio_sdk.hub": ("download",)}


def provide_former_names() -> None:
    """Put stand-ins where the installed release lacks a name; names that it has are left alone."""
    for module_name, names in _FORMER.items():
        module = importlib.import_module(module_name)
        for name in names:
            if not hasattr(module, name):
                setattr(module, name, _stand_in(module_name, name))


def _stand_in(module: str, name: str) -> Callable[..., NoReturn]:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"the installed {module} has no {name}, which was for an older ppdiffusers")

    return refuse
