"""Each kind has its use case, and each use case its kind: looked at before anything is read, not once it is asked."""

from collections.abc import Collection, Mapping

from contracts.kinds import Kind


def unserved_because(
    side: str, kinds: Mapping[str, Kind], use_cases: Collection[str], tables: Mapping[str, Collection[str]]
) -> str | None:
    """Say, in one line, which kinds of a side (`commands`, `queries`) lack a use case or the other way round.

    `tables` hold what else is said of kinds, by what each is about: they name none that has no use case.
    """
    wanted = {kind.name for kind in kinds.values() if kind.topic == side}
    served = set(use_cases)
    faults = [f"the kind '{name}' has no use case" for name in sorted(wanted - served)]
    faults += [f"the use case '{name}' has no kind" for name in sorted(served - wanted)]
    for about, names in tables.items():
        faults += [f"'{name}' among {about} is no kind" for name in sorted(set(names) - wanted)]
    return f"{side} are not served as the contract says: {', '.join(faults)}" if faults else None
