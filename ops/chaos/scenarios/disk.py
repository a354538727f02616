"""No room left for files."""

import asyncio

from ops.chaos.processes import family, limit_files
from ops.chaos.scenario import UNAVAILABLE, Book, Stage


BOOK = Book()
_HELD_SECONDS = 8.0


@BOOK.add(
    "disk-full",
    protects="large bodies get 503 and small ones go on; a blob is whole before a row refers to it; images are retried",
    may_refuse_large=UNAVAILABLE,
)
async def disk_full(stage: Stage) -> None:
    """Ingress and workers can write no file (bodies over 64 KiB, images, logs) for eight seconds."""
    stage.say("lets no file grow")
    deadline = asyncio.get_running_loop().time() + _HELD_SECONDS
    try:
        while asyncio.get_running_loop().time() < deadline:
            limit_files(_writers(stage), 0)  # again and again: a worker may have started a new child
            await asyncio.sleep(0.5)
    finally:
        limit_files(_writers(stage), None)
    stage.say("lets files grow again")


def _writers(stage: Stage) -> list[int]:
    return [pid for name in ("ingress-", "worker-") for each in stage.at.alive(name) for pid in family(each.pid)]
