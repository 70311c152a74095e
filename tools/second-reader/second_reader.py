#!/usr/bin/env python3
"""A second, independent verifier of daybook ledgers, written from the documents alone.

FORMAT.md says what every stored byte means and what a
verifier reports. Nothing here was taken from the first implementation: where the two agree, the documents
are enough; where they do not, one of the three is wrong.

    second_reader.py --data DIR [--full] [--json] [--head SEQ:HASH]...

Rows are read in order, one command at a time. Memory grows with the users and the seasons in play, not with
the events. Exit status: 0 intact, 1 something does not hold, 2 nothing could be verified.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sqlite3
import struct
import sys
import time
from collections import Counter, defaultdict, namedtuple
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NamedTuple, NoReturn
from urllib.parse import quote

from blake3 import blake3

# --- Failures. FORMAT.md: the smallest bad seq wins; at one seq, the first verdict of its list. ---

class NoLedger(Exception):
    """Nothing can be verified: no file, another program's file, or a newer format (status 2)."""


class Bad(Exception):
    """A check that failed, with what FORMAT.md calls it and where."""

    def __init__(self, verdict: str, seq: int | None, detail: str) -> None:
        super().__init__(detail)
        self.verdict, self.seq, self.detail = verdict, seq, detail


class Unreadable(Exception):
    """Bytes that are no encoding of any value."""


class Refused(Exception):
    """A command that the rules refuse; it can have no events."""


def require(condition: object, code: str) -> None:
    """Refuse the command under decision, with RULEBOOK.md's code, unless the condition holds."""
    if not condition:
        raise Refused(code)


# --- Hashes (FORMAT.md, "Hashes" and "Contexts") ---

@cache
def hasher(context: str) -> blake3:
    """The context's key schedule costs as much as a short message: derive it once, copy it after."""
    return blake3(derive_key_context=f"daybook v1 {context}")


def digest(context: str, data: bytes) -> bytes:
    state = hasher(context).copy()
    state.update(data)
    return state.digest()


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


Epoch = tuple[int, bytes]
FIRST_EPOCH: Epoch = (1, bytes(16))


