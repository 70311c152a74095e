#!/usr/bin/env python3
"""Set the two verifiers of daybook ledgers against each other: `daybook verify` and second_reader.py.

    check.py --daybook PATH [--ledger DIR]... [--demo-players N] [--damages N] [--seed S]

Two programs that were written apart, one from the documents alone, can only agree on every ledger, whole or
damaged, if FORMAT.md and RULEBOOK.md say what both do. Three parts:

    intact     a fresh demo, and a copy of each --ledger, must be intact to both, with the same head and state
    damages    N copies of a small ledger, each damaged in one way, must be found out by both, in the same place
    snapshots  one made here from the events must hold, and one with a forged state must not

All that is random follows from --seed. Exit status: 0 agreement, 1 a list of what does not agree.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, NamedTuple

import second_reader as reader
from second_reader import digest, varint

Row = list[Any]
SEQ, AT, STREAM, PREV, KIND, VERSION, COMMAND, PAYLOAD, HASH = range(9)
COLUMNS = ("seq", "recorded_at", "stream", "stream_prev", "kind", "version", "command", "payload", "hash")
TABLES = {
    version: [statement.strip() for statement in schema.strip().split("\n\n")[:2]]
    for version, schema in reader.SCHEMAS.items()
}
GUARDS = [statement.strip() for statement in reader.SCHEMA_1.strip().split("\n\n")[2:]]
NUMBER = {kind.name: number for (number, _), kind in reader.KINDS.items()}
COMPARED = ("verdict", "events", "head_seq", "head_hash", "first_bad_seq", "status")
NO_KEYS = "no keys"


# --- The two verifiers ---

def ask_daybook(daybook: Path, data: Path, full: bool) -> dict[str, Any]:
    """What the first implementation reports, as a dict; an error has no more than a status and a detail."""
    command = [str(daybook), "verify", "--data", str(data), "--json", *(["--full"] if full else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    report = json.loads(done.stdout) if done.stdout.strip() else {"verdict": "error", "detail": done.stderr.strip()}
    return report | {"status": done.returncode}


def ask_reader(data: Path, full: bool) -> dict[str, Any]:
    """The same of second_reader.py, without a new process. Whatever it raises is a disagreement, not the end."""
    try:
        report = vars(reader.Verifier(data, [], full).run())
        return report | {"status": 0 if report["verdict"] == "intact" else 1}
    except (reader.CannotVerify, sqlite3.Error) as why:
        return {"verdict": "error", "detail": str(why), "status": 2}
    except Exception as why:  # noqa: BLE001
        return {"verdict": "crash", "detail": repr(why), "status": 3}


@dataclass
class Findings:
    """Disagreements, collected so that one run tells of all."""

    lines: list[str] = field(default_factory=list)

    def compare(self, name: str, daybook: Path, data: Path, full: bool, intact: bool | None) -> dict[str, Any]:
        """Ask both. `intact` says what both must find; None where the documents leave it to the ledger."""
        first, second = ask_daybook(daybook, data, full), ask_reader(data, full)
        name = f"{name}{', full' if full else ''}"
        fields = (*COMPARED, "state_hash") if first["verdict"] == "intact" else COMPARED
        for key in fields:
            if first.get(key) != second.get(key):
                self.lines.append(f"{name}: {key} is {first.get(key)!r} to daybook ({first['detail']}),"
                                  f" {second.get(key)!r} to the second reader ({second['detail']})")  # fmt: skip
        if intact is not None and (first["verdict"] == "intact") != intact:
            self.lines.append(f"{name}: must {'' if intact else 'not '}be intact, is {first['verdict']}: {first['detail']}")
        return second


# --- Ledgers in memory: read, changed, hashed again, written ---

class Ledger(NamedTuple):
    format: int
    genesis: list[Any]
    rows: list[Row]

    def copy(self) -> Ledger:
        return Ledger(self.format, list(self.genesis), [list(row) for row in self.rows])

    def command_of(self, index: int) -> range:
        """The indexes of the rows of the command that the row at `index` belongs to."""
        first = index - self.rows[index][COMMAND][0]
        return range(first, first + self.rows[first][COMMAND][1])

    def rehash(self, start: int = 0) -> None:
        """Make all hashes from `start` on fit again, as a forger would who has only the file."""
        before = self.rows[start - 1][HASH] if start else self.genesis[-1]
        for row in self.rows[start:]:
            if row[KIND] == NUMBER["season_started"]:  # it repeats the hash of the commitment's row
                payload = decode(row)
                there = self.rows[payload.commitment_seq - 1] if payload.commitment_seq < row[SEQ] else None
                if there is not None:
                    row[PAYLOAD] = encode((row[KIND], row[VERSION]), payload._replace(commitment_hash=there[HASH]))
            row[HASH] = before = reader.row_hash(before, tuple(row))

    def renumber(self) -> None:
        """After rows were taken out: seqs without a gap, and every link of a stream in its place."""
        heads: dict[bytes, int] = {}
        moved: dict[int, int] = {}
        for seq, row in enumerate(self.rows, 1):
            moved[row[SEQ]], row[SEQ] = seq, seq
            row[PREV], heads[row[STREAM]] = heads.get(row[STREAM], 0), seq
            if row[KIND] == NUMBER["season_started"]:
                payload = decode(row)
                there = moved.get(payload.commitment_seq, payload.commitment_seq)
                row[PAYLOAD] = encode((row[KIND], row[VERSION]), payload._replace(commitment_seq=there))


def read_ledger(data: Path) -> Ledger:
    db = sqlite3.connect(f"file:{data / 'ledger.db'}?mode=ro", uri=True)
    version = db.execute("PRAGMA user_version").fetchone()[0]
    genesis = list(db.execute("SELECT * FROM genesis").fetchone())
    rows = [list(row) for row in db.execute(f"{reader.QUERY} ORDER BY seq")]
    db.close()
    return Ledger(version, genesis, rows)


def write_ledger(data: Path, ledger: Ledger, statements: list[str]) -> None:
    """A new ledger.db. The rows go in before the statements that follow the tables, which are to guard them."""
    for path in data.glob("ledger.db*"):
        path.unlink()
    db = sqlite3.connect(data / "ledger.db", isolation_level=None)
    for pragma in ("page_size = 16384", "journal_mode = off", "synchronous = off",
                   f"application_id = {reader.APPLICATION_ID}", f"user_version = {ledger.format}"):  # fmt: skip
        db.execute(f"PRAGMA {pragma}")
    for statement in TABLES[ledger.format]:
        db.execute(statement)
    db.execute("BEGIN")
    if ledger.genesis:
        marks = ", ".join("?" * len(ledger.genesis))
        db.execute(f"INSERT INTO genesis VALUES ({marks})", ledger.genesis)
    db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", ledger.rows)
    db.execute("COMMIT")
    for statement in statements:
        db.execute(statement)
    db.execute("PRAGMA journal_mode = wal")
    db.close()


def genesis_of(ledger: Ledger) -> reader.Genesis:
    ledger_id, _, created_at, is_demo, *game, stored = ledger.genesis[1:]
    return reader.Genesis(ledger.format, ledger_id, created_at, is_demo, *(game or ["farming_season"]), stored)


# --- Payloads and commands, the other way round: second_reader.py only reads them ---

def option_of(encode_one: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    return lambda value: b"\0" if value is None else b"\1" + encode_one(value)


def one_byte(value: int) -> bytes:
    return bytes([value])


ENCODERS: dict[str, Callable[[Any], bytes]] = {
    **dict.fromkeys(("id", "nonce", "key_id", "hash", "levels", "pot_events"), bytes),
    **dict.fromkeys(("seq", "coins", "millicoins", "score", "u32", "xp", "ruleset", "epoch", "multiplier"), varint),
    **dict.fromkeys(("bool", "day", "week", "bond_level", "trait", "weather", "pot", "bet", "trigger", "hand", "species",
                     "path", "end", "suspicion", "source"), one_byte),
    "secret?": option_of(bytes), "threshold?": option_of(one_byte),
    "troubles": lambda troubles: one_byte(len(troubles)) + b"".join(bytes(trouble) for trouble in troubles),
    "lost_heads": lambda heads: varint(len(heads)) + b"".join(varint(seq) + row for seq, row in heads),
    "companion?": option_of(lambda c: c[0] + one_byte(c[1]) + option_of(one_byte)(c[2])),
}  # fmt: skip

FIELD_TYPES: dict[tuple[int, int], list[str]] = {}  # of each kind, the types of its fields
for line in reader.KINDS_TABLE.strip().splitlines():
    number, _, _, *fields = line.split()
    FIELD_TYPES[reader.parse_number(number)] = [f.split(":")[1] for f in fields]


def kind_of(row: Row) -> Any:
    return reader.KINDS[row[KIND], row[VERSION]]


def decode(row: Row) -> Any:
    return kind_of(row).decode(row[PAYLOAD])


def encode(kind: tuple[int, int], payload: Any) -> bytes:
    return b"".join(ENCODERS[name](value) for name, value in zip(FIELD_TYPES[kind], payload))


def stored_command(rows: list[Row], season_user: dict[bytes, bytes]) -> bytes:
    """FORMAT.md's stored form of the command that some rows say they are. It asks no rule, unlike the reader's."""
    names = [kind_of(row).name for row in rows]
    stream, p = rows[0][STREAM], decode(rows[0])
    owner = season_user.get(stream, stream)
    season = owner + stream
    if names[-1] in ("user_erased", "session_started"):
        return (b"\2" if names[-1] == "user_erased" else b"\3") + stream
    if "day_resolved" in names:
        return b"\x16" + season + one_byte(decode(rows[names.index("day_resolved")]).day_number)
    match names[0]:
        case "user_registered":
            return b"\1" + stream
        case "session_ended":
            return b"\4" + stream + varint(p.session_number) + one_byte(p.reason)
        case "simulin_adopted":
            return b"\x0a" + stream + one_byte(p.species)
        case "simulin_path_chosen":
            return b"\x0b" + stream + p.simulin_id + one_byte(p.path)
        case "simulin_retired":
            return b"\x0c" + stream + p.simulin_id
        case "season_started":
            seed = b"\0" + p.client_digest if p.source == 1 else b"\1"
            return b"\x14" + p.user_id + p.commitment + seed + option_of(bytes)(p.companion and p.companion[0])
        case "bet_placed":
            bets = [decode(row) for row in rows]
            return b"\x15" + season + varint(len(bets)) + b"".join(bytes(b[1:3]) + varint(b.amount) for b in bets)
        case "season_abandoned":
            return b"\x17" + season
        case "season_expired":
            return b"\x1e" + season
        case "suspicion_flagged":
            return b"\x1f" + season + bytes(p)
        case "commitment_published":
            return b"\x20" + stream
        case "key_rotated":
            return b"\x28" + p.key_id + one_byte(p.compromised)
        case "ledger_restored":
            lost = getattr(p, "lost_heads", None)  # none in version 1
            return b"\x29" + p.nonce if lost is None else b"\x2a" + p.nonce + ENCODERS["lost_heads"](lost)
    raise ValueError(f"no command begins with {names[0]}")


# --- Damages ---

@dataclass
class Copy:
    """A copy of the small ledger that a damage may change, with what must come of it."""

    ledger: Ledger
    random: random.Random
    statements: list[str] = field(default_factory=lambda: GUARDS)
    keys: bool = True  # whether the keys directory, with the signed head, stays beside it
    head_edit: Callable[[bytes], bytes] | None = None
    snapshot: tuple[str, bytes] | None = None
    plain_may_pass: bool = False  # hashes and links hold, so that only deciding again can tell

    def pick(self) -> int:
        """An index of a row, every kind as likely as any other: most rows of a ledger are bets."""
        by_kind: dict[int, list[int]] = {}
        for index, row in enumerate(self.ledger.rows):
            by_kind.setdefault(row[KIND], []).append(index)
        return self.random.choice(by_kind[self.random.choice(sorted(by_kind))])

    def drop_keys(self) -> None:
        """Leave no signed head: what a forger would see to who can write to more than the file."""
        self.keys, self.plain_may_pass = False, True


def flipped(value: int | bytes, r: random.Random) -> int | bytes:
    if isinstance(value, int):
        return value ^ 1 << r.randrange(value.bit_length() + 1)
    if not value:
        return b"\1"
    index = r.randrange(len(value))
    return value[:index] + bytes([value[index] ^ 1 << r.randrange(8)]) + value[index + 1 :]


def flip(column: int) -> Callable[[Copy], str]:
    def damage(copy: Copy) -> str:
        index = copy.pick()
        row = copy.ledger.rows[index]
        if column == SEQ:  # to one that no row has, or SQLite would refuse it
            row[SEQ] = copy.random.choice([0, -index, len(copy.ledger.rows) + 1 + index, 2**62])
        else:
            row[column] = flipped(row[column], copy.random)
        return f"a bit of {COLUMNS[column]} of row {index + 1} flipped"

    return damage


def delete(copy: Copy) -> str:
    index, count = copy.pick(), copy.random.choice([1, 1, 2, 5])
    del copy.ledger.rows[index : index + count]
    return f"{count} rows from {index + 1} on deleted"


def delete_command(copy: Copy) -> str:
    """Take a command out and make all numbers, links and hashes fit again."""
    rows, indexes = copy.ledger.rows, copy.ledger.command_of(copy.pick())
    name = f"the command at {indexes[0] + 1} taken out, the rest made to fit"
    del rows[indexes.start : indexes.stop]
    copy.ledger.renumber()
    copy.ledger.rehash(indexes.start)
    return name


def swap(copy: Copy) -> str:
    rows = copy.ledger.rows
    index = min(copy.pick(), len(rows) - 2)
    rows[index][SEQ], rows[index + 1][SEQ] = rows[index + 1][SEQ], rows[index][SEQ]
    rehashed = copy.random.random() < 0.5
    if rehashed:
        rows[index], rows[index + 1] = rows[index + 1], rows[index]
        copy.ledger.rehash(index)
    return f"rows {index + 1} and {index + 2} swapped{' and hashed again' if rehashed else ''}"


def cut_at_command(copy: Copy) -> int:
    """Let the ledger end with a whole command, some way before its end."""
    rows = copy.ledger.rows
    last = copy.ledger.command_of(copy.random.randrange(len(rows) // 4, len(rows) - 300))[-1]
    del rows[last + 1 :]
    return last + 1


def cut_tail(copy: Copy) -> str:
    return f"cut after {cut_at_command(copy)}, the signed head left beside it"


def cut_beside_snapshot(copy: Copy) -> str:
    """The snapshot of the longer ledger tells, although no signed head does."""
    longer = copy.ledger.copy()
    end = cut_at_command(copy)
    copy.keys = False
    copy.snapshot = make_snapshot(longer, longer.command_of(copy.random.randrange(end, len(longer.rows)))[-1] + 1)
    return f"cut after {end}, {copy.snapshot[0]} left beside it"


def other_history(copy: Copy) -> str:
    """The snapshot holds a ledger to what it was, even where it was made anew from the first row on."""
    whole = copy.ledger.copy()
    copy.keys = False
    copy.ledger.genesis[3] -= 1
    copy.ledger.genesis[-1] = reader.genesis_hash(genesis_of(copy.ledger))
    copy.ledger.rehash()
    seq = whole.command_of(copy.random.randrange(len(whole.rows)))[-1] + 1
    name, data = make_snapshot(whole, seq)
    forged = data[:34] + copy.ledger.genesis[-1] + data[66:-32]  # or it would be another ledger's
    copy.snapshot = name, forged + digest("snapshot", forged)
    return f"hashed anew from the genesis on, {name} with the old hash beside it"


def cut_command(copy: Copy) -> str:
    rows = copy.ledger.rows
    starts = [i for i, row in enumerate(rows) if row[COMMAND][0] == 0 and row[COMMAND][1] > 1]
    first = copy.random.choice(starts)
    end = first + copy.random.randrange(1, rows[first][COMMAND][1])
    del rows[end:]
    copy.keys = copy.random.random() < 0.5
    return f"cut after {end}, within a command"


# What the rules give, so that another value is found whatever the command's hash. The rest is the command's own
# (found by its hash) or what a verifier takes as given.
RESULTS = {
    "season_started": "ruleset key_id commitment commitment_seq day_key_zero coins",
    "season_completed": "final_score coins season_secret", "season_abandoned": "escrow_returned coins",
    "season_expired": "escrow_returned coins", "day_opened": "day_number weather",
    "day_resolved": "day_number day_key pot_levels pot_events troubles score", "stipend_granted": "day_number amount",
    "bet_resolved": "day_number pot_id amount threshold payout jackpot_share", "trigger_earned": "day_number trigger_type",
    "week_evaluated": "week_number hand multiplier score", "jackpot_paid": "week_number amount",
    "simulin_adopted": "simulin_id adoption_number curiosity courage warmth", "session_started": "session_number",
    "simulin_xp_gained": "simulin_id gained bond_xp", "simulin_level_reached": "simulin_id bond_level",
    "commitment_published": "season_number key_id",
}  # fmt: skip
ARGUMENTS = {
    "session_ended": "session_number reason", "simulin_adopted": "species", "simulin_path_chosen": "simulin_id path",
    "simulin_retired": "simulin_id", "bet_placed": "pot_id bet_type amount", "key_rotated": "key_id compromised",
    "suspicion_flagged": "day_number code", "ledger_restored": "nonce",
}  # fmt: skip


def forged_value(kind: tuple[int, int], index: int, value: Any, r: random.Random) -> Any:
    """Another value of the field's type, or the same if none was found."""
    name = FIELD_TYPES[kind][index]
    if isinstance(value, bytes):
        return r.randbytes(len(value))
    if name == "threshold?":
        return r.choice([t for t in (None, *reader.THRESHOLDS) if t != value])
    if name == "troubles":
        return value[:-1] if value else ((r.randrange(4), r.randint(1, 5), r.randrange(2)),)
    if isinstance(value, tuple):
        where = r.randrange(len(value))
        return (*value[:where], r.randrange(4), *value[where + 1 :])
    for _ in range(20):
        candidate = max(0, value + r.choice([-2, -1, 1, 2, 1000]))
        try:
            if candidate != value and reader.whole(reader.TYPES[name], ENCODERS[name](candidate)) == candidate:
                return candidate
        except (reader.Unreadable, ValueError):
            continue
    return value


