"""A command's errors: one line and status 2 for the user's, a traceback for ours."""

import pytest

from textual_inversion.errors import SettingsError, run_command


def fail(error):
    def main():
        raise error

    return main


def test_a_users_error_is_one_line_and_status_2(capsys):
    with pytest.raises(SystemExit) as left:
        run_command(fail(SettingsError("--x is wrong;\n  take --y")))

    assert left.value.code == 2
    assert capsys.readouterr().err == "error: --x is wrong; take --y\n"


def test_our_own_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(fail(ZeroDivisionError()))


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (143, 143)])
def test_what_main_returns_is_the_status(returned, status):
    with pytest.raises(SystemExit) as left:
        run_command(lambda: returned)

    assert left.value.code == status
