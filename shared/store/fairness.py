"""Taking due rows of a provider's accounts in turn, so that one account's storm holds no other account up."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Room:
    """How many rows a claim may take: ``whole`` of all accounts together, and of each account its own share.

    ``busy`` holds the accounts whose share is smaller than ``others``, the share of each account that is not in it.
    """

    whole: int
    others: int
    busy: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, whole: int) -> "Room":
        """Room in which no account is held back."""
        return cls(whole, whole)

    def without(self, accounts: Collection[str]) -> "Room":
        """The same with none for these accounts."""
        return replace(self, busy={**self.busy, **dict.fromkeys(accounts, 0)}) if accounts else self

    def columns(self) -> tuple[int, int, list[str], list[int]]:
        """The four arguments of ``in_turn``."""
        return self.whole, self.others, [*self.busy], [*self.busy.values()]

    def share(self, account: str) -> int:
        """How many of this account's."""
        return min(self.whole, self.busy.get(account, self.others))


def in_turn(table: str, waits: str, order: str, *, due: str = "", provided: str = "TRUE") -> str:
    """CTEs of a WITH RECURSIVE that lead to ``in_turn (id, state)``: locked rows, of each account alike many.

    Arguments of the statement: $1 the provider, $2 to $5 a Room's columns, $6 the account after which to begin.
    ``waits`` is the condition of the index (provider, account, ``order``), ``due`` what else must hold of a row,
    ``provided`` what must hold for any to be taken.

    The accounts are found by leaps in the index (https://wiki.postgresql.org/wiki/Loose_indexscan): what a claim
    costs grows with the number of accounts that have anything open, not with the rows of one that has many.
    """
    return f"""
        account_names (account) AS (
            SELECT account FROM (
                SELECT account FROM {table} WHERE provider = $1 AND {waits} AND account > $6 ORDER BY account LIMIT 1
            ) AS first
            UNION ALL
            SELECT following.account FROM account_names a CROSS JOIN LATERAL (
                SELECT account FROM {table}
                WHERE provider = $1 AND {waits} AND account > a.account ORDER BY account LIMIT 1
            ) AS following
        ), with_room AS MATERIALIZED (
            SELECT a.account, coalesce(busy.room, $3) AS room
            FROM account_names a
            LEFT JOIN unnest($4::text[], $5::int[]) AS busy (account, room) USING (account)
            {_has_due(table, waits, order, due)}
            WHERE coalesce(busy.room, $3) > 0 AND {provided}
            ORDER BY a.account
        ), in_turn AS MATERIALIZED (
            SELECT mine.id, mine.state FROM with_room CROSS JOIN LATERAL (
                SELECT id, state FROM {table}
                WHERE provider = $1 AND account = with_room.account AND {waits} AND {due or "TRUE"}
                ORDER BY {order}
                LIMIT least(with_room.room, greatest($2::int / (SELECT count(*) FROM with_room), 1))
                FOR UPDATE SKIP LOCKED
            ) AS mine
            LIMIT $2
        )
    """  # noqa: S608 - put together from constants of the callers' modules


def any_due(table: str, waits: str, order: str, due: str) -> str:
    """An expression: whether ``in_turn`` would find a row, whatever room there is. $1 is the provider."""
    return f"""
        EXISTS (
            WITH RECURSIVE account_names (account) AS (
                (SELECT account FROM {table} WHERE provider = $1 AND {waits} ORDER BY account LIMIT 1)
                UNION ALL
                SELECT following.account FROM account_names a CROSS JOIN LATERAL (
                    SELECT account FROM {table}
                    WHERE provider = $1 AND {waits} AND account > a.account ORDER BY account LIMIT 1
                ) AS following
            )
            SELECT FROM account_names a {_has_due(table, waits, order, due)}
        )
    """  # noqa: S608 - put together from constants of the callers' modules


def _has_due(table: str, waits: str, order: str, due: str) -> str:
    """Joined to account_names a: those of which anything is due. Where all that waits is due, they all are."""
    if not due:
        return ""
    return f"""
        CROSS JOIN LATERAL (
            SELECT FROM {table} WHERE provider = $1 AND account = a.account AND {waits} AND {due}
            ORDER BY {order} LIMIT 1
        ) AS has_due
    """


def next_after(room: Room, accounts: Iterable[str]) -> str:
    """After which account the next claim begins: where there were more accounts than room, it goes on with the rest."""
    served = set(accounts)
    return max(served) if 0 < room.whole <= len(served) else ""
