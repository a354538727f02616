"""What the fork server loads before anything is forked from it: the commands that `penstock up` runs for good.

Only to be imported there. Nothing of it starts a thread or opens a connection, and nothing has been sealed or given an
id yet: what is forked has nothing but code in common.
"""

import gc
import os
import signal
from typing import Final

from ops.cli import load
from ops.supervisor.launch import end_with


SERVER_PID: Final = os.getpid()
"""The fork server's, also in what was forked from it: whoever finds another parent has lost it already."""

end_with(os.getppid(), signal.SIGKILL)
# It ends with the supervisor and not before it, whoever tells everybody to end: what was forked would be told twice.
for _each in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(_each, signal.SIG_IGN)

for _name in ("ingress", "worker", "relay"):
    load(_name)

# Never walked through again: a collection of garbage would write to every page that the processes share.
gc.collect()
gc.freeze()
