"""The command line as a whole: what it loads, how it is read, how it ends, and what it says to do next."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from contracts.errors import CatalogError
from migrations.runner import MigrationError
from persistence.backfill.definition import DefinitionError
from persistence.phases import PhaseRefusedError, UnknownPhaseError
from persistence.seed import SeedError
from tests.unit.test_settings import GOOD
from workers.cli import app
from workers.command_line.exits import Exit
from workers.command_line.mendable import mendable
from workers.command_line.session import operator_name
from workers.command_line.tree import COMMANDS, Tree, load, parse
from workers.dlq.errors import DeskError
from workers.operator_error import OperatorError
from workers.settings import SettingsError

ROOT: Final = Path(__file__).parent.parent.parent
SOURCES: Final = [
    path for folder in ("contracts", "migrations", "persistence", "workers") for path in (ROOT / folder).rglob("*.py")
]
IN_BACKTICKS: Final = re.compile(r"`catalog ([^`]+)`")
HEAVY: Final = ("asyncpg", "aiokafka", "sqlalchemy", "pydantic", "starlette", "uvloop", "contracts", "persistence")


@cache
def texts() -> list[tuple[str, str]]:
    """Return every text of ours that names the command line, by its place; what varies in it is a 1."""
    found = []
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        if "catalog " not in source:
            continue
        tree = ast.parse(source)
        passed_over = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):  # a docstring
                passed_over.add(node.value)
            if isinstance(node, ast.JoinedStr):
                passed_over.update(one for one in node.values if isinstance(one, ast.Constant))
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(one.value) if isinstance(one, ast.Constant) else "1" for one in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in passed_over:
                text = node.value
            else:
                continue
            if "catalog " in text:
                found.append((f"{path.relative_to(ROOT)}:{node.lineno}", text))
    return found


def hints() -> Iterator[tuple[str, str]]:
    """Go through every command that a text names: in backticks, or where the text is nothing else."""
    for place, text in texts():
        for found in IN_BACKTICKS.findall(text):
            yield place, found
        if re.match(rf"catalog ({'|'.join(COMMANDS)})\b", text):
            yield place, text.removeprefix("catalog ")


def every_command(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Go through every command that can be called."""
    context = group.make_context("catalog", [], resilient_parsing=True)
    for name in group.list_commands(context):
        _, command, _ = group.resolve_command(context, [name])
        if isinstance(command, TyperGroup):
            yield from every_command(command, (*path, name))
        else:
            yield (*path, name)


def test_every_hint_that_names_a_command_is_one() -> None:
    """Whoever copies it from an error gets what was promised: our own parser reads it to its end."""
    root = get_command(app)
    found = list(hints())
    assert len({text for _, text in found}) >= 8
    for place, text in found:
        try:
            parse(text.split(), root)
        except Exception as error:  # noqa: BLE001 - whatever the parser says
            pytest.fail(f"{place}: `catalog {text}` cannot be called: {error}")


@pytest.mark.parametrize(
    "line", ["migrat", "dlq replays --all", "dlq replay --al", "change advance", "backfill rate x y", "stack up --wipe"]
)
def test_a_line_that_cannot_be_called_is_found(line: str) -> None:
    """The parser of the test above refuses what the command line refuses."""
    with pytest.raises(Exception, match=r".") as refused:
        parse(line.split(), get_command(app))
    assert type(refused.value).__module__.startswith("typer._click")


def test_a_remedy_in_prose_names_its_command_in_backticks() -> None:
    """A command in a text that nobody reads by the parser would rot."""
    loose = re.compile(r"[^`\w/-]catalog (" + "|".join(COMMANDS) + r")\b")
    lines_to_copy = ("contracts/", "workers/demo.py")
    assert not [(place, text) for place, text in texts() if loose.search(text) and not place.startswith(lines_to_copy)]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_is_the_commands_own(name: str) -> None:
    """What the list says of a command, its own help says as well."""
    command = load(name)
    said = (command.help or "").split("\n", maxsplit=1)[0]
    place = COMMANDS[name]
    assert said.startswith(place.summary.rstrip(".").split(",")[0].split(";")[0]), (said, place.summary)
    assert place.summary.endswith(".")


