"""Yardstick ``dlt``: the dlt library's REST source reads the same pages and merges them into the same Postgres.

``python -m ops.bench.yardsticks.with_dlt`` with JSON in the first argument prints the seconds that it took.
"""

import sys
import time
from typing import Any

import dlt
import msgspec
from dlt.destinations import postgres
from dlt.sources.rest_api import rest_api_source


class Order(msgspec.Struct, frozen=True):
    """What to read, with which ``Authorization``, where to put it, and the folder for dlt's own state."""

    base_url: str
    authorization: str
    credential: str
    limit: int
    database_url: str
    folder: str


def source(order: Order) -> Any:
    """Paybook's transactions, page by page, upserted by their id."""
    return rest_api_source(
        {
            "client": {
                "base_url": order.base_url,
                "headers": {"Authorization": order.authorization},
                "paginator": {
                    "type": "offset",
                    "limit": order.limit,
                    "offset_param": "skip",
                    "limit_param": "limit",
                    "total_path": None,
                    "stop_after_empty_page": True,
                },
            },
            "resources": [
                {
                    "name": "transactions",
                    "primary_key": "id_transaction",
                    "write_disposition": "merge",
                    "endpoint": {
                        "path": "/v1/transactions",
                        "params": {"id_credential": order.credential},
                        "data_selector": "response",
                    },
                }
            ],
        }
    )


def main() -> None:
    """Carry out the order in the first argument."""
    order = msgspec.json.decode(sys.argv[1], type=Order)
    pipeline = dlt.pipeline(
        "bench",
        destination=postgres(credentials=order.database_url),
        dataset_name="paybook",
        pipelines_dir=order.folder,
    )
    began = time.perf_counter()
    pipeline.run(source(order)).raise_on_failed_jobs()
    sys.stdout.write(f"{time.perf_counter() - began}\n")


if __name__ == "__main__":
    main()
