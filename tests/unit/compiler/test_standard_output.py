"""Standard output while code that is not ours is imported, also by several threads."""

import sys

import pytest

from lmprog.compiler.standard_output import sent_to_stderr


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_two_that_overlap_leave_standard_output_as_it_was(first_to_leave: int, capsys) -> None:
    before, inside = sys.stdout, [sent_to_stderr(), sent_to_stderr()]
    for each in inside:
        each.__enter__()
    print("first")
    inside.pop(first_to_leave).__exit__(None, None, None)
    print("second")
    inside.pop().__exit__(None, None, None)
    assert sys.stdout is before
    print("third")
    assert capsys.readouterr() == ("third\n", "first\nsecond\n")


def test_a_failed_import_puts_it_back() -> None:
    before = sys.stdout
    with pytest.raises(ZeroDivisionError), sent_to_stderr():
        raise ZeroDivisionError
    assert sys.stdout is before
