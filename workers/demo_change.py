"""The zero-downtime change of `make run`: the product's catalogue moves to its new column while requests go on.

It speaks through Kafka, as an operator's tools would; only the taking back, before any worker runs, is done by hand.
"""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.status import Status

from persistence import counters
from persistence.backfill.states import ACTIVE
from persistence.engine import Engine, connected
from persistence.phase_wishes import find_change
from persistence.phases import PRODUCT_CATALOG, Phase, advance
from persistence.seed import SEEDED_PRODUCTS, SeedSizes, seed
from workers.asking import Asking, Caller, Desk, Side
from workers.tables import print_table

CALLERS: Final = 20
"""The live requests are spread over so many callers, so that none of them reaches its rate limit."""
PAUSE_S: Final = 0.04
"""Between two requests of the live traffic; with two at a time some 30 a second."""
BEFORE_S: Final = 1.0
LOOK_EVERY_S: Final = 0.1
GIVE_UP_S: Final = 60.0
ROLES: Final = ("catalog_admin", "catalog_operator")
P99: Final = 0.99


class DemonstrationError(Exception):
    """Something was not as it should be; the text says what."""


async def prepare(engine: Engine, products: int) -> bool:
    """Make products once, and take the change back to its first phase; False where it was contracted for good.

    No worker runs yet, so no step has to wait for one; after a crash the heartbeats of before run out first.
    """
    async with connected(engine) as connection:
        missing = products - int(await counters.total(connection, SEEDED_PRODUCTS))
        change = await find_change(connection, PRODUCT_CATALOG)
    if missing > 0:
        await seed(engine, SeedSizes(products=missing), datetime.now(UTC), lambda _, __: None)
    phase = Phase(change.phase) if change is not None else Phase.CONTRACTED
    if phase is Phase.CONTRACTED:
        return False
    for earlier in reversed(list(Phase)[: list(Phase).index(phase)]):
        await advance(engine, PRODUCT_CATALOG, earlier, by="make run")
    return True


