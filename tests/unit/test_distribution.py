"""Tests are shared out so that no process waits long for another at the end."""

import pytest

from tests.distribution import shares_servers, turn_of, unit_of

ONE_OF_A_FILE = {
    "tests/unit/test_text.py": True,
    "tests/contracts/test_site.py": True,
    "tests/integration/test_stack.py": True,
    "tests/integration/test_transport.py": True,
    "tests/integration/test_outages.py": False,
    "tests/integration/test_health.py": False,
    "tests/backfill/test_takeover.py": False,
}
"""Whether the file stays together."""


@pytest.mark.parametrize("file", ONE_OF_A_FILE)
def test_what_is_given_out_at_once(file: str) -> None:
    """Short tests, and those that share servers, are given out by file; the others one by one."""
    one, other = f"{file}::test_one[a::b]", f"{file}::test_other"
    assert (unit_of(one) == unit_of(other)) == ONE_OF_A_FILE[file]


def test_what_takes_longest_begins() -> None:
    """Files that start servers come before single tests, and what needs no server comes at the end."""
    files = sorted(ONE_OF_A_FILE, key=lambda file: turn_of(f"{file}::test_one"))
    needs = [shares_servers(file) for file in files]
    assert needs == sorted(needs, reverse=True)
    assert all(file.startswith(("tests/unit/", "tests/contracts/")) for file in files[-2:])
