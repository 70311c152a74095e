"""Guards: DuckDB, Polars and pandas open an export as it is, and count, sum and type it as the ledger has it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pandas
import polars

BERLIN = "Europe/Berlin"


def expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise SystemExit(f"{what}: expected {expected}, found {found}")


class Ledger:
    """What the events say, as `daybook tail` prints them."""

    def __init__(self, lines: Path):
        self.events = [json.loads(line) for line in lines.read_text().splitlines()]
        self.bets = [json.loads(e["payload"]) for e in self.events if e["kind"] == "bet_resolved"]
        self.days = [self.time(e).date() for e in self.events if e["kind"] == "bet_resolved"]

    @staticmethod
    def time(event: dict) -> datetime:
        return datetime.fromtimestamp(event["recordedMicros"] / 1_000_000, UTC)

    def expected(self) -> tuple:
        """Events, hashes, and of resolved bets: count, staked, paid, lost, the jackpot's part, days."""
        bets = self.bets
        lost = sum(bet["threshold"] is None for bet in bets)
        return (len(self.events), len({e["hash"] for e in self.events}), len(bets), sum(b["amount"] for b in bets),
                sum(b["payout"] for b in bets), lost, sum(b["jackpotShare"] for b in bets), len(set(self.days)))


def with_duckdb(directory: Path, ending: str, ledger: Ledger) -> None:
    read = {"parquet": "read_parquet", "csv": "read_csv", "jsonl": "read_json_auto"}[ending]

    def table(name: str) -> str:
        return f"{read}('{directory}/{name}/*.{ending}')"

    events = duckdb.sql(f"SELECT count(*), count(DISTINCT hash) FROM {table('events')}").fetchall()[0]
    bets = duckdb.sql(
        "SELECT count(*), sum(amount)::BIGINT, sum(payout)::BIGINT, (count(*) FILTER (WHERE NOT won))::BIGINT, "
        f"sum(jackpot_share_millicoins)::BIGINT, count(DISTINCT utc_day) FROM {table('bet_resolved')}"
    ).fetchall()[0]
    expect(f"DuckDB, {ending}", (*events, *bets), ledger.expected())
    types = dict(duckdb.sql(f"DESCRIBE SELECT * FROM {table('bet_resolved')}").project("column_name, column_type").fetchall())
    # A day and a time of a text file are guessed by the tool; the types of Parquet are what stands in it.
    times = {"parquet": "TIMESTAMP WITH TIME ZONE"}.get(ending, types["recorded_at"])
    expected = {"seq": "BIGINT", "utc_day": "DATE", "recorded_at": times, "amount": "BIGINT", "won": "BOOLEAN",
                "pot_id": "VARCHAR", "threshold": "BIGINT"}
    expect(f"DuckDB's types, {ending}", {name: types[name] for name in expected}, expected)
    if ending == "parquet":
        days_elsewhere(table("bet_resolved"), ledger)
        groups = duckdb.sql(f"SELECT max(row_group_num_rows) FROM parquet_metadata('{directory}/events/*.parquet')")
        expect("row groups", groups.fetchall()[0][0] <= 122_880, True)


def days_elsewhere(bets: str, ledger: Ledger) -> None:
    """The page's query for days of another zone; one on which clocks change is made of two times."""
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone = '{BERLIN}'")
    found = connection.sql(f"SELECT recorded_at::DATE AS day, count(*) FROM {bets} GROUP BY ALL ORDER BY ALL").fetchall()
    times = pandas.Series([ledger.time(e) for e in ledger.events if e["kind"] == "bet_resolved"])
    counted = times.dt.tz_convert(BERLIN).dt.date.value_counts().sort_index()
    expect("days in Berlin", found, [(day, int(count)) for day, count in counted.items()])
    # 2026-03-29 has 23 hours there: from 23:00 UTC to 22:00 UTC.
    edges = [("2026-03-28T22:59:59Z", date(2026, 3, 28)), ("2026-03-28T23:00:00Z", date(2026, 3, 29)),
             ("2026-03-29T21:59:59Z", date(2026, 3, 29)), ("2026-03-29T22:00:00Z", date(2026, 3, 30))]
    for time, day in edges:
        expect(time, connection.sql(f"SELECT TIMESTAMPTZ '{time}'::DATE").fetchall(), [(day,)])


def with_polars(directory: Path, ending: str, ledger: Ledger) -> None:
    read = {"parquet": polars.read_parquet, "csv": polars.read_csv, "jsonl": polars.read_ndjson}[ending]

    def table(name: str) -> polars.DataFrame:
        return polars.concat([read(file) for file in sorted((directory / name).glob(f"*.{ending}"))])

    events, bets = table("events"), table("bet_resolved")
    found = (events.height, events["hash"].n_unique(), bets.height, bets["amount"].sum(), bets["payout"].sum(),
             int((~bets["won"]).sum()), bets["jackpot_share_millicoins"].sum(), bets["utc_day"].n_unique())
    expect(f"Polars, {ending}", found, ledger.expected())
    if ending == "parquet":
        types = [str(bets.schema[name]) for name in ("seq", "amount", "utc_day", "pot_id", "won")]
        expect("Polars' types", types, ["Int64", "Int64", "Date", "String", "Boolean"])


def with_pandas(directory: Path, ending: str, ledger: Ledger) -> None:
    def read(file: Path) -> pandas.DataFrame:
        if ending == "csv":
            return pandas.read_csv(file)
        return pandas.read_json(file, lines=True)

    def table(name: str) -> pandas.DataFrame:
        return pandas.concat([read(file) for file in sorted((directory / name).glob(f"*.{ending}"))])

    events, bets = table("events"), table("bet_resolved")
    found = (len(events), events["hash"].nunique(), len(bets), int(bets["amount"].sum()), int(bets["payout"].sum()),
             int((~bets["won"]).sum()), int(bets["jackpot_share_millicoins"].sum()), bets["utc_day"].nunique())
    expect(f"pandas, {ending}", found, ledger.expected())
    for name in ("seq", "amount", "threshold", "payout"):
        expect(f"pandas' type of {name}, {ending}", str(bets[name].dtype), "int64")


def check(directory: Path, ending: str, ledger: Ledger) -> None:
    """Opens an export with each tool. pandas reads Parquet by another library, which is left out."""
    with_duckdb(directory, ending, ledger)
    with_polars(directory, ending, ledger)
    if ending != "parquet":
        with_pandas(directory, ending, ledger)
