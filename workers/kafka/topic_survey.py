"""Looking at the topics as an operator wants it: everything that is found, nothing refused."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from contracts.topics import Topics
from workers.kafka.log_reader import LogReader
from workers.kafka.topics import TopicCheck, plans

_FEWEST_IN_SYNC: Final = 2
"""With more than one replica, one must be able to fail without losing what was acknowledged."""


@dataclass(frozen=True, slots=True)
class Planned:
    """How this deployment's topics are meant to be."""

    partitions: int
    replication_factor: int
    min_insync_replicas: int
    accept_auto_create: bool
    outcomes_kept: timedelta


@dataclass(slots=True)
class TopicState:
    """What a look at one topic found."""

    name: str
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class TopicSurvey(LogReader):
    """A `LogReader` that also judges the topics."""

    async def survey(self, topics: Topics, planned: Planned) -> list[TopicState]:
        """Look at the four topics, and at the brokers (under the name `brokers`)."""
        brokers = TopicCheck()
        if not planned.accept_auto_create:
            await self._check_brokers(brokers)
        found = [TopicState("brokers", brokers.problems, brokers.warnings)]
        missing = await self._missing([plan.name for plan in _plans(topics, planned)])
        for request in (topics.commands, topics.queries):
            letters = topics.dead_letters(request)
            for name in (request, letters):
                if name in missing:
                    found.append(TopicState(name, ["it does not exist"]))
                    continue
                state = TopicState(name)
                found.append(state)
                check = TopicCheck(state.problems, state.warnings)
                if name == request:
                    await self._check_requests(name, check)
                if topics.commands in {request, name}:
                    await self._check_lifetime(name, planned.outcomes_kept, check)
                await self._compare(state, topics, planned)
            if {request, letters}.isdisjoint(missing):
                await self._check_sizes(request, letters, TopicCheck(found[-1].problems, found[-1].warnings))
        return found

    async def _compare(self, state: TopicState, topics: Topics, planned: Planned) -> None:
        (plan,) = (one for one in _plans(topics, planned) if one.name == state.name)
        state.warnings += (await self._differences([plan]))[state.name]
        (described,) = await self._admin.describe_topics([state.name])
        partitions: list[dict[str, Any]] = described["partitions"]
        if leaderless := [one["partition"] for one in partitions if one["leader"] < 0]:
            state.problems.append(f"partitions {leaderless} have no leader")
        elif behind := [one["partition"] for one in partitions if len(one["isr"]) < len(one["replicas"])]:
            state.warnings.append(f"partitions {behind} have fewer replicas in sync than they should")
        replicas = min((len(one["replicas"]) for one in partitions), default=1)
        config = await self._topic_config(state.name, ("min.insync.replicas",))
        in_sync = int(config["min.insync.replicas"]) if config else _FEWEST_IN_SYNC
        if replicas >= _FEWEST_IN_SYNC and in_sync < _FEWEST_IN_SYNC:
            state.problems.append(
                f"min.insync.replicas is {in_sync} of {replicas}: what one broker took could be lost with it"
            )
        elif replicas < _FEWEST_IN_SYNC:
            state.warnings.append("it has one replica: what its broker loses is lost")
        elif in_sync >= replicas:
            state.warnings.append(f"min.insync.replicas is {in_sync} of {replicas}: one broker away stops everything")


def _plans(topics: Topics, planned: Planned) -> list[Any]:
    return plans(
        topics,
        partitions=planned.partitions,
        replication_factor=planned.replication_factor,
        min_insync_replicas=planned.min_insync_replicas,
    )
