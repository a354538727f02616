"""An application that is a trial to deal with, as a process of its own: ``PORT DATABASE SECRET``.

Three of ten messages are answered with an error, half of those after their effect was done; answers are slow. Each
effect is done once, as the message's id tells, and written down in the order in which it came.
"""

import random
import sqlite3
import sys
import threading
import time

import orjson
from standardwebhooks.webhooks import Webhook

from handlers.receiving import Message, Receiver, Reply


def main(port: int, database: str, secret: str) -> None:
    """Serve until killed."""
    lock = threading.Lock()
    store = sqlite3.connect(database, check_same_thread=False, isolation_level=None)
    store.execute("PRAGMA journal_mode = WAL")
    store.execute("PRAGMA synchronous = OFF")
    store.execute("CREATE TABLE IF NOT EXISTS effects (id TEXT PRIMARY KEY, record TEXT, seq INT, n INTEGER)")
    store.execute("CREATE TABLE IF NOT EXISTS messages (n INTEGER PRIMARY KEY)")
    chance = random.Random(port)  # noqa: S311 - repeatable trouble guards nothing
    verifier = Webhook(secret)

    def reply(message: Message) -> Reply:
        verifier.verify(message.body, dict(message.headers), json_parse=False)
        change = orjson.loads(message.body)["data"]
        with lock:
            fails, afterwards, wait = chance.random() < 0.3, chance.random() < 0.5, chance.random() * 0.02
        time.sleep(wait)
        with lock:
            store.execute("INSERT INTO messages DEFAULT VALUES")
            if not fails or afterwards:
                store.execute(
                    "INSERT OR IGNORE INTO effects VALUES (?, ?, ?, (SELECT max(n) FROM messages))",
                    (message.id, change["external_id"], change["seq"]),
                )
        return Reply(500 if fails else 204)

    Receiver(reply, port).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