def derived_id(ledger_id: bytes, epoch: Epoch, kind: int, at: int, parts: bytes) -> bytes:
    """An id that a rebuild gives again: a UUIDv8 of the event's millisecond and a hash."""
    raw = bytearray(digest("derived id", bytes([kind]) + ledger_id + u32(epoch[0]) + epoch[1] + parts)[:16])
    raw[0:6] = (at // 1000 % 2**48).to_bytes(6, "big")
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


# --- Payloads (FORMAT.md, "Payloads" and "Kinds"): one encoding of a value, everything else is refused ---

Reader = Callable[[bytes, int], tuple[Any, int]]  # (payload, position) -> (value, next position)
VARINT_FORMS = {251: (2, 251), 252: (4, 1 << 16), 253: (8, 1 << 32)}  # tag: bytes, smallest value it may hold


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    if data[at] < 251:
        return data[at], at + 1
    width, least = VARINT_FORMS.get(data[at], (0, 1))
    value, end = int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width
    if end > len(data) or value < least:
        raise Unreadable("a varint that is cut, unknown or longer than it need be")
    return value, end


def bounded(read_one: Reader, low: int, high: int) -> Reader:
    def read(data: bytes, at: int) -> tuple[int, int]:
        value, end = read_one(data, at)
        if not low <= value <= high:
            raise Unreadable(f"{value} is not {low} to {high}")
        return value, end

    return read


def number(low: int, high: int) -> Reader:
    """A u16, u32 or u64 within its bounds."""
    return bounded(read_varint, low, high)


def byte(low: int, high: int) -> Reader:
    """A u8 within its bounds, or the number of an enumeration."""
    return bounded(lambda data, at: (data[at], at + 1), low, high)


def raw(size: int) -> Reader:
    def read(data: bytes, at: int) -> tuple[bytes, int]:
        if at + size > len(data):
            raise Unreadable("the payload ends early")
        return data[at : at + size], at + size

    return read


def option(inner: Reader) -> Reader:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        present, at = byte(0, 1)(data, at)
        return inner(data, at) if present else (None, at)

    return read


def sequence(*parts: Reader) -> Reader:
    def read(data: bytes, at: int) -> tuple[tuple, int]:
        values = []
        for part in parts:
            value, at = part(data, at)
            values.append(value)
        return tuple(values), at

    return read


def listing(item: Reader, most: int) -> Reader:
    def read(data: bytes, at: int) -> tuple[tuple, int]:
        count, at = number(0, most)(data, at)
        return sequence(*[item] * count)(data, at)

    return read


def read_threshold(data: bytes, at: int) -> tuple[int, int]:
    if data[at] not in THRESHOLDS:
        raise Unreadable(f"{data[at]} is no threshold")
    return data[at], at + 1


THRESHOLDS = (50, 80, 100)
TYPES: dict[str, Reader] = {
    "id": raw(16), "nonce": raw(16), "key_id": raw(8), "hash": raw(32), "bool": byte(0, 1),
    "seq": number(1, 2**64 - 1), "coins": number(0, 10**15), "millicoins": number(0, 10**18), "score": number(0, 10**15),
    "u32": number(1, 2**32 - 1), "xp": number(0, 2**32 - 1), "ruleset": number(1, 2**16 - 1),
    "epoch": number(2, 2**32 - 1), "multiplier": number(1, 100), "day": byte(1, 28), "week": byte(1, 4),
    "bond_level": byte(1, 25), "trait": byte(0, 100), "weather": byte(0, 3), "pot": byte(0, 3), "bet": byte(0, 3),
    "trigger": byte(0, 4), "hand": byte(0, 9), "species": byte(0, 3), "path": byte(0, 2), "end": byte(0, 4),
    "suspicion": byte(0, 2), "source": byte(1, 2), "secret?": option(raw(32)), "threshold?": option(read_threshold),
    "levels": sequence(*[byte(0, 100)] * 4), "pot_events": sequence(*[byte(0, 3)] * 4),
    "troubles": listing(sequence(byte(0, 3), byte(1, 5), byte(0, 1)), 2),
    "companion?": option(sequence(raw(16), byte(0, 3), option(byte(0, 2)))),
}  # fmt: skip

KINDS_TABLE = """
 1 key_rotated            ledger  key_id:key_id compromised:bool
 2 ledger_restored        ledger  number:epoch nonce:nonce
10 user_registered        user
11 user_erased            user
12 session_started        user    session_number:u32
13 session_ended          user    session_number:u32 reason:end
14 commitment_published   user    season_number:u32 key_id:key_id commitment:hash
20 simulin_adopted        user    simulin_id:id adoption_number:u32 species:species curiosity:trait courage:trait warmth:trait
21 simulin_path_chosen    user    simulin_id:id path:path
22 simulin_retired        user    simulin_id:id
23 simulin_xp_gained      user    simulin_id:id gained:xp bond_xp:xp
24 simulin_level_reached  user    simulin_id:id bond_level:bond_level
30 season_started         season  user_id:id season_number:u32 ruleset:ruleset key_id:key_id commitment:hash commitment_seq:seq commitment_hash:hash source:source client_digest:hash day_key_zero:hash companion:companion? coins:coins
31 season_completed       season  final_score:score coins:coins season_secret:hash
32 season_abandoned       season  escrow_returned:coins coins:coins season_secret:secret?
33 season_expired         season  escrow_returned:coins coins:coins season_secret:secret?
34 suspicion_flagged      season  day_number:day code:suspicion
40 day_opened             season  day_number:day weather:weather
41 day_resolved           season  day_number:day day_key:hash pot_levels:levels pot_events:pot_events troubles:troubles score:score
42 stipend_granted        season  day_number:day amount:coins
50 bet_placed             season  day_number:day pot_id:pot bet_type:bet amount:coins
51 bet_resolved           season  day_number:day pot_id:pot amount:coins threshold:threshold? payout:coins jackpot_share:millicoins
60 trigger_earned         season  day_number:day trigger_type:trigger
61 week_evaluated         season  week_number:week hand:hand multiplier:multiplier score:score
62 jackpot_paid           season  week_number:week amount:coins
"""

SEASON_ENDS = frozenset({"season_completed", "season_abandoned", "season_expired"})


class Kind(NamedTuple):
    """One line of the table of kinds. All are of version 1."""

    name: str
    owner: str  # whose stream: ledger, user or season
    payload: Any  # the namedtuple of its fields
    readers: tuple[Reader, ...]

    def decode(self, data: bytes) -> Any:
        values, at = [], 0
        try:
            for read in self.readers:
                value, at = read(data, at)
                values.append(value)
        except IndexError:
            raise Unreadable("the payload ends early") from None
        if at != len(data):
            raise Unreadable("something follows the last field")
        return self.payload._make(values)


def parse_kinds(table: str) -> dict[int, Kind]:
    kinds = {}
    for line in table.strip().splitlines():
        num, name, owner, *fields = line.split()
        names, types = zip(*(f.split(":") for f in fields)) if fields else ((), ())
        kinds[int(num)] = Kind(name, owner, namedtuple(name, names), tuple(TYPES[t] for t in types))
    return kinds


KINDS = parse_kinds(KINDS_TABLE)

# Enumerations that the rules name (FORMAT.md, "Payloads")
SUNNY, CLOUDY, RAINY, STORMY = WEATHERS = range(4)
WATER, SUN, PEST, GROWTH = POTS = range(4)
FOLD, CALL, RAISE, ALL_IN = range(4)
FIRST_BLOOM, PERFECT_READ, TROUBLE_SLAYER, GROWTH_SPURT, SIMULIN_SYNC = range(5)
TENDER, WATCHER, LUCKY = range(3)
LOGOUT, EXPIRED, LOCKED, ERASED, REPLACED = range(5)

# --- Rows: decoding, the hash chain and the links (FORMAT.md, "The file" and "Hashes") ---

class Event(NamedTuple):
    """A row whose bytes are all understood."""

    seq: int
    at: int
    stream: bytes
    stream_prev: int
    kind: Kind
    place: int
    size: int
    command_id: bytes  # empty but on place 0, as is the next
    command_hash: bytes
    payload: Any
    hash: bytes


def read_row(row: tuple) -> Event:
    """Give each column its meaning, or refuse the row."""
    seq, at, stream, stream_prev, kind_number, version, command, payload, stored = row
    if [type(c) for c in row] != [int, int, bytes, int, int, int, bytes, bytes, bytes]:
        raise Unreadable("a column is of another type")
    if len(stream) != 16 or len(stored) != 32 or stream_prev < 0:
        raise Unreadable("stream, stream_prev or hash is no such value")
    if kind_number not in KINDS or version != 1:
        raise Unreadable(f"kind {kind_number} version {version} is unknown")
    if len(payload) > 512:
        raise Unreadable("the payload is longer than 512 bytes")
    place, size = read_place(command)
    kind = KINDS[kind_number]
    return Event(seq, at, stream, stream_prev, kind, place, size, command[2:18], command[18:34],
                 kind.decode(payload), stored)  # fmt: skip


def read_place(command: bytes) -> tuple[int, int]:
    if len(command) not in (2, 34):
        raise Unreadable("the command column is neither 2 nor 34 bytes")
    place, size = command[0], command[1]
    if place >= size or (place == 0) != (len(command) == 34):
        raise Unreadable(f"place {place} of {size} in {len(command)} bytes is none")
    if place == 0 and (command[8] >> 4 != 7 or command[10] >> 6 != 0b10):
        raise Unreadable("the command's id is no UUIDv7")
    return place, size


ROW_HEAD = struct.Struct("<32sQq16sQHH")


def row_hash(hash_before: bytes, row: tuple) -> bytes:
    return digest("event", ROW_HEAD.pack(hash_before, *row[:6]) + row[6] + row[7])


class Chain:
    """What holds the rows together. Each check speaks of one row, so that the first bad one can be named."""

    def __init__(self, genesis: Genesis) -> None:
        self.seq, self.hash, self.at = 0, genesis.hash, genesis.created_at
        self.place, self.size = 0, 0  # of the last event; a command is complete when place + 1 == size
        self.heads: dict[bytes, int] = {}  # each stream's last seq; a season's is forgotten with its end
        self.season_numbers: dict[bytes, int] = {}  # each user's newest

    def add(self, row: tuple) -> Event:
        """Check one row against those before it. The order of the checks is that of FORMAT.md."""
        seq = self.seq + 1
        if row[0] < seq:  # not missing: something else, which can be no event, stands before it
            raise Bad("unreadable", seq, f"a row with seq {row[0]} stands where event {seq} belongs")
        if row[0] > seq:
            raise Bad("gap", seq, f"event {seq} is missing")
        try:
            event = read_row(row)
        except Unreadable as why:
            raise Bad("unreadable", seq, f"event {seq}: {why}") from None
        if row_hash(self.hash, row) != event.hash:
            raise Bad("altered", seq, f"event {seq}: the stored hash is not that of the row")
        if problem := self.broken_place(event) or self.broken_stream(event):
            raise Bad("broken_link", seq, f"event {seq}: {problem}")
        self.seq, self.hash, self.at, self.place, self.size = seq, event.hash, event.at, event.place, event.size
        return event

    def broken_place(self, event: Event) -> str | None:
        if event.at < self.at:
            return "its time is before that of the row before"
        if event.place == 0:
            return "the command before it is not complete" if self.open_command else None
        if (event.place, event.size) != (self.place + 1, self.size):
            return "its place in the command is not the next"
        return "its time is not that of its command" if event.at != self.at else None

    @property
    def open_command(self) -> bool:
        return self.place + 1 < self.size

    def broken_stream(self, event: Event) -> str | None:
        last = self.heads.get(event.stream, 0)
        if event.stream_prev != last:
            return f"its stream's previous event is {last}, not {event.stream_prev}"
        name = event.kind.name
        if last == 0 and event.kind.owner != "ledger" and name not in ("user_registered", "season_started"):
            return f"no stream begins with {name}"
        if name == "season_started" and not self.next_season(event):
            return "the season's number is not the user's next"
        if name in SEASON_ENDS:
            del self.heads[event.stream]
        else:
            self.heads[event.stream] = event.seq
        return None

    def next_season(self, event: Event) -> bool:
        user = event.payload.user_id
        expected = self.season_numbers.get(user, 0) + 1
        self.season_numbers[user] = expected
        return event.payload.season_number == expected

    def finish(self) -> None:
        if self.open_command:
            raise Bad("broken_link", self.seq, f"event {self.seq}: its command is cut short")


# --- Draws and a day's outcome (FORMAT.md, "Draws" and "A day, from key to payout") ---

MASK = 2**64 - 1


class Xoshiro256pp:
    """Blackman and Vigna's generator, with Lemire's bounded draw."""

    def __init__(self, seed: bytes) -> None:
        self.state = struct.unpack("<4Q", seed)
        if not any(self.state):  # the first four outputs of SplitMix64 from 0
            self.state = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC)

    def next(self) -> int:
        s0, s1, s2, s3 = self.state
        total = (s0 + s3) & MASK
        result = (((total << 23) | (total >> 41)) + s0) & MASK
        s2 ^= s0
        s3 ^= s1
        self.state = s0 ^ s3, s1 ^ s2, s2 ^ (s1 << 17) & MASK, ((s3 << 45) | (s3 >> 19)) & MASK
        return result

    def below(self, n: int) -> int:
        threshold = (2**64 - n) % n
        while True:
            product = self.next() * n
            if product & MASK >= threshold:
                return product >> 64

    def choose(self, chances: Iterable[int]) -> int:
        """A draw in percent: the first entry whose cumulative chance is greater than it."""
        draw, total = self.below(100), 0
        for index, chance in enumerate(chances):
            total += chance
            if draw < total:
                return index
        raise AssertionError("chances sum to 100")


