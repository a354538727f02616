"""What an application imports: register handlers with ``on``; they receive a ``Change`` with a typed record.

    from penstock import Change, on
    from penstock.records import MagiclineCustomer

    @on("magicline.customer", ops={"created", "updated"})
    def keep(change: Change[MagiclineCustomer]) -> None:
        ...

The package that holds such functions names its modules as entry points of the group ``penstock.handlers``.
"""

from penstock.changes import Change
from penstock.handlers import Handler, on


__all__ = ["Change", "Handler", "on"]
