"""Start, steer and verify backfills; ask for a step of a change. A wish is recorded; workers carry it out."""

from collections.abc import Awaitable

from contracts.backfills import RESOURCE, AdvancePhase, NamedBackfill, SetBackfillRate, StartBackfill
from contracts.envelope import unchanged, updated
from contracts.errors import CatalogError
from handlers.backfill import RunView
from handlers.context import Context
from handlers.result import Failure, Result, Success
from handlers.unit_of_work import UnitOfWork


async def start_backfill(command: StartBackfill, uow: UnitOfWork, _: Context) -> Result:
    """200 the run; 404; 409 while one is active, or where there is no reverse."""
    return await _wished(
        command.name,
        uow.backfills.start(
            command.name, dry_run=command.dry_run, reverse=command.reverse, rate_rows_per_s=command.rate
        ),
    )


async def pause_backfill(command: NamedBackfill, uow: UnitOfWork, _: Context) -> Result:
    """200 the run; 404; 409 where it cannot be paused."""
    return await _wished(command.name, uow.backfills.pause(command.name))


async def resume_backfill(command: NamedBackfill, uow: UnitOfWork, _: Context) -> Result:
    """200 the run; 404; 409 unless it is pausing or paused."""
    return await _wished(command.name, uow.backfills.resume(command.name))


async def cancel_backfill(command: NamedBackfill, uow: UnitOfWork, _: Context) -> Result:
    """200 the run; 404; 409 where it has ended."""
    return await _wished(command.name, uow.backfills.cancel(command.name))


async def set_backfill_rate(command: SetBackfillRate, uow: UnitOfWork, _: Context) -> Result:
    """200 the run; 404; 409 unless it is active."""
    return await _wished(command.name, uow.backfills.set_rate(command.name, command.rows_per_s))


async def retry_backfill(command: NamedBackfill, uow: UnitOfWork, _: Context) -> Result:
    """200 the run; 404; 409 unless it failed, or rows were put aside."""
    return await _wished(command.name, uow.backfills.retry(command.name))


async def verify_backfill(command: NamedBackfill, uow: UnitOfWork, _: Context) -> Result:
    """200 the run with its verify; 404; 409 unless it has ended."""
    return await _wished(command.name, uow.backfills.verify(command.name))


async def advance_phase(command: AdvancePhase, uow: UnitOfWork, context: Context) -> Result:
    """200 the change with the wish; 404; 409 for a step that does not exist, or while one waits; neutral when there."""
    try:
        before = await uow.changes.find(command.change)
        after = await uow.changes.wish(command.change, command.to, context.caller.replace("\n", " ").strip())
    except CatalogError as error:
        return Failure(error)
    if after == before:
        return Success(unchanged(RESOURCE, command.change, after))
    return Success(updated(RESOURCE, command.change, after))


async def _wished(name: str, wish: Awaitable[RunView]) -> Result:
    try:
        view = await wish
    except CatalogError as error:
        return Failure(error)
    return Success(updated(RESOURCE, name, dict(view)))
