"""What variables of other programs in this environment do to Penstock."""

from ops.checks.finding import Finding, ok
from shared.strangers import told


def check_environment() -> list[Finding]:
    """A line for each kind that is set; names alone, since values may be secrets. None of them needs mending."""
    return [ok(f"environment, {row.treatment}", f"{', '.join(row.names)}: {row.sentence}") for row in told()]