def test_every_command_can_be_loaded_and_says_what_it_does() -> None:
    """None of the tree is a dead branch, and each has a sentence and a word for each option."""
    root = get_command(app)
    assert isinstance(root, Tree)
    commands = list(every_command(root))
    assert len(commands) >= 35
    for path in commands:
        context = root.make_context("catalog", [], resilient_parsing=True)
        command = load(path[0])
        for name in path[1:]:
            assert isinstance(command, TyperGroup)
            command = command.commands[name]
        assert command.help, path
        del context


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"]])
def test_what_is_asked_of_the_whole_loads_no_command(arguments: list[str]) -> None:
    """`catalog` alone is there at once: nothing that talks to a server is imported."""
    program = (
        f"import sys; sys.argv[1:] = {arguments!r}\n"
        "from workers.cli import main\n"
        "try: main()\n"
        f"finally: print([one for one in {HEAVY!r} if one in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert ended.stdout.splitlines()[-1] == "[]", ended


def test_each_exit_code_has_a_sentence_and_stands_in_the_help() -> None:
    """Scripts rely on the numbers: to change one is a decision."""
    assert {one.name: int(one) for one in Exit} == {"DONE": 0, "FAILED": 1, "USAGE": 2, "WARNED": 3, "INTERRUPTED": 130}
    shown = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "140"}).output.split())
    for one in Exit:
        assert f"Exit code {int(one)}: {one.meaning}" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_without_loading_commands(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The completion of the first level knows every command."""
    monkeypatch.setenv("_CATALOG_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", "catalog ")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "catalog ")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    ended = CliRunner().invoke(app, [], prog_name="catalog")
    assert set(COMMANDS) <= set(re.findall(r"[a-z]+", ended.output)), ended.output


def test_the_version_is_the_distributions() -> None:
    """An operator can say which release answered."""
    ended = CliRunner().invoke(app, ["--version"])
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", ended.output)
    assert ended.exit_code == Exit.DONE


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DeskError("which ones?"), "which ones?"),
        (OperatorError("no schema", hint="`catalog migrate`"), "no schema: `catalog migrate`"),
        (MigrationError("a revision of another release"), "a revision of another release"),
        (PhaseRefusedError("not yet"), "not yet"),
        (UnknownPhaseError("no change x"), "no change x"),
        (DefinitionError("it has no key"), "it has no key"),
        (SeedError("not empty"), "not empty"),
        (CatalogError("no backfill x"), "no backfill x"),
    ],
)
def test_what_an_operator_can_mend_is_one_line(error: Exception, line: str) -> None:
    """Each known error becomes one line with its remedy, wherever it was raised."""
    told = mendable(error)
    assert told is not None
    assert told.lines == [line]


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), RuntimeError("x"), OSError("x"), TypeError("x")])
def test_a_defect_is_nobodys_to_mend(error: Exception) -> None:
    """What we did not foresee keeps its traceback."""
    assert mendable(error) is None


def test_settings_are_a_line_each_and_usage() -> None:
    """Two wrong settings are two lines, and nothing was begun."""
    error = SettingsError(["A: is wrong", "B: is missing"])
    assert error.lines == ["A: is wrong", "B: is missing"]
    assert error.usage
    assert mendable(error) is error


@pytest.mark.parametrize("name", ["a b", "ü", "x" * 101, "a\tb", "a\nb"])
def test_a_name_for_the_record_is_printable(name: str) -> None:
    """Who acts can be read in every log and table."""
    with pytest.raises(OperatorError, match="--operator"):
        operator_name(name)


def test_settings_as_json_mask_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program reads the effective settings, and no secret."""
    monkeypatch.chdir(tmp_path)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    ended = CliRunner().invoke(app, ["settings", "--json"])
    read = json.loads(ended.output)
    assert read["KAFKA_BOOTSTRAP_SERVERS"] == GOOD["KAFKA_BOOTSTRAP_SERVERS"]
    assert GOOD["JWT_SECRET"] not in ended.output