NEXT_WEATHER = ((45, 30, 20, 5), (30, 30, 30, 10), (20, 35, 30, 15), (25, 35, 30, 10))
POT_EVENT_CHANCES, POT_EVENT_SHIFT = (80, 8, 8, 4), (0, 15, -15, 45)
TROUBLE_COUNT_CHANCES = (50, 35, 15)
BASE = (-8, -14, -21, -29)
WEATHER_SHIFT = ((-3, 4, 1, 3), (0, 0, 0, 0), (5, -4, 3, 2), (3, -5, -4, -4))
TARGET_PERCENT = (96, 94, 92, 90)
SHAPES = {CALL: (100, 150, 250), RAISE: (80, 220, 500), ALL_IN: (60, 260, 1000)}


def reached(level: int) -> int | None:
    """The highest threshold that the level reaches."""
    return max((t for t in THRESHOLDS if level >= t), default=None)


def pot_level(pot: int, weather: int, luck: int) -> int:
    return min(100, max(0, BASE[pot] + WEATHER_SHIFT[weather][pot] + luck))


@cache
def multiplier(weather: int, pot: int, bet: int, threshold: int) -> int:
    """In basis points, by exact enumeration of all 61 x 61 x 100 ways a pot's level can come about."""
    ways: Counter[int | None] = Counter()
    for chance, shift in zip(POT_EVENT_CHANCES, POT_EVENT_SHIFT):
        for total in range(121):  # of a and b, each uniform on 0 to 60
            ways[reached(pot_level(pot, weather, total + shift))] += chance * (61 - abs(60 - total))
    shape = dict(zip(THRESHOLDS, SHAPES[bet]))
    weighed = sum(ways[t] * shape[t] for t in THRESHOLDS)
    return 10_000 * TARGET_PERCENT[pot] * shape[threshold] * 372_100 // (100 * weighed)


def weather_after(day_seed: bytes, weather: int) -> int:
    return Xoshiro256pp(digest("weather stream", day_seed)).choose(NEXT_WEATHER[weather])


class Fill(NamedTuple):
    """What a day brings, whatever was bet."""

    levels: tuple[int, ...]
    pot_events: tuple[int, ...]
    luck: tuple[int, ...]  # a + b + e of each pot
    troubles: tuple[tuple[int, int], ...]  # kind (the number of its pot) and severity, as drawn


def fill(day_seed: bytes, weather: int) -> Fill:
    draws = Xoshiro256pp(digest("fill stream", day_seed))
    pot_events, luck = [], []
    for _ in POTS:
        total = draws.below(61) + draws.below(61)
        pot_events.append(draws.choose(POT_EVENT_CHANCES))
        luck.append(total + POT_EVENT_SHIFT[pot_events[-1]])
    count = draws.choose(TROUBLE_COUNT_CHANCES)
    troubles = tuple((draws.below(4), 1 + draws.below(5)) for _ in range(count))
    levels = tuple(pot_level(pot, weather, luck[pot]) for pot in POTS)
    return Fill(levels, tuple(pot_events), tuple(luck), troubles)


class Bet(NamedTuple):
    type: int
    amount: int

    @property
    def qualifies(self) -> bool:
        return self.type != FOLD and self.amount >= 10


Companion = tuple[bytes, int, int | None]  # id, species (the number of its attuned pot), path


class Outcome(NamedTuple):
    won: dict[int, int | None]  # each bet pot's threshold
    troubles: tuple[tuple[int, int, bool], ...]
    score: int
    triggers: tuple[int, ...]


def resolve(day: int, day_fill: Fill, bets: dict[int, Bet], companion: Companion | None) -> Outcome:
    """Steps 4 and 6 to 8 of FORMAT.md's day, as far as they are one day's affair."""
    levels = day_fill.levels
    won = {p: None if bet.type == FOLD else reached(levels[p]) for p, bet in sorted(bets.items())}
    qualifying = {p for p, bet in bets.items() if bet.qualifies}
    tender = companion is not None and companion[2] == TENDER
    troubles = tuple(
        (pot, severity, levels[pot] >= 40 + 8 * severity - 10 * (pot in qualifying) - 5 * tender)
        for pot, severity in day_fill.troubles
    )
    score = sum(min(bets[p].amount, 100) for p, t in won.items() if t) + 50 * sum(t[2] for t in troubles)
    earned = {
        FIRST_BLOOM: GROWTH in qualifying and won[GROWTH],
        PERFECT_READ: len(bets) == 4 and len(qualifying) >= 2
        and all(levels[p] < 50 if bet.type == FOLD else won[p] for p, bet in bets.items()),
        TROUBLE_SLAYER: troubles and all(t[2] for t in troubles),
        GROWTH_SPURT: levels[GROWTH] >= 80,
        SIMULIN_SYNC: companion is not None and companion[1] in qualifying
        and all(day_fill.luck[companion[1]] > day_fill.luck[p] for p in POTS if p != companion[1]),
    }  # fmt: skip
    return Outcome(won, troubles, score * (3 if day >= 22 else 1), tuple(t for t, yes in earned.items() if yes))


