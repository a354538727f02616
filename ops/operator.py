"""Who sits at the command line."""

import getpass
import os


def operator() -> str:
    """The name of the operating system's user, or its number where it has no name (as in a container)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid {os.getuid()}"
