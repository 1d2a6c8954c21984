"""Show backfills, one or all."""

from contracts.backfills import RESOURCE, ListBackfills, NamedBackfill
from contracts.envelope import Page, listed, retrieved
from contracts.errors import CatalogError
from handlers.context import Context
from handlers.readers import Readers
from handlers.result import Failure, Result, Success


async def get_backfill(query: NamedBackfill, readers: Readers, _: Context) -> Result:
    """200 the last run, its verify, and the change of the same name with its last wish; 404."""
    try:
        view = await readers.backfills.get(query.name)
    except CatalogError as error:
        return Failure(error)
    return Success(retrieved(RESOURCE, {**view, "change": await readers.changes.find(query.name)}))


async def list_backfills(_: ListBackfills, readers: Readers, __: Context) -> Result:
    """200 every backfill, by name, on one page."""
    views = [dict(view) for view in await readers.backfills.list_all()]
    page = Page(views, len(views), 1, max(len(views), 1), has_more=False, next_cursor=None)
    return Success(listed(RESOURCE, page))
