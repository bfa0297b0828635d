"""Settings that every test needs before paddle is imported."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from textual_inversion.runtime import prepare_environment  # noqa: E402

prepare_environment()


@pytest.fixture(autouse=True)
def numpys_own_bool(monkeypatch):
    """ppdiffusers puts Python's bool in place of np.bool for the whole process, on which numpy.testing stumbles."""
    monkeypatch.setattr(np, "bool", np.bool_, raising=False)
