"""Children of a worker are forked only while no other thread of their parent is in the midst of anything.

A child has every lock as it was at that moment. One that another thread of the parent held is never released in it:
a child that was forked while the watchdog sent its canary stood still in redis-py's pool of connections, until Celery
gave it up a minute later. https://docs.python.org/3/library/os.html#os.fork
"""

import threading
from typing import Final


FORK_LOCK: Final = threading.Lock()
"""Held by a thread of the parent while it does anything but wait, and while a child is forked."""