def forge(remake: bool, keys: bool) -> Callable[[Copy], str]:
    def damage(copy: Copy) -> str:
        allowed = RESULTS if remake else {k: f"{RESULTS.get(k, '')} {ARGUMENTS.get(k, '')}" for k in RESULTS | ARGUMENTS}
        while True:
            index = copy.pick()
            row = copy.ledger.rows[index]
            kind = kind_of(row)
            names = allowed.get(kind.name, "").split()
            if not names:
                continue
            name, payload = copy.random.choice(names), decode(row)
            value = getattr(payload, name)
            forged = forged_value((row[KIND], row[VERSION]), payload._fields.index(name), value, copy.random)
            if forged != value:
                break
        row[PAYLOAD] = encode((row[KIND], row[VERSION]), payload._replace(**{name: forged}))
        indexes = copy.ledger.command_of(index)
        if remake:
            command = [copy.ledger.rows[i] for i in indexes]
            started = [r for r in copy.ledger.rows if r[KIND] == NUMBER["season_started"]]
            stored = stored_command(command, {r[STREAM]: decode(r).user_id for r in started})
            command[0][COMMAND] = command[0][COMMAND][:18] + digest("command", stored)[:16]
        copy.ledger.rehash(indexes[0])
        if not keys:
            copy.drop_keys()
        return (f"{kind.name}.{name} of row {index + 1} forged, command hash {'made again' if remake else 'left'},"
                f" {'signed head left' if keys else NO_KEYS}")  # fmt: skip

    return damage


