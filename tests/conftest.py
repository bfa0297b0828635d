"""Settings that every test needs before paddle is imported."""

import os
import signal

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# nohup and a shell's & pass ignored signals on; the tests' children are to obey them.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from textual_inversion.system.environment import prepare_environment  # noqa: E402

prepare_environment()


@pytest.fixture(autouse=True)
def numpys_own_bool(monkeypatch):
    """ppdiffusers puts Python's bool in place of np.bool for the whole process, on which numpy.testing stumbles."""
    monkeypatch.setattr(np, "bool", np.bool_, raising=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny Stable Diffusion 1 base model, of the module's own: what is attached to it stays there."""
    from helpers.tiny_models import build_model
    from textual_inversion.models.base_model import load_base_model

    return load_base_model(build_model(tmp_path_factory.mktemp("base"), "sd1", "ppdiffusers"))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine that huggingface_hub talks to, with an empty cache."""
    from helpers.local_hub import LocalHub, use

    with LocalHub() as local:
        use(local, monkeypatch, tmp_path / "cache")
        yield local


@pytest.fixture(autouse=True)
def usual_signals():
    """A command that was stopped ignores further signals until its process ends, which is here the tests' own."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


TOLD = "told"  # a property of a test: what it did, said at the end


@pytest.fixture
def tell(record_property):
    """Notes a line about what a test did."""
    return lambda line: record_property(TOLD, line)


def pytest_terminal_summary(terminalreporter):
    """What tests in a browser did: the processes of pytest-xdist have no terminal to say it on."""
    reports = [one for some in terminalreporter.stats.values() for one in some if getattr(one, "when", "") == "call"]
    lines = [value for one in reports for name, value in one.user_properties if name == TOLD]
    if lines:
        terminalreporter.section("in a browser")
        for line in lines:
            terminalreporter.write_line(line)
