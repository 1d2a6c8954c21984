"""Ask the read models over orders."""

from collections.abc import Sequence
from datetime import UTC, date

from contracts.customers import ANALYTICS, SUMMARY, CustomerAnalytics, GetCustomerSummary
from contracts.envelope import retrieved
from handlers.customer import customer_not_found
from handlers.queries.asked import Asked
from handlers.readers import Readers
from handlers.result import Failure, Result, Success
from handlers.summary import analytics_result, summary_result


async def get_customer_summaries(asked: Sequence[Asked[GetCustomerSummary]], readers: Readers) -> Sequence[Result]:
    """200 the summary of a living customer; 404. One statement for all."""
    found = await readers.summaries.get_many([one.query.customer_id for one in asked])
    return [
        Success(retrieved(SUMMARY, summary_result(summary)))
        if (summary := found.get(one.query.customer_id))
        else Failure(customer_not_found(one.query.customer_id))
        for one in asked
    ]


async def get_customer_analytics(asked: Sequence[Asked[CustomerAnalytics]], readers: Readers) -> Sequence[Result]:
    """200 the figures, as of the UTC day on which the broker stamped the question. One statement a day asked for."""
    days = [one.context.now.astimezone(UTC).date() for one in asked]
    answers: dict[date, Result] = {}
    for day in set(days):
        answers[day] = Success(retrieved(ANALYTICS, analytics_result(await readers.summaries.analytics(day), day)))
    return [answers[day] for day in days]