def forge_link(copy: Copy) -> str:
    """Links that do not hold, under hashes that do."""
    index = copy.pick()
    row, r = copy.ledger.rows[index], copy.random
    what = r.choice(["stream_prev", "recorded_at", "place", "stream"])
    if what == "stream_prev":
        row[PREV] = r.choice([p for p in (0, row[PREV] + 1, index + 1, 2**62) if p != row[PREV]])
    elif what == "recorded_at":
        row[AT] -= 10**15
    elif what == "place":
        row[COMMAND] = row[COMMAND][:1] + bytes([row[COMMAND][1] + 1]) + row[COMMAND][2:]
    else:
        row[STREAM] = r.randbytes(16)
    copy.ledger.rehash(index)
    return f"{what} of row {index + 1} forged and hashed again"


def drop_guard(copy: Copy) -> str:
    gone = copy.random.choice(GUARDS)
    copy.statements = [s for s in GUARDS if s != gone]
    return f"without: {gone.splitlines()[0]}"


def alter_guard(copy: Copy) -> str:
    index = copy.random.randrange(4)
    old, new = copy.random.choice([("ABORT", "FAIL"), ("RAISE(ABORT", "RAISE( ABORT"), ("append-only", "append only")])
    changed = GUARDS[index].replace(old, new)
    copy.statements = [*GUARDS[:index], changed, *GUARDS[index + 1 :]]
    return f"a guard with {new}: {changed.splitlines()[0]}"


