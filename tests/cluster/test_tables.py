"""Tables of many runs: what a spreadsheet and a terminal get of texts from outside."""

from textual_inversion.cluster.tables import aligned, as_csv, figure


def test_no_cell_is_a_formula_and_numbers_stay_numbers():
    text = as_csv([["a", "b"], ["=1+1", "-0.5"], ["@x", "+3e-05"], ["-rm", "a,b"], ["\x1b[31m", "é"]])

    assert text == "a,b\n'=1+1,-0.5\n'@x,+3e-05\n'-rm,\"a,b\"\n\ufffd[31m,é\n"


def test_rows_stand_in_columns_without_one():
    assert aligned([["x", "folder", "why"], ["longer", "f", "\x1b" * 70]], without="folder") == [
        "x       why", "longer  " + "\ufffd" * 60]  # fmt: skip


def test_figures_have_six_digits_or_none():
    assert (figure(None), figure(1 / 3), figure(20.0)) == ("", "0.333333", "20")
