"""An incident id leads from the answer to the log: what a batch logs at its end is what it tells its callers."""

from typing import Any

from structlog.testing import capture_logs

from handlers.commands import COMMANDS
from persistence.engine import PoolSettings, connected, create_engine
from tests.direct import Direct


async def fragile(command: Any, uow: Any, context: Any) -> Any:  # noqa: ANN401
    """Break on a name; else create the customer."""
    if command.name == "Poison":
        raise ArithmeticError
    return await COMMANDS["create_customer"](command, uow, context)


async def test_a_batch_tried_again_logs_each_defect_once(database_url: str) -> None:
    """One message breaks in its use case, another in the flush, so that the batch is halved: two incidents, no more."""
    engine = create_engine(database_url, PoolSettings(), "incidents")
    async with connected(engine) as connection:
        await connection.execute("alter table customers add constraint broken check (name <> 'Refused')")
    direct = Direct(engine)
    direct.pipeline.use_cases = {**COMMANDS, "create_customer": fragile}
    names = ["Poison", "Ada", "Bob", "Refused", "Eve"]
    batch = [
        direct.record("create_customer", {"name": name, "email": f"{name}@example.com"}, message_id=name, key=b"k")
        for name in names
    ]
    with capture_logs() as lines:
        answers = [envelope for envelope, _, _ in await direct.decide(*batch)]
    assert [answer["statusCode"] for answer in answers] == [500, 201, 201, 500, 201]
    told = [answer["data"]["details"]["incident"] for answer in answers if answer["statusCode"] == 500]
    assert [line["incident"] for line in lines if line["event"] == "use_case_failed"] == told
    await engine.dispose()