def add_object(copy: Copy) -> str:
    added = copy.random.choice(["CREATE INDEX more ON events (stream)", "CREATE TABLE more (x)",
                                "CREATE VIEW more AS SELECT 1",
                                "CREATE TRIGGER more BEFORE INSERT ON events BEGIN SELECT 1; END"])  # fmt: skip
    copy.statements = [*GUARDS, added]
    return f"with: {added}"


def edit_genesis(copy: Copy) -> str:
    genesis, r = copy.ledger.genesis, copy.random
    column = r.randrange(1, len(genesis))
    if column == 2:
        genesis[2] = r.choice([0, 3 - genesis[2], 2**32 + 1])
    elif column == 4:
        genesis[4] = r.choice([1 - genesis[4], 2])
    elif isinstance(genesis[column], str):
        genesis[column] = r.choice(["Farming season", "", "x" * 33, "another_game"])
    else:
        is_bytes = isinstance(genesis[column], bytes)
        genesis[column] = r.choice([flipped(genesis[column], r), *([genesis[column][:-1]] if is_bytes else [])])
    return f"genesis column {column} edited"


def forge_genesis(copy: Copy) -> str:
    """Another genesis under which every hash holds: the signed head tells, or the draws from its hash."""
    copy.ledger.genesis[3] -= 1 + copy.random.randrange(10**6)
    copy.ledger.genesis[-1] = reader.genesis_hash(genesis_of(copy.ledger))
    copy.ledger.rehash()
    return "created_at of the genesis moved and all hashed again"


