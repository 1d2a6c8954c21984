"""Each protection is there for a reason, and a test knows it: taken out, the test fails.

Every mutant gets a copy of the code with its patch applied, where the tests that it names are run by the same Python.
They must fail by themselves: an error before them, a test that does not exist or a time-out count for nothing.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from tests.forked import ROOT
from tests.mutants.patching import Mutant, PatchError, mutants
from tests.servers import Servers

SIZE: Final = os.environ.get("SUITE_SIZE", "short")
CHOSEN: Final = [one for one in mutants() if SIZE == "long" or one.quick]
TIMEOUT_S: Final = 400.0
"""For one run of pytest with few tests; each test has bounds of its own that are far below."""
A_TEST_S: Final = 15.0
"""For each test beyond the first: what they take together, many times over."""
_LEFT_OUT: Final = shutil.ignore_patterns(".git", ".venv", ".venv-tools", ".local", ".*_cache", ".hypothesis")
"""What is compiled comes along with the times of its sources: what a patch changes is compiled anew, no more."""


def run(tree: Path, tests: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Run tests in a copy of the code; returns what became of each: passed, failure or error, and of what."""
    report = tree / "report.xml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--quiet", f"--junitxml={report}", *tests]
    ended = subprocess.run(
        command,
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S + A_TEST_S * (len(tests) - 1),
        check=False,
    )
    assert ended.returncode in {0, 1}, ended.stdout[-3000:] + ended.stderr[-3000:]
    results = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own file
        problems = [
            f"{child.tag}: {child.get('message', '')[:500]}" for child in case if child.tag in {"failure", "error"}
        ]
        results[f"{case.get('classname')}.{case.get('name')}"] = problems[0] if problems else "passed"
    return results


def environment_of(tree: Path, servers: Servers | None) -> dict[str, str]:
    """Make the environment: the code is the copy's, the servers are this session's, or its own."""
    kept = {name: value for name, value in os.environ.items() if name not in {"SUITE_SIZE", "PYTEST_ADDOPTS"}}
    kept |= {"PYTHONPATH": str(tree)}
    if servers is not None:
        kept |= {
            "TEST_STACK": "env",
            "KAFKA_BOOTSTRAP_SERVERS": servers.env.kafka_bootstrap_servers,
            "DATABASE_URL": servers.env.database_url,
            "REDIS_URL": servers.env.redis_url,
        }
    return kept


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the code, without what tools have made."""
    return Path(shutil.copytree(ROOT, tmp_path / "code", ignore=_LEFT_OUT))


@pytest.mark.mutants
def test_the_code_as_it_is(tree: Path, stack: Servers) -> None:
    """Without a patch all of these tests pass: what they notice later is the patch."""
    for own_servers in (False, True):
        tests = sorted({test for one in CHOSEN if one.own_servers is own_servers for test in one.noticed_by})
        if tests:
            results = run(tree, tests, environment_of(tree, None if own_servers else stack))
            assert {name: result for name, result in results.items() if result != "passed"} == {}


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", CHOSEN, ids=lambda one: one.name)
def test_mutant(mutant: Mutant, tree: Path, stack: Servers) -> None:
    """Without its protection the code fails the tests that are named for it."""
    mutant.apply(tree)
    results = run(tree, mutant.noticed_by, environment_of(tree, None if mutant.own_servers else stack))
    assert {result.partition(": ")[0] for result in results.values()} == {"failure"}, (
        f"{mutant.removes}: not noticed by {results}"
    )


def test_every_patch_applies() -> None:
    """All patches still fit the code, also those that the short form leaves out."""
    found = mutants()
    assert len(found) >= 12
    for mutant in found:
        for hunk in mutant.hunks:
            places = (ROOT / hunk.file).read_text(encoding="utf-8").count(hunk.before)
            assert places == 1, f"{mutant.name} fits {hunk.file} at {places} places"


def test_a_patch_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    """A hunk whose text is not there, or is there twice, is refused and changes nothing."""
    code = tmp_path / "code.py"
    code.write_text("a\nb\na\n")
    for line in ("a", "c"):
        patch = tmp_path / "some.patch"
        patch.write_text(f"Removes: x\nNoticed by: y\n\n--- a/code.py\n+++ b/code.py\n@@ -1 +1 @@\n-{line}\n+d\n")
        with pytest.raises(PatchError):
            Mutant.read(patch).apply(tmp_path)
        assert code.read_text() == "a\nb\na\n"