@dataclass
class Demonstration:
    """One run of it. `run` keeps its callers apart from those of other runs."""

    desk: Desk
    console: Console
    run: str
    _asked: int = 0
    _during: str = "before"
    _latencies: dict[str, list[float]] = field(default_factory=lambda: {"before": [], "during": []})
    _commands: int = 0
    _refused: list[str] = field(default_factory=list)

    async def __call__(self) -> None:
        """Move the catalogue, show how; raises `DemonstrationError`."""
        try:
            async with asyncio.timeout(GIVE_UP_S):
                with self.console.status("Live queries and commands, before anything moves …") as status:
                    async with self._live_traffic():
                        await self._cancel_what_is_left()
                        await asyncio.sleep(BEFORE_S)
                        self._during = "during"
                        moved = await self._move(status)
        except TimeoutError:
            msg = f"the change was not through after {GIVE_UP_S:.0f} s"
            raise DemonstrationError(msg) from None
        self._show(moved)
        if self._refused:
            msg = f"{len(self._refused)} live requests failed, the first: {self._refused[0]}"
            raise DemonstrationError(msg)

    # The change ------------------------------------------------------------------------------------------------------
    async def _move(self, status: Status) -> Mapping[str, Any]:
        if (await self._view())["state"] is not None:
            await self._start(status, "Emptying the new column of the run before", reverse=True)
        await self._advance(status, Phase.DUAL_WRITE)
        moved = await self._start(status, "Filling the new column")
        await self._advance(status, Phase.BACKFILLED)
        await self._operate("verify_backfill", {"name": PRODUCT_CATALOG})
        await self._until_ended(status, "Verifying")
        await self._advance(status, Phase.READING_NEW)
        return moved

    async def _start(self, status: Status, title: str, *, reverse: bool = False) -> Mapping[str, Any]:
        await self._operate("start_backfill", {"name": PRODUCT_CATALOG, "reverse": reverse})
        return await self._until_ended(status, title)

    async def _until_ended(self, status: Status, title: str) -> Mapping[str, Any]:
        while True:
            view = await self._view()
            one = view["verify"] or view
            status.update(f"{title}: {one['rows_walked']} of {one['rows_estimated']} rows, {one['state']}")
            if one["state"] not in ACTIVE:
                if one["state"] != "completed":
                    msg = f"the {one['kind']} of {one['name']} is {one['state']}: {one['reason'] or one['quarantine']}"
                    raise DemonstrationError(msg)
                return one
            await asyncio.sleep(LOOK_EVERY_S)

    async def _advance(self, status: Status, to: Phase) -> None:
        status.update(f"Advancing to {to}, as soon as every worker follows")
        await self._operate("advance_phase", {"change": PRODUCT_CATALOG, "to": to})
        change = (await self._view())["change"]
        while change["wish"] == "waiting":
            await asyncio.sleep(LOOK_EVERY_S)
            change = (await self._view())["change"]
        if change["wish"] == "refused":
            raise DemonstrationError(str(change["reason"]))

    async def _cancel_what_is_left(self) -> None:
        """End a run that an interrupted demonstration left behind."""
        while (one := (view := await self._view()).get("verify") or view)["state"] in ACTIVE:
            if one["state"] != "cancelling":
                await self._operate("cancel_backfill", {"name": PRODUCT_CATALOG})
            await asyncio.sleep(LOOK_EVERY_S)

    async def _view(self) -> Mapping[str, Any]:
        view: Mapping[str, Any] = await self._operate("get_backfill", {"name": PRODUCT_CATALOG}, side="queries")
        return view

    async def _operate(self, kind: str, payload: Mapping[str, object], side: Side = "commands") -> Any:  # noqa: ANN401
        envelope = await self._ask(side, kind, payload)
        if envelope["type"] == "error":
            msg = f"{kind} was answered: {envelope['message']}"
            raise DemonstrationError(msg)
        return envelope["data"]

    # The traffic -----------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def _live_traffic(self) -> Any:  # noqa: ANN401
        products = (await self._operate("list_products", {"page_size": 50}, side="queries"))["items"]
        mnemonics = [product["mnemonic"] for product in products]
        tasks = [asyncio.create_task(self._live(mnemonics[place::2], place)) for place in range(2)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            self._refused += [repr(one) for one in ended if isinstance(one, Exception)]

    async def _live(self, mnemonics: Sequence[str], offset: int) -> None:
        """Read products, and change every fourth one that is read."""
        number = offset
        while True:
            number += 1
            mnemonic = mnemonics[number % len(mnemonics)]
            started = time.perf_counter()
            self._note(await self._ask("queries", "get_product", {"mnemonic": mnemonic}))
            self._latencies[self._during].append(time.perf_counter() - started)
            if number % 4 == 0:
                catalog = {"run": self.run, "number": number}
                self._note(await self._ask("commands", "update_product", {"mnemonic": mnemonic, "catalog": catalog}))
                self._commands += 1
            await asyncio.sleep(PAUSE_S)

    def _note(self, envelope: Mapping[str, Any]) -> None:
        if envelope["type"] == "error":
            self._refused.append(str(envelope["message"]))

    async def _ask(self, side: Side, kind: str, payload: Mapping[str, object]) -> Mapping[str, Any]:
        self._asked += 1
        caller = Caller(f"demo-{self.run}-{self._asked % CALLERS}", ROLES)
        return (await self.desk.ask(Asking(side, kind, payload, caller), GIVE_UP_S)).body

    # What is shown ---------------------------------------------------------------------------------------------------
    def _show(self, moved: Mapping[str, Any]) -> None:
        print_table(
            ["", "live queries", "p99"],
            [
                [f"{when} the change", str(len(seconds)), f"{p99(seconds) * 1000:.0f} ms"]
                for when, seconds in self._latencies.items()
            ],
            title="The catalogue moved to its new column, and nobody was stopped",
            console=self.console,
        )
        self.console.print(
            f"{moved['rows_done']} rows filled in {moved['seconds']:.2f} s, and verified; {self._commands} commands"
            " meanwhile; reads come from the new column now.",
            highlight=False,
        )


def p99(seconds: Sequence[float]) -> float:
    """Return the 99th percentile, by nearest rank; 0 of nothing."""
    ordered = sorted(seconds)
    return ordered[math.ceil(P99 * len(ordered)) - 1] if ordered else 0.0