def drop_genesis(copy: Copy) -> str:
    copy.ledger.genesis.clear()
    return "without its genesis"


def edit_head(copy: Copy) -> str:
    """A head without a good signature: neither may say anything of the ledger."""
    r = copy.random
    what, edit = r.choice([
        ("another seq", lambda note: note.replace(b"\nhead ", b"\nhead 1", 1)),
        ("another epoch", lambda note: note.replace(b"\nepoch 1", b"\nepoch 2", 1)),
        ("a cut note", lambda note: note[: -r.randrange(1, 60)]),
        ("another signature", lambda note: note[:-20] + (b"A" if note[-20:-19] != b"A" else b"B") + note[-19:]),
        ("one line more", lambda note: note + b"\n"),
    ])  # fmt: skip
    copy.head_edit = edit
    return f"signed head with {what}"


DAMAGES: list[Callable[[Copy], str]] = [
    *(flip(column) for column in range(9)), delete, swap, cut_tail, cut_command, delete_command, forge_link,
    forge(remake=False, keys=False), forge(remake=True, keys=False), forge(remake=False, keys=True),
    forge(remake=True, keys=True), forge(remake=True, keys=False), cut_beside_snapshot, other_history,
    drop_guard, alter_guard, add_object, edit_genesis, edit_genesis, forge_genesis, drop_genesis, edit_head,
]  # fmt: skip