# --- The week's hand and the companion's level (RULEBOOK.md) ---

CATEGORY = {FIRST_BLOOM: "betting", PERFECT_READ: "betting", TROUBLE_SLAYER: "farming",
            GROWTH_SPURT: "farming", SIMULIN_SYNC: "companion"}  # fmt: skip
ROYAL_ORDER = [FIRST_BLOOM, GROWTH_SPURT, TROUBLE_SLAYER, PERFECT_READ, SIMULIN_SYNC]
ROYAL_FLUSH = 9
HAND_MULTIPLIER = {9: 100, 8: 50, 7: 25, 6: 20, 5: 15, 4: 10, 3: 5, 2: 3, 1: 2, 0: 1}


def hand_of(week: list[tuple[int, ...]]) -> int:
    """The first line of the table of hands that fits the triggers of seven days."""
    triggers = [t for day in week for t in day]
    first, second = ([n for _, n in Counter(triggers).most_common()] + [0, 0])[:2]
    runs = [days for days in (week[i : i + 5] for i in range(3)) if all(days)]
    one_category = len({CATEGORY[t] for t in triggers}) == 1
    lines = [
        (9, [day[0] for day in week if day] == ROYAL_ORDER),
        (8, runs and one_category),
        (7, any(len({t for day in days for t in day}) == 5 for days in runs)),
        (6, len(triggers) >= 5 and one_category),
        (5, first >= 3 and second >= 2),
        (4, first >= 4),
        (3, first >= 3),
        (2, first >= 2 and second >= 2),
        (1, first >= 2),
    ]
    return next((hand for hand, fits in lines if fits), 0)


LEVEL_ENDS = [math.isqrt(10_000 * level**3) for level in range(1, 25)]  # floor(100 x L^1.5)


def bond_level(bond_xp: int) -> int:
    return 1 + sum(bond_xp >= end for end in LEVEL_ENDS)


# --- The accounts (RULEBOOK.md, "Money"), kept from the stored events alone ---

MOVES: dict[str, Callable[[Any], list[tuple[str, str, int]]]] = {  # from, to, millicoins
    "season_started": lambda p: [("mint", "balance", p.coins * 1000)],
    "bet_placed": lambda p: [("balance", "escrow", p.amount * 1000)],
    "bet_resolved": lambda p: [("escrow", "house", p.amount * 1000), ("house", "balance", p.payout * 1000),
                               ("house", "jackpot", p.jackpot_share)],
    "stipend_granted": lambda p: [("mint", "balance", p.amount * 1000)],
    "jackpot_paid": lambda p: [("jackpot", "balance", p.amount * 1000)],
    "season_completed": lambda p: [("balance", "mint", p.coins * 1000)],
    "season_abandoned": lambda p: [("escrow", "balance", p.escrow_returned * 1000), ("balance", "mint", p.coins * 1000)],
    "season_expired": lambda p: [("escrow", "balance", p.escrow_returned * 1000), ("balance", "mint", p.coins * 1000)],
}  # fmt: skip


class Accounts:
    """A double entry. It knows no rule, only where each event moves its amounts."""

    def __init__(self) -> None:
        self.of: defaultdict[tuple[bytes, str], int] = defaultdict(int)

    def post(self, event: Event) -> str | None:
        """Move what the event moves; a sentence where that leaves something impossible."""
        problem = None
        for source, target, amount in MOVES.get(event.kind.name, lambda _: [])(event.payload):
            names = [(event.stream if n in ("balance", "escrow") else b"", n) for n in (source, target)]
            self.of[names[0]] -= amount
            self.of[names[1]] += amount
            if self.of[names[0]] < 0 and source not in ("mint", "house"):
                problem = f"{source} is below zero"
        if event.kind.name in SEASON_ENDS and any([self.of.pop((event.stream, n), 0) for n in ("balance", "escrow")]):
            problem = problem or "a season ended with coins left in it"
        return problem

    def balanced(self) -> bool:
        return sum(self.of.values()) == 0


# --- The state that the rules speak of ---

@dataclass(slots=True)
class Simulin:
    species: int
    path: int | None = None
    xp: int = 0


@dataclass(slots=True)
class Commitment:
    seq: int
    hash: bytes
    season_number: int
    key_id: bytes
    value: bytes
    epoch: Epoch


@dataclass(slots=True)
class Season:
    id: bytes
    user_id: bytes
    key_id: bytes
    epoch: Epoch
    client_digest: bytes
    companion: Companion | None
    balance: int
    day_key: bytes  # the newest revealed
    weather: int
    advanced_at: int
    day: int = 1
    bets: dict[int, Bet] = field(default_factory=dict)
    bet_at: int | None = None
    week: list[tuple[int, ...]] = field(default_factory=list)  # triggers of its days so far
    week_score: int = 0
    score: int = 0
    jackpot_won: int = 0
    flags: set[tuple[int, int]] = field(default_factory=set)

    @property
    def escrow(self) -> int:
        return sum(bet.amount for bet in self.bets.values())

    def seed(self, day: int, day_key: bytes) -> bytes:
        return digest("day seed", day_key + self.client_digest + bytes([day]))

    def accepts(self, secret: bytes) -> bool:
        """Whether k28 leads down to the newest day key that was revealed."""
        for _ in range(28 - (self.day - 1)):
            secret = digest("day key", secret)
        return secret == self.day_key


@dataclass(slots=True)
class User:
    commitment: Commitment | None = None
    season: Season | None = None
    seasons: int = 0
    starts: tuple[int, int] = (0, 0)  # UTC day and how many seasons were started on it
    sessions: list[int] = field(default_factory=list)  # the open ones, oldest first
    sessions_begun: int = 0
    adoptions: int = 0
    simulins: dict[bytes, Simulin] = field(default_factory=dict)  # those not retired


# --- Re-execution: the command of some events, and the events that it must have ---

UTC_DAY = 86_400_000_000
IDLE = 30 * UTC_DAY
RAPID = 100_000

Expected = tuple[bytes, str, tuple]  # stream, kind's name, payload
Decision = tuple[bytes, list[Expected]]  # stored command, its events


def varint(value: int) -> bytes:
    if value < 251:
        return bytes([value])
    tag = 251 if value < 1 << 16 else 252 if value < 1 << 32 else 253
    return bytes([tag]) + value.to_bytes(VARINT_FORMS[tag][0], "little")


