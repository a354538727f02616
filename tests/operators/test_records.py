"""``penstock records list``: exact digits, bounded memory."""

from typing import Any

from operators.rows import NOW, new_id, record


KEYS = ["provider", "account", "kind", "external_id", "data", "fetched_at", "changed_at", "deleted_at", "event_id"]


def test_a_record_has_the_keys_of_the_contract_and_the_digits_that_the_provider_sent(store: Any, penstock: Any) -> None:
    """Numbers go through as they stand: more digits than a float has, trailing zeros, and text in any script."""
    event_id = new_id()
    data = '{"a": 22339.470000000001, "b": 1.10, "c": 12345678901234567890.123456789, "d": "\\u001b é 漢", "e": [{}]}'
    store.run(record("abc", data, event_id=event_id, deleted_at=NOW))
    result = penstock("records", "list", "--json")
    (row,) = result.lines
    assert (0, "") == (result.status, result.errors)
    assert KEYS == list(row)
    assert {
        "provider": "imin",
        "account": "main",
        "kind": "imin.customer-account",
        "external_id": "abc",
        "data": {
            "a": 22339.470000000001,
            "b": 1.1,
            "c": 12345678901234567890.123456789,
            "d": "\x1b é 漢",
            "e": [{}],
        },
        "fetched_at": "2026-05-01T12:00:00Z",
        "changed_at": "2026-05-01T12:00:00Z",
        "deleted_at": "2026-05-01T12:00:00Z",
        "event_id": str(event_id),
    } == row
    for digits in ("22339.470000000001", "1.10", "12345678901234567890.123456789"):
        assert digits.encode() in result.output


def test_records_come_in_the_order_of_their_keys_and_filters_apply_together(store: Any, penstock: Any) -> None:
    """Provider, account and kind narrow the list down; 50 are printed unless told otherwise."""
    wanted = {"provider": "paybook", "account": "k", "kind": "paybook.account"}
    store.run(
        *(record(f"{number:03}", **wanted) for number in range(60, 0, -1)),
        record("other", **{**wanted, "provider": "imin"}),
        record("other", **{**wanted, "account": "l"}),
        record("other", **{**wanted, "kind": "paybook.credential"}),
    )
    filters = ("--provider", "paybook", "--account", "k", "--kind", "paybook.account")
    listed = penstock("records", "list", *filters, "--json").lines
    assert [f"{number:03}" for number in range(1, 51)] == [row["external_id"] for row in listed]
    assert 60 == len(penstock("records", "list", *filters, "--limit", 0, "--json").lines)
    assert 63 == len(penstock("records", "list", "--limit", 0, "--json").lines)


def test_people_see_the_beginning_of_the_data(store: Any, penstock: Any) -> None:
    """A table with a row a record; long data is cut, with dots."""
    store.run(record("abc", '{"text": "' + "x" * 200 + '"}'))
    output = penstock("records", "list").output.decode()
    assert '{"text": "xxxxx' in output
    assert "xxx..." in output


def test_two_hundred_thousand_records_stream_in_bounded_memory(store: Any, penstock: Any) -> None:
    """Listing 200,000 of them takes no more memory than listing a few thousand, give or take a little."""
    store.run("""
        INSERT INTO records (provider, account, kind, external_id, data, began, fetched_at, changed_at)
        SELECT 'paybook', 'main', 'paybook.transaction', lpad(n::text, 8, '0'),
               jsonb_build_object('amount', n + 0.10, 'description', repeat('x', 200)), 1, now(), now()
        FROM generate_series(1, 200000) AS n
    """)
    few = _megabytes_of(penstock, 5000)
    all_of_them = _megabytes_of(penstock, 0)
    assert 200_000 == all_of_them[1]
    assert all_of_them[0] < few[0] + 30


def _megabytes_of(penstock: Any, limit: int) -> tuple[float, int]:
    """The peak memory of the command alone, and how many lines it printed."""
    measured = (
        "import resource, runpy, sys, atexit;"
        "atexit.register(lambda: sys.stderr.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)));"
        f"sys.argv = ['penstock', 'records', 'list', '--json', '--limit', '{limit}'];"
        "runpy.run_module('ops', run_name='__main__')"
    )
    result = penstock(program=["-c", measured])
    assert 0 == result.status
    return int(result.errors) / 1024, result.output.count(b"\n")