# --- Snapshots, made here from the events ---

def make_snapshot(ledger: Ledger, seq: int, alter: Callable[[reader.Engine], None] | None = None) -> tuple[str, bytes]:
    """Name and bytes of the snapshot at a seq that ends a command; `alter` may tell it lies."""
    genesis = genesis_of(ledger)
    chain, engine = reader.Chain(genesis), reader.Engine(genesis)
    commands: list[tuple] = []
    events: list[reader.Event] = []
    for row in ledger.rows[:seq]:
        events.append(chain.add(tuple(row)))
        if chain.open_command:
            continue
        first, user_id = events[0], engine.user_of(events[0])
        commands.append((first.command_id, int(user_id is not None), user_id or bytes(16), first.command_hash,
                         first.seq, len(events)))  # fmt: skip
        engine.run(events)
        events = []
    if alter is not None:
        alter(engine)
    state = reader.encode_state(engine)
    head = reader.SNAPSHOT_HEAD.pack(b"daybook snapshot", 2, genesis.ledger_id, genesis.hash, seq, chain.hash, chain.at,
                                     digest("state", state), -(2**63), len(state))  # fmt: skip
    body = head + state
    commands.sort(key=lambda command: (command[1:3], command[0]))
    for entry, table in ((reader.STREAM_ENTRY, sorted(chain.heads.items())), (reader.COMMAND_ENTRY, commands),
                         (reader.FLOOR_ENTRY, [])):  # fmt: skip
        body += struct.pack("<Q", len(table)) + b"".join(entry.pack(*line) for line in table)
    return f"{seq:020}.snapshot", body + digest("snapshot", body)


