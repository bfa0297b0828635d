"""Settings that every test needs before paddle is imported."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from textual_inversion.system.environment import prepare_environment  # noqa: E402

prepare_environment()


@pytest.fixture(autouse=True)
def numpys_own_bool(monkeypatch):
    """ppdiffusers puts Python's bool in place of np.bool for the whole process, on which numpy.testing stumbles."""
    monkeypatch.setattr(np, "bool", np.bool_, raising=False)
