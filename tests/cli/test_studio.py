"""Who may reach the page, and with which options its server runs."""

import socket
import subprocess
import sys

import pytest
import tomllib

from helpers.paths import ROOT
from textual_inversion.cli.studio import check_access, is_loopback, parse, settled
from textual_inversion.studio import server
from textual_inversion.system.errors import SettingsError


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "127.3.2.1", "[::1]"])
def test_this_machine_needs_no_password(address):
    assert is_loopback(address)
    assert parse(["--address", address], {}).address.password is None


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.7", "example.org", "127.0.0.1.evil.example", "", None])
def test_others_do_and_are_told_why(address):
    assert not is_loopback(address)
    with pytest.raises(SettingsError, match="lets other machines in, .*give a --password"):
        check_access(address, None)
    check_access(address, "long enough")


def test_the_password_comes_from_the_command_line_or_better_from_the_environment():
    assert parse(["--server.address=0.0.0.0", "--password", "very secret"], {}).address.password == "very secret"
    config = parse(["--address", "0.0.0.0"], {"TEXTUAL_INVERSION_PASSWORD": "from outside"})
    assert config.address.password == "from outside" and config.address.address == "0.0.0.0"
    with pytest.raises(SettingsError, match="--password is shorter than 8 letters"):
        parse(["--password", "abc"], {})


@pytest.mark.parametrize(
    "words", [["--port", "0"], ["--port", "70000"], ["--port", "x"], ["--roots", ""], ["--adress", "x"]]
)
def test_what_cannot_be_is_refused_in_one_line_that_names_the_flag(words):
    with pytest.raises(SettingsError) as refused:
        parse(words, {})
    assert words[0] in str(refused.value) and "\n" not in str(refused.value)


def test_the_page_is_built_without_paddle():
    pytest.importorskip("streamlit")
    code = "import sys, textual_inversion.studio.pages.frame; print({'paddle', 'torch', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


def test_streamlits_own_names_are_taken_too():
    config = settled(["--server.port", "9000", "--server.headless=true"], {})
    assert config.address.port == 9000 and config.address.headless


def test_streamlit_run_takes_the_same_options_as_the_command():
    written = tomllib.loads((ROOT / "apps/.streamlit/config.toml").read_text())
    flat = {}

    def walk(prefix, table):
        for name, value in table.items():
            walk(f"{prefix}{name}.", value) if isinstance(value, dict) else flat.update({prefix + name: value})

    walk("", written)
    assert flat == server.OPTIONS
    assert flat["server.enableXsrfProtection"] is True and flat["server.enableCORS"] is True
    assert flat["server.address"] == "127.0.0.1" and flat["browser.gatherUsageStats"] is False


def test_without_a_password_only_names_of_this_machine_are_answered():
    hosts = server.options_of(parse([], {}))["server.allowedHosts"]
    assert hosts == ["localhost", "127.0.0.1", "::1"]
    assert "server.allowedHosts" not in server.options_of(parse(["--address", "0.0.0.0", "--password", "x" * 9], {}))


def test_streamlit_knows_every_option():
    config = pytest.importorskip("streamlit.config")
    known = config.get_config_options()
    assert [name for name in [*server.OPTIONS, "server.allowedHosts"] if name not in known] == []


def test_a_port_that_is_taken_is_said_in_one_line():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"--port {port} is taken"):
            server.refuse_taken_port("127.0.0.1", port)
    with pytest.raises(SettingsError, match="--address 192.0.2.1"):
        server.refuse_taken_port("192.0.2.1", port)