# --- The three parts ---

def make_demo(daybook: Path, data: Path, players: int, days: int, seed: int) -> None:
    subprocess.run([str(daybook), "demo", "--data", str(data), "--players", str(players), "--days", str(days),
                    "--seed", str(seed)], check=True, stdout=subprocess.DEVNULL)  # fmt: skip


def check_intact(daybook: Path, ledgers: list[Path], players: int, seed: int, work: Path, found: Findings) -> str:
    copies = []
    if players:
        make_demo(daybook, work / "demo", players, 28, seed)
        copies.append(("demo", work / "demo"))
    for index, ledger in enumerate(ledgers):
        copies.append((str(ledger), work / f"copy{index}"))
        shutil.copytree(ledger, work / f"copy{index}")
    events = snapshots = heads = 0
    for name, data in copies:
        for full in (False, True):
            report = found.compare(name, daybook, data, full, intact=True)
        events += report.get("events", 0)
        snapshots += report.get("snapshots", 0)
        heads += report.get("signed_head") is not None
    return f"{len(copies)} ledgers, {events} events, {heads} signed heads, {snapshots} snapshots"


def lay_out(data: Path, small: Path, copy: Copy) -> None:
    """Put a damaged copy on the disk, with what is to lie beside it."""
    data.mkdir()
    write_ledger(data, copy.ledger, copy.statements)
    if copy.keys:
        shutil.copytree(small / "keys", data / "keys")
    if copy.head_edit is not None:
        (note,) = (data / "keys").glob("ldg_*.head")
        note.write_bytes(copy.head_edit(note.read_bytes()))
    if copy.snapshot is not None:
        (data / "snapshots").mkdir()
        (data / "snapshots" / copy.snapshot[0]).write_bytes(copy.snapshot[1])


