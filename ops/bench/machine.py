"""What the figures were measured on, so that others can tell what they mean for them."""

import asyncio
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import redis

from ops.bench.statistics import median
from ops.supervisor.stores import Stores
from shared.store.postgres import connect_once


_PACKAGES: Final = (
    "penstock",
    "celery",
    "kombu",
    "starlette",
    "uvicorn",
    "asyncpg",
    "uvloop",
    "fastapi",
    "sqlalchemy",
    "dlt",
)
_FLUSHES: Final = 50
_PAGE: Final = b"\0" * 8192


def described(stores: Stores, folder: Path) -> dict[str, str]:
    """Machine, versions, and the settings that decide what "durable" costs here."""
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores, shared by everything",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load average before": f"{os.getloadavg()[0]:.2f}",
        "postgres": asyncio.run(_postgres(stores.database_url)),
        "redis": _redis(stores.redis_url),
        "disk": f"8 KiB written and flushed (fdatasync) in {_flush_ms(folder):.2f} ms (median of {_FLUSHES})",
        "versions": ", ".join(f"{name} {_version(name)}" for name in _PACKAGES),
    }


async def _postgres(url: str) -> str:
    connection = await connect_once(url)
    try:
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "full_page_writes")
        return ", ".join([f"{name} {await connection.fetchval('SELECT current_setting($1)', name)}" for name in names])
    finally:
        await connection.close()


def _redis(url: str) -> str:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        settings = client.config_get("append*")
        return (
            f"{client.info('server')['redis_version']}, appendonly {settings['appendonly']},"
            f" appendfsync {settings['appendfsync']}"
        )


def _flush_ms(folder: Path) -> float:
    file = folder / "flush"
    took = []
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY)
    try:
        for _ in range(_FLUSHES):
            os.pwrite(descriptor, _PAGE, 0)
            began = time.perf_counter()
            os.fdatasync(descriptor)
            took.append(1000 * (time.perf_counter() - began))
    finally:
        os.close(descriptor)
        file.unlink()
    return median(took)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"
