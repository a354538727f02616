"""The examples at the end of each command's help."""

from rich.markup import escape


def examples(*lines: str) -> str:
    """An epilogue that shows these command lines."""
    return "\n".join(["Examples:", *(f"  {escape(line)}" for line in lines)])
