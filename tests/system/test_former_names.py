"""Names that ppdiffusers imports from packages whose newer releases lack them."""

import subprocess
import sys

import aistudio_sdk.hub
import huggingface_hub
import pytest

from textual_inversion.system.former_names import provide_former_names

FORMER = [(huggingface_hub, "cached_download"), (aistudio_sdk.hub, "download")]
# Newer releases, in a process of its own, since this one has imported ppdiffusers.
WITHOUT = """
import aistudio_sdk.hub, huggingface_hub
for module, former in ((huggingface_hub, "cached_download"), (aistudio_sdk.hub, "download")):
    vars(module).pop(former, None)
    def brought(name, lazily=getattr(module, "__getattr__", None), former=former):
        if name == former or lazily is None:
            raise AttributeError(name)
        return lazily(name)
    module.__getattr__ = brought
from textual_inversion.system.environment import prepare_environment
prepare_environment()
import ppdiffusers, paddlenlp.transformers.aistudio_utils
print("imported")
"""


@pytest.mark.parametrize(("module", "name"), FORMER)
def test_a_name_that_is_lacking_gets_a_stand_in_that_says_so(monkeypatch, module, name):
    monkeypatch.setattr(module, name, None, raising=False)
    monkeypatch.delattr(module, name)
    if hasattr(module, name):  # a lazy module brings it back
        monkeypatch.setattr(module, "__getattr__", object().__getattribute__)

    provide_former_names()

    with pytest.raises(NotImplementedError, match=f"{module.__name__} has no {name}"):
        getattr(module, name)("x")


def test_names_that_are_there_are_left_alone(monkeypatch):
    for module, name in FORMER:
        monkeypatch.setattr(module, name, len, raising=False)

    provide_former_names()

    assert all(getattr(module, name) is len for module, name in FORMER)


@pytest.mark.slow
def test_ppdiffusers_can_be_imported_without_them():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "imported", done.stderr[-2000:]
