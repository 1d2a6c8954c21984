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


WAY: Final = ROOT / "workers" / "pipeline" / "commands.py"
LONGEST_FILE: Final = 300
LONGEST_FUNCTION: Final = 30


def functions_too_long(source: str) -> list[str]:
    """Name each function, or method, of more lines than are read at a glance; its signature and docstring count."""
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    ]


def test_the_way_of_a_command_is_read_from_top_to_bottom() -> None:
    """One file of at most 300 lines, no function of it longer than 30, and its steps stand in their order."""
    source = WAY.read_text()
    assert len(source.splitlines()) <= LONGEST_FILE
    assert functions_too_long(source) == []
    places = [
        source.index(step) for step in ("intake.take_in(", "inbox.look_up(", "._refuse(", "._decide(", "._answer(")
    ]
    places += [source.index(step) for step in ("uow.load(", "._dispatch(", "uow.flush(", "uow.store(", "uow.commit(")]
    assert places[:5] == sorted(places[:5])
    assert places[5:] == sorted(places[5:])


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n" + "    x = 1\n" * 30,
        "async def f():\n" + "    x = 1\n" * 30,
        "class C:\n    def f(self):\n" + "        x = 1\n" * 30,
        "def g():\n    def f():\n" + "        x = 1\n" * 30,
        "def f(\n" + "    x,\n" * 28 + "):\n    pass",
        'def f():\n    """\n' + "    text\n" * 28 + '    """',
    ],
)
def test_a_function_that_is_too_long_is_found(source: str) -> None:
    """Whatever it is, and whatever its lines hold."""
    assert "f" in functions_too_long(source)
    assert functions_too_long("def f():\n" + "    x = 1\n" * 29) == []


def names_of(path: Path) -> set[str]:
    """Name the classes and type aliases of a module."""
    tree = ast.parse(path.read_text())
    classes = {node.name.lstrip("_") for node in tree.body if isinstance(node, ast.ClassDef)}
    aliases = {
        target.id.lstrip("_")
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id[:1].isupper() and not target.id.isupper()
    }
    return classes | aliases


@pytest.mark.parametrize(
    "word", ["Delivery", "Progress", "Verdict", "Patience", "Turns", "Place", "DeadLetters", "Consequences", "Attempt"]
)
def test_a_word_means_one_thing(word: str) -> None:
    """At most one class or alias of pipeline and edge bears it."""
    modules = [path for part in ("pipeline", "kafka") for path in (ROOT / "workers" / part).glob("*.py")]
    meanings = [path for path in [*modules, ROOT / "workers" / "ports.py"] if word in names_of(path)]
    assert len(meanings) <= 1