class Engine:
    """Decides each command again and changes the state as it goes; the first difference ends the run."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.epoch = FIRST_EPOCH
        self.key: bytes | None = None
        self.keys_used: set[bytes] = set()
        self.compromised: set[bytes] = set()
        self.users: dict[bytes, User | None] = {}  # None: erased
        self.seasons: dict[bytes, Season] = {}  # those in play
        self.jackpot = 0  # millicoins
        self.accounts = Accounts()
        self.counts: Counter[str] = Counter()

    def run(self, events: list[Event]) -> None:
        """Judge one command. Bad if its events are not the ones that the rules give."""
        first = events[0].seq
        decide = self.recognise([e.kind.name for e in events])
        try:
            command, expected = decide(events)
        except Refused as why:
            raise Bad("outcome_mismatch", first, f"event {first}: the rules refuse its command ({why})") from None
        if digest("command", command)[:16] != events[0].command_hash:
            raise Bad("outcome_mismatch", first, f"event {first}: the command's hash is not that of its events")
        self.compare(events, expected)

    def compare(self, events: list[Event], expected: list[Expected]) -> None:
        for event, wanted in zip(events, expected):
            if (event.stream, event.kind.name, event.payload) != wanted:
                detail = f"event {event.seq}: {event.kind.name} {difference(event, wanted)}"
                raise Bad("outcome_mismatch", event.seq, detail)
            if problem := self.accounts.post(event):
                raise Bad("unbalanced", event.seq, f"event {event.seq}: {problem}")
        if len(events) != len(expected):
            seq = events[min(len(events) - 1, len(expected))].seq
            detail = f"event {seq}: its command has {len(expected)} events, not {len(events)}"
            raise Bad("outcome_mismatch", seq, detail)

    def recognise(self, names: list[str]) -> Callable[[list[Event]], Decision]:
        """FORMAT.md's table of commands, read from right to left: the first event tells, but for ended sessions."""
        first = names[-1] if names[0] == "session_ended" and names[-1] in ("user_erased", "session_started") else names[0]
        return {
            "user_registered": self.register_user, "user_erased": self.erase_user, "session_started": self.start_session,
            "session_ended": self.end_session, "simulin_adopted": self.adopt, "simulin_path_chosen": self.choose_path,
            "simulin_retired": self.retire, "season_started": self.start_season, "bet_placed": self.place_bets,
            "bet_resolved": self.advance_day, "day_resolved": self.advance_day, "season_abandoned": self.end_early,
            "season_expired": self.end_early, "suspicion_flagged": self.flag, "commitment_published": self.renew,
            "key_rotated": self.rotate_key, "ledger_restored": self.restore,
        }.get(first, self.no_command)  # fmt: skip

    def no_command(self, events: list[Event]) -> NoReturn:
        raise Refused("no command has these events")

    # -- the ledger's own

    def rotate_key(self, events: list[Event]) -> Decision:
        key_id, compromised = events[0].payload
        require(key_id not in self.keys_used, "KEY_ALREADY_USED")
        if compromised:
            self.compromised |= self.keys_used
        self.key = key_id
        self.keys_used.add(key_id)
        command = b"\x28" + key_id + bytes([compromised])
        return command, [(self.genesis.ledger_id, "key_rotated", (key_id, compromised))]

    def restore(self, events: list[Event]) -> Decision:
        nonce = events[0].payload.nonce
        self.epoch = (self.epoch[0] + 1, nonce)
        return b"\x29" + nonce, [(self.genesis.ledger_id, "ledger_restored", self.epoch)]

    # -- users

    def user(self, user_id: bytes) -> User:
        require(user_id in self.users, "USER_NOT_FOUND")
        user = self.users[user_id]
        require(user is not None, "USER_ERASED")
        assert user is not None
        return user

    def publish(self, user_id: bytes, user: User, events: list[Event]) -> Expected:
        """The next season's commitment: its value is the operator's and taken as given, all else is not."""
        require(self.key is not None, "KEY_UNAVAILABLE")
        assert self.key is not None
        given = next((e for e in events if e.kind.name == "commitment_published"), None)
        if given is None:  # then the comparison will fail here
            return user_id, "commitment_published", ()
        value = given.payload.commitment
        user.commitment = Commitment(given.seq, given.hash, user.seasons + 1, self.key, value, self.epoch)
        return user_id, "commitment_published", (user.seasons + 1, self.key, value)

    def withdrawn(self, promise: Commitment | Season) -> bool:
        """Whether a commitment's, or a season's, key was compromised or its epoch ended. Rotation alone spoils none."""
        return promise.key_id in self.compromised or promise.epoch != self.epoch

    def register_user(self, events: list[Event]) -> Decision:
        user_id = events[0].stream
        taken = user_id in self.users or user_id in self.seasons or user_id == self.genesis.ledger_id
        require(not taken, "USER_ALREADY_REGISTERED")
        user = self.users[user_id] = User()
        published = self.publish(user_id, user, events)
        return b"\x01" + user_id, [(user_id, "user_registered", ()), published]

    def erase_user(self, events: list[Event]) -> Decision:
        user_id = events[0].stream
        user = self.user(user_id)
        require(user.season is None, "SEASON_IN_PROGRESS")
        self.users[user_id] = None
        ends: list[Expected] = [(user_id, "session_ended", (n, ERASED)) for n in user.sessions]
        return b"\x02" + user_id, [*ends, (user_id, "user_erased", ())]

    def renew(self, events: list[Event]) -> Decision:
        user_id = events[0].stream
        user = self.user(user_id)
        require(user.season is None, "SEASON_IN_PROGRESS")
        assert user.commitment is not None
        in_force = user.commitment.key_id == self.key and user.commitment.epoch == self.epoch
        require(not in_force, "COMMITMENT_IN_FORCE")
        return b"\x20" + user_id, [self.publish(user_id, user, events)]

    def start_session(self, events: list[Event]) -> Decision:
        user_id = events[0].stream
        user = self.user(user_id)
        expected: list[Expected] = []
        if len(user.sessions) == 8:
            expected.append((user_id, "session_ended", (user.sessions.pop(0), REPLACED)))
        user.sessions_begun += 1
        user.sessions.append(user.sessions_begun)
        return b"\x03" + user_id, [*expected, (user_id, "session_started", (user.sessions_begun,))]

    def end_session(self, events: list[Event]) -> Decision:
        user_id, (session, reason) = events[0].stream, events[0].payload
        user = self.user(user_id)
        require(session in user.sessions, "SESSION_NOT_OPEN")
        user.sessions.remove(session)
        command = b"\x04" + user_id + varint(session) + bytes([reason])
        return command, [(user_id, "session_ended", (session, reason))]

    # -- simulins

    def simulin(self, user: User, simulin_id: bytes) -> Simulin:
        require(simulin_id in user.simulins, "SIMULIN_NOT_FOUND or SIMULIN_RETIRED")
        return user.simulins[simulin_id]

    def adopt(self, events: list[Event]) -> Decision:
        user_id, species = events[0].stream, events[0].payload.species
        user = self.user(user_id)
        require(len(user.simulins) < 3, "SIMULIN_LIMIT")
        user.adoptions += 1
        parts = user_id + u32(user.adoptions)
        simulin_id = derived_id(self.genesis.ledger_id, self.epoch, 2, events[0].at, parts)
        draws = Xoshiro256pp(digest("personality stream", self.genesis.hash + parts))
        traits = draws.below(101), draws.below(101), draws.below(101)
        user.simulins[simulin_id] = Simulin(species)
        fields = (simulin_id, user.adoptions, species, *traits)
        return b"\x0a" + user_id + bytes([species]), [(user_id, "simulin_adopted", fields)]

    def choose_path(self, events: list[Event]) -> Decision:
        user_id, (simulin_id, path) = events[0].stream, events[0].payload
        simulin = self.simulin(self.user(user_id), simulin_id)
        require(bond_level(simulin.xp) >= 8, "SIMULIN_TOO_YOUNG")
        require(simulin.path is None, "PATH_ALREADY_CHOSEN")
        simulin.path = path
        command = b"\x0b" + user_id + simulin_id + bytes([path])
        return command, [(user_id, "simulin_path_chosen", (simulin_id, path))]

    def retire(self, events: list[Event]) -> Decision:
        user_id, simulin_id = events[0].stream, events[0].payload.simulin_id
        user = self.user(user_id)
        self.simulin(user, simulin_id)
        del user.simulins[simulin_id]
        return b"\x0c" + user_id + simulin_id, [(user_id, "simulin_retired", (simulin_id,))]

    # -- seasons

    def season(self, events: list[Event], by_player: bool = True) -> Season:
        """The season that a command speaks of; players may not go on with a withdrawn one."""
        season_id = next(e.stream for e in events if e.kind.owner == "season")
        require(season_id in self.seasons, "SEASON_NOT_FOUND or over")
        season = self.seasons[season_id]
        require(not (by_player and self.withdrawn(season)), "SEASON_WITHDRAWN")
        return season

    def start_season(self, events: list[Event]) -> Decision:
        event, p = events[0], events[0].payload
        user = self.user(p.user_id)
        seen = user.commitment
        assert seen is not None
        require(user.season is None, "SEASON_IN_PROGRESS")
        day = event.at // UTC_DAY
        started = user.starts[1] if user.starts[0] == day else 0
        require(started < 4, "SEASON_LIMIT")
        require(p.commitment == seen.value, "COMMITMENT_CHANGED")
        require(not self.withdrawn(seen), "COMMITMENT_OUTDATED")
        companion = None
        if p.companion:
            simulin = self.simulin(user, p.companion[0])
            companion = (p.companion[0], simulin.species, simulin.path)
        user.starts, user.seasons = (day, started + 1), user.seasons + 1
        season_id = derived_id(self.genesis.ledger_id, self.epoch, 1, event.at, p.user_id + u32(user.seasons))
        by_key = digest("client seed", b"\x02" + event.command_id)
        client = p.client_digest if p.source == 1 else by_key
        zero = p.day_key_zero if digest("commitment", p.day_key_zero) == seen.value else None
        fields = (p.user_id, user.seasons, 1, seen.key_id, seen.value, seen.seq, seen.hash, p.source, client,
                  zero, companion, 500)  # fmt: skip
        season = Season(season_id, p.user_id, seen.key_id, seen.epoch, client, companion, 500,
                        p.day_key_zero, CLOUDY, event.at)  # fmt: skip
        season.weather = weather_after(season.seed(0, season.day_key), CLOUDY)
        self.seasons[season_id] = user.season = season
        self.counts["seasons"] += 1
        client_seed = b"\x00" + client if p.source == 1 else b"\x01"
        named = b"\x01" + companion[0] if companion else b"\x00"
        command = b"\x14" + p.user_id + seen.value + client_seed + named
        return command, [(season_id, "season_started", fields), (season_id, "day_opened", (1, season.weather))]

    def place_bets(self, events: list[Event]) -> Decision:
        season = self.season(events)
        at = events[0].at
        require(season.bet_at is None or at - season.bet_at >= RAPID, "RAPID_BET")
        bets = [e.payload for e in events if e.kind.name == "bet_placed"]
        expected: list[Expected] = []
        stored = b""
        for _, pot, bet_type, amount in bets:
            require(pot not in season.bets, "DUPLICATE_BET")
            require(amount <= season.balance, "INSUFFICIENT_BALANCE")
            require(allowed(bet_type, amount, season.balance), "AMOUNT_NOT_ALLOWED")
            season.bets[pot] = Bet(bet_type, amount)
            season.balance -= amount
            expected.append((season.id, "bet_placed", (season.day, pot, bet_type, amount)))
            stored += bytes([pot, bet_type]) + varint(amount)
        season.bet_at = at
        return b"\x15" + season.user_id + season.id + varint(len(bets)) + stored, expected

    def end_early(self, events: list[Event]) -> Decision:
        """AbandonSeason and ExpireSeason. A secret that is withheld cannot be judged; it is counted."""
        name, secret = events[0].kind.name, events[0].payload.season_secret
        season = self.season(events, by_player=name == "season_abandoned")
        if name == "season_expired":
            require(events[0].at - season.advanced_at >= IDLE or self.withdrawn(season), "SEASON_NOT_IDLE")
        revealed = secret if secret is None or season.accepts(secret) else "one that leads to the day keys"
        self.counts["unrevealed_seasons"] += secret is None
        fields = (season.escrow, season.balance + season.escrow, revealed)
        command = (b"\x17" if name == "season_abandoned" else b"\x1e") + season.user_id + season.id
        return command, [(season.id, name, fields), self.close(season, events)]

    def close(self, season: Season, events: list[Event]) -> Expected:
        """A season that ends is forgotten, and the next one's commitment published."""
        user = self.user(season.user_id)
        user.season = None
        del self.seasons[season.id]
        return self.publish(season.user_id, user, events)

    def flag(self, events: list[Event]) -> Decision:
        season = self.season(events, by_player=False)
        day, code = events[0].payload
        require(day <= season.day, "WRONG_DAY")
        require((day, code) not in season.flags, "ALREADY_FLAGGED")
        season.flags.add((day, code))
        command = b"\x1f" + season.user_id + season.id + bytes([day, code])
        return command, [(season.id, "suspicion_flagged", (day, code))]

    # -- a day

    def advance_day(self, events: list[Event]) -> Decision:
        season = self.season(events)
        resolved = next((e for e in events if e.kind.name == "day_resolved"), None)
        require(resolved is not None, "no command has these events")
        assert resolved is not None
        require(resolved.payload.day_number == season.day, "WRONG_DAY")
        key = resolved.payload.day_key
        if digest("day key", key) != season.day_key:
            raise Bad("outcome_mismatch", resolved.seq, f"event {resolved.seq}: not the key of this day")
        command = b"\x16" + season.user_id + season.id + bytes([season.day])
        expected = self.resolve_day(season, key)
        if season.day % 7 == 0:
            expected += self.end_week(season)
        if season.day < 28:
            expected += self.open_day(season, key, events[0].at)
        else:
            expected += self.complete(season, key, events)
        return command, expected

    def resolve_day(self, season: Season, key: bytes) -> list[Expected]:
        day, bets = season.day, season.bets
        day_fill = fill(season.seed(day, key), season.weather)
        outcome = resolve(day, day_fill, bets, season.companion)
        expected: list[Expected] = []
        for pot, threshold in outcome.won.items():
            bet = bets[pot]
            rate = multiplier(season.weather, pot, bet.type, threshold) if threshold else 0
            payout, share = bet.amount * rate // 10_000, 10 * bet.amount
            season.balance += payout
            self.jackpot += share
            expected.append((season.id, "bet_resolved", (day, pot, bet.amount, threshold, payout, share)))
        fields = (day, key, day_fill.levels, day_fill.pot_events, outcome.troubles, outcome.score)
        expected.append((season.id, "day_resolved", fields))
        expected += [(season.id, "trigger_earned", (day, t)) for t in outcome.triggers]
        season.week.append(outcome.triggers)
        season.week_score += outcome.score
        expected += self.give_xp(season, self.day_xp(season, outcome))
        season.bets, season.day_key = {}, key
        self.counts["days"] += 1
        return expected

    def day_xp(self, season: Season, outcome: Outcome) -> int:
        xp = 10 * any(bet.qualifies for bet in season.bets.values()) + 40 * (SIMULIN_SYNC in outcome.triggers)
        watcher = season.companion is not None and season.companion[2] == WATCHER
        return xp + 40 * (watcher and PERFECT_READ in outcome.triggers)

    def give_xp(self, season: Season, xp: int) -> list[Expected]:
        """XP goes to a companion that was not retired; the path is the one that the season froze."""
        user = self.user(season.user_id)
        if not xp or season.companion is None or season.companion[0] not in user.simulins:
            return []
        simulin_id, _, path = season.companion
        simulin = user.simulins[simulin_id]
        gained = xp * 3 // 2 if path == LUCKY else xp
        before, simulin.xp = bond_level(simulin.xp), simulin.xp + gained
        expected: list[Expected] = [(season.user_id, "simulin_xp_gained", (simulin_id, gained, simulin.xp))]
        if (after := bond_level(simulin.xp)) > before:
            expected.append((season.user_id, "simulin_level_reached", (simulin_id, after)))
        return expected

    def end_week(self, season: Season) -> list[Expected]:
        week, hand = season.day // 7, hand_of(season.week)
        score = season.week_score * HAND_MULTIPLIER[hand]
        season.score += score
        season.week, season.week_score = [], 0
        expected: list[Expected] = [(season.id, "week_evaluated", (week, hand, HAND_MULTIPLIER[hand], score))]
        paid = min(1000, self.jackpot // 1000) if hand == ROYAL_FLUSH else 0
        if paid:
            self.jackpot -= 1000 * paid
            season.balance += paid
            season.jackpot_won += paid
            expected.append((season.id, "jackpot_paid", (week, paid)))
        return expected + self.give_xp(season, 25 if hand else 0)

    def open_day(self, season: Season, key: bytes, at: int) -> list[Expected]:
        expected: list[Expected] = []
        season.weather = weather_after(season.seed(season.day, key), season.weather)
        season.day += 1
        season.advanced_at = at
        if season.balance < 50:
            expected.append((season.id, "stipend_granted", (season.day, 50 - season.balance)))
            season.balance = 50
        return [*expected, (season.id, "day_opened", (season.day, season.weather))]

    def complete(self, season: Season, key: bytes, events: list[Event]) -> list[Expected]:
        final = season.score + max(0, season.balance - season.jackpot_won)
        ended = (season.id, "season_completed", (final, season.balance, key))
        return [ended, self.close(season, events)]


def allowed(bet_type: int, amount: int, balance: int) -> bool:
    """RULEBOOK.md's table of bets. With nothing left, a fold is the only bet."""
    if bet_type == FOLD:
        return amount == 0
    most = min(balance, 10_000)
    if bet_type == ALL_IN:
        return amount == most > 0
    return 1 <= amount <= min(most, max(1, balance // (10 if bet_type == CALL else 2)))


def difference(event: Event, wanted: Expected) -> str:
    """A sentence for people: what the rules give instead."""
    stream, name, payload = wanted
    if event.stream != stream:
        return f"lies in stream {event.stream.hex()}, not {stream.hex()}"
    if event.kind.name != name:
        return f"stands where {name} belongs"
    show = lambda value: value.hex() if isinstance(value, bytes) else repr(value)  # noqa: E731
    pairs = zip(event.payload._fields, event.payload, payload)
    return "; ".join(f"has {f} {show(a)}, not {show(b)}" for f, a, b in pairs if a != b)


# --- The file (FORMAT.md, "The file") ---

APPLICATION_ID, FORMAT_VERSION = 0x44415942, 1

SCHEMA = """
CREATE TABLE genesis (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  ledger_id BLOB NOT NULL,
  format_version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  is_demo INTEGER NOT NULL,
  hash BLOB NOT NULL
) STRICT;

CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  recorded_at INTEGER NOT NULL,
  stream BLOB NOT NULL,
  stream_prev INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  version INTEGER NOT NULL,
  command BLOB NOT NULL,
  payload BLOB NOT NULL,
  hash BLOB NOT NULL
) STRICT;""" + "".join(f"""

CREATE TRIGGER {table}_refuse_{verb} BEFORE {verb.upper()} ON {table}
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: {said} never {verb}d'); END;"""
    for table, said in (("events", "events are"), ("genesis", "the genesis is")) for verb in ("update", "delete"))  # fmt: skip


class Genesis(NamedTuple):
    ledger_id: bytes
    created_at: int
    hash: bytes


def open_ledger(directory: Path) -> sqlite3.Connection:
    """Open read-only. `immutable` would miss what a writer's -wal holds, so it is only the second try."""
    path = directory / "ledger.db"
    if not path.is_file():
        raise NoLedger(f"{path} does not exist")
    wal = path.with_name("ledger.db-wal")
    second = [] if wal.exists() and wal.stat().st_size else ["mode=ro&immutable=1"]
    for mode in ["mode=ro", *second]:
        try:
            db = sqlite3.connect(f"file:{quote(str(path.resolve()))}?{mode}", uri=True, isolation_level=None)
            db.execute("BEGIN")  # one snapshot, whatever a writer does meanwhile
            check_pragmas(db)
            return db
        except sqlite3.Error as why:
            error = why
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CORRUPT:
        raise Bad("unreadable", None, f"SQLite cannot read the file: {error}")
    raise NoLedger(f"{path} cannot be read: {error}")


def check_pragmas(db: sqlite3.Connection) -> None:
    application, version = (db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("application_id", "user_version"))
    if application != APPLICATION_ID:
        raise NoLedger("this SQLite file is no ledger")
    if version != FORMAT_VERSION:
        raise NoLedger(f"this ledger has format {version}; this program knows format {FORMAT_VERSION}")


def read_genesis(db: sqlite3.Connection) -> Genesis:
    """The one row that every hash rests on. Whatever is wrong with it, it is the genesis that does not hold."""
    try:
        rows = db.execute("SELECT id, ledger_id, format_version, created_at, is_demo, hash FROM genesis").fetchall()
    except sqlite3.Error as why:
        raise Bad("unreadable", 0, f"the genesis cannot be read: {why}") from None
    if [[type(c) for c in row] for row in rows] != [[int, bytes, int, int, int, bytes]]:
        raise Bad("broken_link", 0, "the genesis is not one row of the right types")
    row_id, ledger_id, version, created_at, is_demo, stored = rows[0]
    if (row_id, len(ledger_id), version, len(stored)) != (1, 16, FORMAT_VERSION, 32) or is_demo not in (0, 1):
        raise Bad("broken_link", 0, "a column of the genesis holds no such value")
    if digest("genesis", ledger_id + struct.pack("<IqB", version, created_at, is_demo)) != stored:
        raise Bad("broken_link", 0, "the genesis has another hash than the stored one")
    return Genesis(ledger_id, created_at, stored)


QUERY = "SELECT seq, recorded_at, stream, stream_prev, kind, version, command, payload, hash FROM events"


def read_events(db: sqlite3.Connection, last_seq: Callable[[], int]) -> Iterator[tuple]:
    """The rows in order. Where SQLite cannot read on, the row after the last good one is unreadable."""
    try:
        yield from db.execute(f"{QUERY} ORDER BY seq")
    except sqlite3.Error as why:
        try:  # Python's cursor reads one row ahead, so the row that it still held may be good
            yield from db.execute(f"{QUERY} WHERE seq = ?", (last_seq() + 1,))
        except sqlite3.Error:
            pass
        raise Bad("unreadable", last_seq() + 1, f"SQLite cannot read on: {why}") from None


def check_guards(db: sqlite3.Connection) -> None:
    """Exactly FORMAT.md's tables and triggers, by name and text; nothing less and nothing more."""
    wanted = {s.strip().removesuffix(";") for s in SCHEMA.split("\n\n")}
    found = {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'")}
    if odd := sorted(wanted ^ found):
        raise Bad("guards_missing", None, f"missing or foreign in the schema: {odd[0].splitlines()[0]}")


# --- Verification and its report ---

Head = tuple[int, bytes]


@dataclass
class Report:
    verdict: str = "intact"
    events: int = 0
    head_seq: int = 0
    head_hash: str = ""
    first_bad_seq: int | None = None
    detail: str = ""
    seconds: float = 0.0
    seasons: int = 0
    days: int = 0
    unrevealed_seasons: int = 0


class Verifier:
    def __init__(self, directory: Path, heads: list[Head], full: bool) -> None:
        self.directory, self.heads, self.full = directory, heads, full
        self.seen: dict[int, bytes] = {}  # the hashes at the given heads' places
        self.report = Report()

    def run(self) -> Report:
        start = time.monotonic()
        try:
            db = open_ledger(self.directory)
            self.check_rows(db)
            self.check_heads()
            check_guards(db)
            # Format 1 stores no signature. Signed checkpoints (Ed25519, `cryptography`) would be checked here:
            # bad_signature, unknown_key and inconsistent_checkpoint come last in FORMAT.md's list.
        except Bad as bad:
            self.report.verdict, self.report.first_bad_seq, self.report.detail = bad.verdict, bad.seq, bad.detail
        self.report.seconds = round(time.monotonic() - start, 3)
        return self.report

    def check_rows(self, db: sqlite3.Connection) -> None:
        genesis = read_genesis(db)
        chain = Chain(genesis)
        engine = Engine(genesis) if self.full else None
        self.note(0, genesis.hash)
        command: list[Event] = []
        for row in read_events(db, lambda: chain.seq):
            event = chain.add(row)
            self.note(event.seq, event.hash)
            command.append(event)
            if not chain.open_command:
                if engine is not None:
                    self.judge(engine, command)
                command = []
        chain.finish()
        if engine is not None and not engine.accounts.balanced():
            raise Bad("unbalanced", chain.seq, "the accounts do not sum to zero")

    def judge(self, engine: Engine, command: list[Event]) -> None:
        try:
            engine.run(command)
        finally:
            counts = engine.counts
            self.report.seasons, self.report.days = counts["seasons"], counts["days"]
            self.report.unrevealed_seasons = counts["unrevealed_seasons"]

    def note(self, seq: int, stored_hash: bytes) -> None:
        self.report.events, self.report.head_seq, self.report.head_hash = seq, seq, stored_hash.hex()
        if any(seq == wanted for wanted, _ in self.heads):
            self.seen[seq] = stored_hash

    def check_heads(self) -> None:
        if any(seq not in self.seen for seq, _ in self.heads):
            raise Bad("truncated", self.report.head_seq + 1, "the ledger ends before a given head")
        for seq, wanted in sorted(self.heads):
            if self.seen[seq] != wanted:
                raise Bad("head_mismatch", seq, f"event {seq} has another hash than the given head")


# --- Command line ---

def parse_head(text: str) -> Head:
    if not re.fullmatch(r"[0-9]{1,20}:[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError("a head is SEQ:HASH, in decimal and 64 lower-case hex digits")
    seq, hexed = text.split(":")
    return int(seq), bytes.fromhex(hexed)


def print_report(report: Report, as_json: bool, full: bool) -> None:
    if as_json:
        print(json.dumps(vars(report)))
        return
    where = "" if report.first_bad_seq is None else f" at event {report.first_bad_seq}"
    print(f"{report.verdict}{where}: {report.events} events read, head {report.head_seq}:{report.head_hash}")
    if report.detail:
        print(report.detail)
    elif full:
        print(f"{report.seasons} seasons and {report.days} days decided again;"
              f" {report.unrevealed_seasons} seasons ended unrevealed")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Verify a daybook ledger, from the documents alone.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the directory of ledger.db")
    parser.add_argument("--full", action="store_true", help="decide every command again, balance the accounts")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--head", type=parse_head, action="append", default=[], metavar="SEQ:HASH",
                        help="hold the ledger to a head noted earlier; may be given more than once")  # fmt: skip
    arguments = parser.parse_args()
    try:
        report = Verifier(arguments.data, arguments.head, arguments.full).run()
    except (NoLedger, sqlite3.Error) as why:
        print(f"second_reader: {why}", file=sys.stderr)
        return 2
    print_report(report, arguments.json, arguments.full)
    return 0 if report.verdict == "intact" else 1


if __name__ == "__main__":
    sys.exit(main())
