"""A worker process whose loop hangs: ``hanging_process.py FOLDER``; settings from the environment."""

import sys
import time
from pathlib import Path

from shared.settings import Settings
from shared.watching import ConfigurationWatch
from workers.process import WorkerProcess


async def hang() -> None:
    """For longer than anybody waits."""
    time.sleep(600)  # noqa: ASYNC251 - that is what is asked for


if __name__ == "__main__":
    process = WorkerProcess(Settings.read(), ConfigurationWatch(Path(sys.argv[1]) / "penstock.toml"), "worker-imin")
    process.start()
    process.run(hang())
