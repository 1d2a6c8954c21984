"""`catalog seed`: a believable data set, with a progress bar."""

from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from persistence.engine import Engine
from persistence.seed import SeedSizes, seed


async def seed_with_progress(engine: Engine, sizes: SeedSizes, as_of: datetime, console: Console | None = None) -> None:
    """Make the data set, spread over the days before `as_of`, and draw how far it is.

    Raises `persistence.seed.SeedError` where it cannot be made. After a crash, or Ctrl-C, what was made is sound and
    stays; another seed adds to it.
    """
    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        tasks = {
            what: progress.add_task(what, total=size, start=False)
            for what, size in (
                ("customers", sizes.customers),
                ("products", sizes.products),
                ("orders", sizes.orders),
            )
            if size
        }

        def made(what: str, rows: int) -> None:
            progress.start_task(tasks[what])
            progress.advance(tasks[what], rows)

        await seed(engine, sizes, as_of, made)