def check_damages(daybook: Path, small: Path, count: int, seed: int, work: Path, found: Findings) -> str:
    whole = read_ledger(small)
    verdicts: dict[str, int] = {}
    for index in range(count):
        copy = Copy(whole.copy(), random.Random(f"{seed} {index}"))
        name = f"damage {index}: {DAMAGES[index % len(DAMAGES)](copy)}"
        data = work / "damaged"
        lay_out(data, small, copy)
        for full in (False, True):
            may_pass = copy.plain_may_pass and not full
            report = found.compare(name, daybook, data, full, intact=None if may_pass else False)
            verdicts[report["verdict"]] = verdicts.get(report["verdict"], 0) + 1
        shutil.rmtree(data)
    return f"{count} damages of {len(whole.rows)} events: " + ", ".join(f"{v} {n}" for v, n in sorted(verdicts.items()))


def check_snapshots(daybook: Path, small: Path, seed: int, work: Path, found: Findings) -> str:
    """The reader's comparison of states is no comparison unless it finds a lie; to daybook a snapshot is a cache."""

    def richer(engine: reader.Engine) -> None:
        season = engine.seasons[min(engine.seasons)]
        season.balance += 1

    r = random.Random(f"{seed} snapshots")
    whole = read_ledger(small)
    seq = whole.command_of(r.randrange(len(whole.rows) // 2, len(whole.rows) * 3 // 4))[-1] + 1
    for name, alter, verdict in (("true", None, "intact"), ("forged", richer, "snapshot_mismatch")):
        copy = Copy(whole.copy(), r, snapshot=make_snapshot(whole, seq, alter))
        data = work / f"snapshot-{name}"
        lay_out(data, small, copy)
        first, second = ask_daybook(daybook, data, True), ask_reader(data, True)
        if (first["verdict"], second["verdict"]) != ("intact", verdict):
            found.lines.append(f"{name} snapshot at {seq}: {first['verdict']} to daybook ({first['detail']}),"
                               f" {second['verdict']} to the second reader ({second['detail']})")  # fmt: skip
    return f"at {seq}: a true one holds, one with a forged balance does not"


def main() -> int:
    parser = argparse.ArgumentParser(description="Set daybook verify and second_reader.py against each other.")
    parser.add_argument("--daybook", type=Path, required=True, metavar="PATH", help="the daybook program")
    parser.add_argument("--ledger", type=Path, action="append", default=[], metavar="DIR",
                        help="a data directory that must be intact; may be given more than once")  # fmt: skip
    parser.add_argument("--demo-players", type=int, default=20, metavar="N",
                        help="players of the fresh demo (default 20; 0: none; about 70 make a snapshot)")  # fmt: skip
    parser.add_argument("--damages", type=int, default=100, metavar="N", help="damaged copies (default 100)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="what everything random follows from (default 1)")
    arguments = parser.parse_args()
    found = Findings()
    with tempfile.TemporaryDirectory(prefix="second-reader-") as name:
        work, seed, daybook = Path(name), arguments.seed, arguments.daybook.resolve()
        small = work / "small"
        make_demo(daybook, small, 6, 2, seed)
        parts: dict[str, Callable[[], str]] = {
            "intact": lambda: check_intact(daybook, arguments.ledger, arguments.demo_players, seed, work, found),
            "damages": lambda: check_damages(daybook, small, arguments.damages, seed, work, found),
            "snapshots": lambda: check_snapshots(daybook, small, seed, work, found),
        }
        for part, run in parts.items():
            start, before = time.monotonic(), len(found.lines)
            try:
                said = run()
            except (reader.Bad, subprocess.CalledProcessError) as why:  # even an undamaged ledger is none to one of them
                said = "given up"
                found.lines.append(f"{part}: given up: {why}")
            bad, seconds = len(found.lines) - before, time.monotonic() - start
            print(f"{part:10} {said}; {bad} disagreements, {seconds:.1f} s", flush=True)
    for line in found.lines:
        print(line)
    return 1 if found.lines else 0


if __name__ == "__main__":
    sys.exit(main())
