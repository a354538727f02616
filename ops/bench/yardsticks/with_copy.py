"""Yardstick ``copy``: read the same pages and ``COPY`` their rows into a table; nothing is compared or written twice.

``python -m ops.bench.yardsticks.with_copy`` with JSON in the first argument prints the seconds that it took.
"""

import asyncio
import sys
import time

import aiohttp
import asyncpg
import msgspec
import uvloop


class Order(msgspec.Struct, frozen=True):
    """What to read, with which ``Authorization``, and where to put it."""

    base_url: str
    authorization: str
    credential: str
    limit: int
    pages: int
    database_url: str


class _Answer(msgspec.Struct):
    response: list[msgspec.Raw]


class _Row(msgspec.Struct):
    id_transaction: str


_answer = msgspec.json.Decoder(_Answer)
_row = msgspec.json.Decoder(_Row)


async def load(order: Order) -> float:
    """Two pages at a time: while one is read, another is written. The seconds from the first call to the last row."""
    pool = await asyncpg.create_pool(order.database_url, min_size=2, max_size=2)
    await pool.execute("CREATE TABLE transactions (id text PRIMARY KEY, data jsonb NOT NULL)")
    places = iter(range(order.pages))
    async with aiohttp.ClientSession(headers={"Authorization": order.authorization}) as client:

        async def work() -> None:
            for place in places:
                query = f"id_credential={order.credential}&limit={order.limit}&skip={place * order.limit}"
                async with client.get(f"{order.base_url}/v1/transactions?{query}") as answer:
                    rows = _answer.decode(await answer.read()).response
                records = [(_row.decode(row).id_transaction, bytes(row).decode()) for row in rows]
                async with pool.acquire() as connection:
                    await connection.copy_records_to_table("transactions", records=records, columns=["id", "data"])

        began = time.perf_counter()
        await asyncio.gather(work(), work())
        took = time.perf_counter() - began
    await pool.close()
    return took


def main() -> None:
    """Carry out the order in the first argument."""
    took = uvloop.run(load(msgspec.json.decode(sys.argv[1], type=Order)))
    sys.stdout.write(f"{took}\n")


if __name__ == "__main__":
    main()
