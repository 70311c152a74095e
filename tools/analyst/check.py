"""Guards: an analyst's tools read a whole ledger without options, and the tables are what the events tell."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import export
import pandas
import polars
import questions

HERE = Path(__file__).parent
# More events than the tools look at before they decide what a column is.
PLAYERS, DAYS = 60, 12
FLAT = ["seq", "recordedMicros", "stream", "streamPrev", "kind", "version", "commandId", "place", "size", "payload",
        "hash"]  # fmt: skip
INTEGERS = ["seq", "recordedMicros", "streamPrev", "version", "place", "size"]


def run(daybook: Path, *arguments: str) -> str:
    done = subprocess.run([str(daybook), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"daybook {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        sys.exit(f"{what}: expected {expected}, found {found}")


def read_with_all(lines: Path, events: list[dict]) -> None:
    """Each tool reads the file as it lies; counts and sums must be those of the events."""
    stakes = sum(json.loads(e["payload"])["amount"] for e in events if e["kind"] == "bet_placed")
    expected = (len(events), len({e["kind"] for e in events}), sum(e["streamPrev"] for e in events), stakes)

    table = f"read_json_auto('{lines}')"
    counts = duckdb.sql(f"SELECT count(*), count(DISTINCT kind), sum(streamPrev)::BIGINT FROM {table}").fetchall()[0]
    staked = duckdb.sql(
        f"SELECT sum((payload->>'$.amount')::BIGINT)::BIGINT FROM {table} WHERE kind = 'bet_placed'"
    ).fetchall()[0]
    expect("DuckDB", (*counts, *staked), expected)
    expect("DuckDB's columns", duckdb.sql(f"SELECT * FROM {table}").columns, FLAT)

    frame = polars.read_ndjson(lines)
    bets = frame.filter(polars.col("kind") == "bet_placed")
    staked = bets["payload"].str.json_path_match("$.amount").cast(polars.Int64).sum()
    expect("Polars", (frame.height, frame["kind"].n_unique(), frame["streamPrev"].sum(), staked), expected)
    expect("Polars' columns", frame.columns, FLAT)
    expect("Polars' integers", [str(frame.schema[name]) for name in INTEGERS], ["Int64"] * len(INTEGERS))

    frame = pandas.read_json(lines, lines=True)
    bets = frame[frame["kind"] == "bet_placed"]
    staked = int(bets["payload"].map(json.loads).map(lambda payload: payload["amount"]).sum())
    expect("pandas", (len(frame), frame["kind"].nunique(), int(frame["streamPrev"].sum()), staked), expected)
    expect("pandas' integers", [str(frame[name].dtype) for name in INTEGERS], ["int64"] * len(INTEGERS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--daybook", type=Path, required=True, help="the command")
    daybook = parser.parse_args().daybook.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        for players, days, seed in [(8, 5, 1), (20, 8, 2), (PLAYERS, DAYS, 3)]:
            data = str(Path(scratch) / f"demo-{seed}")
            run(daybook, "demo", "--players", str(players), "--days", str(days), "--seed", str(seed), "--data", data)
            for script in ("fold.py", "answers.py"):
                done = subprocess.run([sys.executable, str(HERE / script), data, "--daybook", str(daybook)],
                                      check=False)  # fmt: skip
                expect(f"{script} of seed {seed}", done.returncode, 0)
        lines = Path(scratch) / "events.jsonl"
        lines.write_text(run(daybook, "tail", "--data", data))
        events = [json.loads(line) for line in lines.read_text().splitlines()]
        read_with_all(lines, events)
        print(f"{len(events)} events read by DuckDB, Polars and pandas")
        for ending in ("parquet", "csv", "jsonl"):
            out = Path(scratch) / ending
            run(daybook, "export", "--format", ending, "--out", str(out), "--data", data)
            export.check(out, ending, export.Ledger(lines))
            run(daybook, "verify", "--export", str(out), "--data", data)
            print(f"an export as {ending} read by them too")
        print(f"{questions.check(Path(scratch) / 'parquet')} questions have the answers that QUESTIONS.md tells")


if __name__ == "__main__":
    main()
