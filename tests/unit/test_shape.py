"""How the code is laid out, where no other tool looks: who knows the classes of ends, and how a command's way reads."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import pytest

from workers.pipeline.ends import End

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("contracts", "handlers", "persistence", "migrations", "workers")
PIPELINE: Final = "workers.pipeline"
ENDS: Final = frozenset({one.__name__ for one in get_args(End)} | {"End"})


def ends_imported(source: str) -> list[str]:
    """Name what a module takes of the ends: a class of them from anywhere in the pipeline, or their module."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names if one.name == f"{PIPELINE}.ends"]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PIPELINE):
            names = {one.name for one in node.names}
            if node.module == f"{PIPELINE}.ends":
                found += sorted(names)
            elif node.module == PIPELINE:
                found += sorted(names & {"ends"})
            else:
                found += sorted(names & ENDS)
    return found


def outside_the_pipeline() -> Iterator[Path]:
    """Every module of the five packages but the pipeline's own."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if not path.is_relative_to(ROOT / "workers" / "pipeline"):
                yield path


def test_nobody_else_knows_an_end() -> None:
    """Outside the pipeline an end is known by its consequences alone."""
    modules = list(outside_the_pipeline())
    assert len(modules) > 100
    assert {str(path.relative_to(ROOT)): found for path in modules if (found := ends_imported(path.read_text()))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from workers.pipeline.ends import Applied",
        "from workers.pipeline.ends import PARKED",
        "import workers.pipeline.ends",
        "from workers.pipeline import ends as x",
        "from workers.pipeline.commands import Broken as B",
        "def f():\n    from workers.pipeline.delivery import Refused",
        "if 1:\n    from workers.pipeline.answering import End",
    ],
)
def test_whoever_knows_one_is_found(source: str) -> None:
    """By its module, by any module that has it, and wherever it is imported."""
    assert ends_imported(source)
    assert not ends_imported("from workers.pipeline.consequences import Consequences")
