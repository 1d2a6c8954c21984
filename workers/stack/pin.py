"""Write `artifacts.lock` anew: resolve what the embedded stack runs, bring every file, note its sha256.

Run by hand when a version is raised here: `python -m workers.stack.pin`.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Final

import jgo
from jgo.maven import Artifact, MavenContext

_KAFKA: Final = "org.apache.kafka:kafka_2.13:4.3.0"
_POSTGRES: Final = "io.zonky.test.postgres:embedded-postgres-binaries-{platform}:18.4.0"
_COMPILER: Final = "org.eclipse.jdt:ecj:3.43.0"
_PLATFORMS: Final = ("linux-amd64", "linux-arm64v8", "darwin-amd64", "darwin-arm64v8")
_HEADER: Final = "# Written by `python -m workers.stack.pin`: what the embedded stack fetches, by version and sha256.\n"


def main() -> None:
    """Resolve, bring, hash, write. Takes a minute; the network is needed."""
    kafka = [f"{jar.groupId}:{jar.artifactId}:{jar.version}" for jar in jgo.resolve(_KAFKA)]
    # Kafka logs to slf4j 1 and brings log4j 2: the bridge between the two, of log4j's own version.
    log4j = next(name.rsplit(":", 1)[1] for name in kafka if name.startswith("org.apache.logging.log4j:log4j-core:"))
    kafka.append(f"org.apache.logging.log4j:log4j-slf4j-impl:{log4j}")
    postgres = [_POSTGRES.format(platform=platform) for platform in _PLATFORMS]
    lines = [_HEADER]
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder))
        for group, coordinates in (("kafka", kafka), ("postgres", postgres), ("java", [_COMPILER])):
            lines.append(f"[{group}]\n")
            lines.extend(_pin(_artifact(context, name), name) for name in coordinates)
            lines.append("\n")
    Path(__file__).with_name("artifacts.lock").write_text("".join(lines).rstrip("\n") + "\n", encoding="utf-8")


def _artifact(context: MavenContext, coordinate: str) -> Artifact:
    group, name, version = coordinate.split(":")
    return context.project(group, name).at_version(version).artifact()


def _pin(artifact: Artifact, coordinate: str) -> str:
    content = artifact.resolve().read_bytes()
    return f'"{coordinate}" = {{ bytes = {len(content)}, sha256 = "{hashlib.sha256(content).hexdigest()}" }}\n'


if __name__ == "__main__":
    main()
