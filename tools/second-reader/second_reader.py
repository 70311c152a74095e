#!/usr/bin/env python3
"""A second, independent verifier of daybook ledgers, written from the documents alone.

FORMAT.md says what every stored byte means and what a verifier reports, RULEBOOK.md the rules of the game.
No source of the first implementation was read: where the two agree, the documents are enough; where they do
not, one of the three is wrong. check.py, beside this file, sets the two against each other. A few things that
the documents left open follow what the first implementation was seen to do when run, and prove nothing by
agreeing: how forged events are taken for a command (`Engine.recognise`), the order of the checks of the whole
file (`Verifier.run`), what becomes of a head without a signing key, and what an erased user keeps in a state.

    second_reader.py --data DIR [--keys DIR] [--full] [--json] [--head SEQ:HASH]...

A ledger is held to every head that is known of it: those given, the signed one in the keys directory, and
those of the snapshots beside it. With --full every command is decided again, and what a snapshot says of the
state is compared with what the events give; a difference is the verdict `snapshot_mismatch`, which FORMAT.md
does not have, as to the first implementation a snapshot is a cache.

Rows are read in order, one command at a time. Memory grows with the users, the seasons in play and the
snapshots, not with the events. Exit status: 0 intact, 1 something does not hold, 2 nothing could be verified.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import math
import re
import sqlite3
import struct
import sys
import time
import uuid
from collections import Counter, defaultdict, namedtuple
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NamedTuple, NoReturn
from urllib.parse import quote

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# --- Failures. FORMAT.md: the smallest bad seq wins; at one seq, the first verdict of its list. ---

class CannotVerify(Exception):
    """Nothing can be verified: no file, another program's file, a newer format, a signature that is false."""


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
def hasher(context: str, version: int) -> blake3:
    """The context's key schedule costs as much as a short message: derive it once, copy it after."""
    return blake3(derive_key_context=f"daybook v{version} {context}")


def digest(context: str, data: bytes, version: int = 1) -> bytes:
    state = hasher(context, version).copy()
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


def listing(item: Reader, most: int, least: int = 0) -> Reader:
    def read(data: bytes, at: int) -> tuple[tuple, int]:
        count, at = number(least, most)(data, at)
        return sequence(*[item] * count)(data, at)

    return read


def read_threshold(data: bytes, at: int) -> tuple[int, int]:
    if data[at] not in THRESHOLDS:
        raise Unreadable(f"{data[at]} is no threshold")
    return data[at], at + 1


THRESHOLDS = (50, 80, 100)
TYPES: dict[str, Reader] = {
    "id": raw(16), "nonce": raw(16), "key_id": raw(8), "hash": raw(32), "bool": byte(0, 1),
    "seq": number(1, 2**63 - 1), "coins": number(0, 10**15), "millicoins": number(0, 10**18), "score": number(0, 10**15),
    "u32": number(1, 2**32 - 1), "xp": number(0, 2**32 - 1), "ruleset": number(1, 2**16 - 1),
    "epoch": number(0, 2**32 - 1), "multiplier": number(1, 100), "day": byte(1, 28), "week": byte(1, 4),
    "bond_level": byte(1, 25), "trait": byte(0, 100), "weather": byte(0, 3), "pot": byte(0, 3), "bet": byte(0, 3),
    "trigger": byte(0, 4), "hand": byte(0, 9), "species": byte(0, 3), "path": byte(0, 2), "end": byte(0, 5),
    "suspicion": byte(0, 2), "source": byte(1, 2), "secret?": option(raw(32)), "threshold?": option(read_threshold),
    "levels": sequence(*[byte(0, 100)] * 4), "pot_events": sequence(*[byte(0, 3)] * 4),
    "lost_heads": listing(sequence(number(0, 2**64 - 1), raw(32)), 8, 1), "troubles": listing(sequence(byte(0, 3), byte(1, 5), byte(0, 1)), 2),
    "companion?": option(sequence(raw(16), byte(0, 3), option(byte(0, 2)))),
}  # fmt: skip

KINDS_TABLE = """
 1 key_rotated            ledger  key_id:key_id compromised:bool
 2 ledger_restored        ledger  number:epoch nonce:nonce
 2/2 ledger_restored      ledger  number:epoch nonce:nonce lost_heads:lost_heads
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

SEASON_ENDS = ("season_completed", "season_abandoned", "season_expired")  # in the order of their numbers in a state


class Kind(NamedTuple):
    """One line of the table of kinds."""

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


def parse_number(text: str) -> tuple[int, int]:
    """A kind's number and version: version 1 is not written."""
    num, _, version = text.partition("/")
    return int(num), int(version or 1)


def parse_kinds(table: str) -> dict[tuple[int, int], Kind]:
    kinds = {}
    for line in table.strip().splitlines():
        num, name, owner, *fields = line.split()
        names, types = zip(*(f.split(":") for f in fields)) if fields else ((), ())
        kinds[parse_number(num)] = Kind(name, owner, namedtuple(name, names), tuple(TYPES[t] for t in types))
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
    if (kind_number, version) not in KINDS:
        raise Unreadable(f"kind {kind_number} version {version} is unknown")
    if len(payload) > 512:
        raise Unreadable("the payload is longer than 512 bytes")
    place, size = read_place(command)
    kind = KINDS[kind_number, version]
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

    def totals(self) -> list[int]:
        """Mint, house, jackpot, all balances, all escrows."""
        sums: Counter[str] = Counter()
        for (_, name), amount in self.of.items():
            sums[name] += amount
        return [sums[name] for name in ("mint", "house", "jackpot", "balance", "escrow")]

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
    number: int
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
    jackpot_contribution: int = 0  # millicoins
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
    erased: bool = False
    commitment: Commitment | None = None  # none while a season is in play: its start used it up
    season: Season | None = None
    ended: tuple[bytes, int] | None = None  # the newest season and how it ended, until the next starts
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
        self.epochs = [FIRST_EPOCH]
        self.key: bytes | None = None
        self.keys: dict[bytes, bool] = {}  # every key that was ever in force, and whether it was compromised
        self.users: dict[bytes, User] = {}
        self.seasons: dict[bytes, Season] = {}  # those in play
        self.jackpot = 0  # millicoins
        self.accounts = Accounts()
        self.counts: Counter[str] = Counter()

    def run(self, events: list[Event]) -> None:
        """Judge one command. Bad if its events are not the ones that the rules give."""
        first = events[0].seq
        decide = self.recognise(events)
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

    def user_of(self, first: Event) -> bytes | None:
        """Whose command an event begins; none for the ledger's own. To be asked before the command is decided."""
        if first.kind.owner != "season":
            return first.stream if first.kind.owner == "user" else None
        if first.kind.name == "season_started":
            return first.payload.user_id
        season = self.seasons.get(first.stream)
        return season.user_id if season else None

    def recognise(self, events: list[Event]) -> Callable[[list[Event]], Decision]:
        """FORMAT.md's table of commands, read from right to left.

        Two commands are told by their last event, the advance of a day by its `day_resolved` after whatever event of
        a season, all others by their first. This matters for forged ones alone: it decides whether such events are
        those of no command, or those of one with some that do not belong there.
        """
        names = [event.kind.name for event in events]
        if names[-1] in ("user_erased", "session_started"):
            return self.erase_user if names[-1] == "user_erased" else self.start_session
        if events[0].kind.owner == "season" and names[0] != "season_started" and "day_resolved" in names:
            return self.advance_day
        return {
            "user_registered": self.register_user, "session_ended": self.end_session,
            "simulin_adopted": self.adopt, "simulin_path_chosen": self.choose_path,
            "simulin_retired": self.retire, "season_started": self.start_season, "bet_placed": self.place_bets,
            "season_abandoned": self.end_early,
            "season_expired": self.end_early, "suspicion_flagged": self.flag, "commitment_published": self.renew,
            "key_rotated": self.rotate_key, "ledger_restored": self.restore,
        }.get(names[0], self.no_command)  # fmt: skip

    def no_command(self, events: list[Event]) -> NoReturn:
        raise Refused("no command has these events")

    # -- the ledger's own

    def rotate_key(self, events: list[Event]) -> Decision:
        key_id, compromised = events[0].payload
        require(key_id not in self.keys, "KEY_ALREADY_USED")
        if compromised:
            self.keys = dict.fromkeys(self.keys, True)
        self.key = key_id
        self.keys[key_id] = False
        command = b"\x28" + key_id + bytes([compromised])
        return command, [(self.genesis.ledger_id, "key_rotated", (key_id, compromised))]

    def restore(self, events: list[Event]) -> Decision:
        payload = events[0].payload
        self.epoch = (self.epoch[0] + 1, payload.nonce)
        self.epochs.append(self.epoch)
        lost = getattr(payload, "lost_heads", None)
        if lost is None:  # of version 1
            return b"\x29" + payload.nonce, [(self.genesis.ledger_id, "ledger_restored", self.epoch)]
        command = b"\x2a" + payload.nonce + varint(len(lost)) + b"".join(varint(seq) + row for seq, row in lost)
        return command, [(self.genesis.ledger_id, "ledger_restored", (*self.epoch, lost))]

    # -- users

    def user(self, user_id: bytes) -> User:
        require(user_id in self.users, "USER_NOT_FOUND")
        user = self.users[user_id]
        require(not user.erased, "USER_ERASED")
        return user

    def publish(self, user_id: bytes, user: User, events: list[Event]) -> Expected:
        """The next season's commitment: its value is the operator's and taken as given, all else is not."""
        require(self.key is not None, "KEY_UNAVAILABLE")
        assert self.key is not None
        given = next((e for e in events if e.kind.name == "commitment_published"), None)
        require(given is not None, "no commitment is published")
        assert given is not None
        value = given.payload.commitment
        user.commitment = Commitment(given.seq, given.hash, user.seasons + 1, self.key, value, self.epoch)
        return user_id, "commitment_published", (user.seasons + 1, self.key, value)

    def withdrawn(self, promise: Commitment | Season) -> bool:
        """Whether a commitment's, or a season's, key was compromised or its epoch ended. Rotation alone spoils none."""
        return self.keys[promise.key_id] or promise.epoch != self.epoch

    def register_user(self, events: list[Event]) -> Decision:
        user_id = events[0].stream
        taken = user_id in self.users or user_id in self.seasons or user_id == self.genesis.ledger_id
        require(not taken, "USER_ALREADY_REGISTERED")
        user = self.users[user_id] = User()
        published = self.publish(user_id, user, events)
        return b"\x01" + user_id, [(user_id, "user_registered", ()), published]

    def erase_user(self, events: list[Event]) -> Decision:
        user_id = events[-1].stream
        user = self.user(user_id)
        require(user.season is None, "SEASON_IN_PROGRESS")
        ends: list[Expected] = [(user_id, "session_ended", (n, ERASED)) for n in user.sessions]
        user.erased, user.sessions, user.commitment = True, [], None  # companions stay, out of reach
        return b"\x02" + user_id, [*ends, (user_id, "user_erased", ())]

    def renew(self, events: list[Event]) -> Decision:
        user_id = events[0].stream
        user = self.user(user_id)
        require(user.season is None, "SEASON_IN_PROGRESS")
        assert user.commitment is not None  # whoever has no season in play has a commitment
        in_force = user.commitment.key_id == self.key and user.commitment.epoch == self.epoch
        require(not in_force, "COMMITMENT_IN_FORCE")
        return b"\x20" + user_id, [self.publish(user_id, user, events)]

    def start_session(self, events: list[Event]) -> Decision:
        user_id = events[-1].stream
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
        require(user.season is None, "SEASON_IN_PROGRESS")
        seen = user.commitment
        assert seen is not None
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
        user.commitment = user.ended = None
        season_id = derived_id(self.genesis.ledger_id, self.epoch, 1, event.at, p.user_id + u32(user.seasons))
        by_key = digest("client seed", b"\x02" + event.command_id)
        client = p.client_digest if p.source == 1 else by_key
        zero = p.day_key_zero if digest("commitment", p.day_key_zero) == seen.value else None
        fields = (p.user_id, user.seasons, 1, seen.key_id, seen.value, seen.seq, seen.hash, p.source, client,
                  zero, companion, 500)  # fmt: skip
        season = Season(season_id, p.user_id, user.seasons, seen.key_id, seen.epoch, client, companion, 500,
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
        return command, [(season.id, name, fields), self.close(season, name, events)]

    def close(self, season: Season, how: str, events: list[Event]) -> Expected:
        """A season that ends is forgotten, and the next one's commitment published."""
        user = self.user(season.user_id)
        user.season, user.ended = None, (season.id, SEASON_ENDS.index(how))
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
        resolved = next(e for e in events if e.kind.name == "day_resolved")
        require(resolved.payload.day_number == season.day, "WRONG_DAY")
        key = resolved.payload.day_key
        require(digest("day key", key) == season.day_key, "not the key of this day")
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
            season.jackpot_contribution += share
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
        return [ended, self.close(season, "season_completed", events)]


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


# --- States (FORMAT.md, "Snapshots"): encoding the one that the engine has, decoding another's ---

def signed_varint(value: int) -> bytes:
    """The zigzag form: 0, -1, 1, -2 become 0, 1, 2, 3. Only an i128 needs the form of 16 bytes."""
    zigzag = value << 1 if value >= 0 else (-value << 1) - 1
    return varint(zigzag) if zigzag < 1 << 64 else b"\xfe" + zigzag.to_bytes(16, "little")


def read_signed(data: bytes, at: int) -> tuple[int, int]:
    if data[at] == 254:
        zigzag, end = int.from_bytes(data[at + 1 : at + 17], "little"), at + 17
        if end > len(data) or zigzag < 1 << 64:
            raise Unreadable("a varint that is cut or longer than it need be")
    else:
        zigzag, end = read_varint(data, at)
    return (zigzag >> 1) ^ -(zigzag & 1), end


def encode_option(value: Any, encode: Callable[[Any], bytes]) -> bytes:
    return b"\0" if value is None else b"\1" + encode(value)


def encode_list(items: Iterable[bytes]) -> bytes:
    encoded = list(items)
    return varint(len(encoded)) + b"".join(encoded)


def encode_state(engine: Engine) -> bytes:
    """What the rules need to know of all events so far, byte for byte as a snapshot holds it."""
    return b"".join((
        engine.genesis.hash,
        encode_list(varint(number) + nonce for number, nonce in engine.epochs),
        encode_list(key_id + bytes([compromised]) for key_id, compromised in engine.keys.items()),
        *(signed_varint(amount) for amount in engine.accounts.totals()),
        encode_list(user_id + encode_user(user) for user_id, user in sorted(engine.users.items())),
        encode_list(season_id + encode_season(season) for season_id, season in sorted(engine.seasons.items())),
    ))  # fmt: skip


def encode_user(user: User) -> bytes:
    promise = user.commitment
    return b"".join((
        bytes([user.erased]), varint(user.sessions_begun), encode_list(map(varint, user.sessions)),
        varint(user.adoptions),
        encode_list(simulin_id + bytes([s.species]) + encode_option(s.path, lambda path: bytes([path]))
                    + varint(s.xp) + bytes([bond_level(s.xp)]) for simulin_id, s in user.simulins.items()),
        varint(user.seasons), signed_varint(user.starts[0]), bytes([user.starts[1]]),
        encode_option(user.season, lambda season: season.id),
        encode_option(user.ended, lambda ended: ended[0] + varint(ended[1])),
        encode_option(promise, lambda c: varint(c.season_number) + c.key_id + varint(c.epoch[0]) + c.value
                      + varint(c.seq) + c.hash),
    ))  # fmt: skip


def encode_season(season: Season) -> bytes:
    flags: defaultdict[int, int] = defaultdict(int)  # by day; a map is in the order of its keys
    for day, code in sorted(season.flags):
        flags[day] |= 1 << code
    triggers = [sum(1 << t for t in day) for day in season.week]
    return b"".join((
        season.user_id, varint(season.number), varint(1), season.key_id, varint(season.epoch[0]),
        season.client_digest, season.day_key,
        encode_option(season.companion, lambda c: c[0] + bytes([c[1]]) + encode_option(c[2], lambda p: bytes([p]))),
        bytes([season.day, season.weather]), signed_varint(season.balance), signed_varint(season.escrow),
        *(encode_option(season.bets.get(pot), lambda bet: bytes([bet.type]) + varint(bet.amount)) for pot in POTS),
        encode_option(season.bet_at, signed_varint), signed_varint(season.advanced_at),
        varint(season.jackpot_contribution), varint(season.jackpot_won), varint(season.week_score),
        varint(season.score), bytes(triggers).ljust(7, b"\0"),
        encode_list(bytes([day, codes]) for day, codes in flags.items()),
    ))  # fmt: skip


def record(**fields: Reader) -> Reader:
    """Fields one after another, as a dict of their names."""

    def read(data: bytes, at: int) -> tuple[dict[str, Any], int]:
        values = {}
        for name, read_one in fields.items():
            values[name], at = read_one(data, at)
        return values, at

    return read


def many(item: Reader) -> Reader:
    """A list of any length."""

    def read(data: bytes, at: int) -> tuple[list, int]:
        count, at = read_varint(data, at)
        values = []
        for _ in range(count):
            value, at = item(data, at)
            values.append(value)
        return values, at

    return read


def mapping(key: Reader, item: Reader) -> Reader:
    """A list of pairs in ascending order of the key, as a dict."""

    def read(data: bytes, at: int) -> tuple[dict, int]:
        pairs, at = many(sequence(key, item))(data, at)
        keys = [k for k, _ in pairs]
        if any(a >= b for a, b in zip(keys, keys[1:])):
            raise Unreadable("a map is not in ascending order")
        return dict(pairs), at

    return read


ANY_U8 = byte(0, 255)
U16, U32 = number(0, 2**16 - 1), number(0, 2**32 - 1)
I64 = bounded(read_signed, -(2**63), 2**63 - 1)
I128 = bounded(read_signed, -(2**127), 2**127 - 1)
T = TYPES

STATE = record(
    genesis_hash=raw(32),
    epochs=many(record(number=U32, nonce=raw(16))),
    season_keys=many(record(key_id=raw(8), compromised=T["bool"])),
    accounts=record(mint=I128, house=I128, jackpot=I128, balances=I128, escrows=I128),
    users=mapping(raw(16), record(
        erased=T["bool"], sessions_started=U32, open_sessions=many(U32), adoptions=U32,
        simulins=many(record(simulin_id=raw(16), species=T["species"], path=option(T["path"]), bond_xp=U32,
                             bond_level=T["bond_level"])),
        seasons=U32, newest_start_day=I64, starts_on_it=ANY_U8, in_play=option(raw(16)),
        ended=option(record(season_id=raw(16), end=number(0, 2))),
        commitment=option(record(season_number=U32, key_id=raw(8), epoch=U32, commitment=raw(32), seq=T["seq"],
                                 hash=raw(32))),
    )),
    seasons=mapping(raw(16), record(
        user_id=raw(16), season_number=U32, ruleset=U16, key_id=raw(8), epoch=U32, client_digest=raw(32),
        day_key=raw(32),
        companion=option(record(simulin_id=raw(16), species=T["species"], path=option(T["path"]))),
        day=T["day"], weather=T["weather"], balance=I64, escrow=I64,
        bets=sequence(*[option(record(bet=T["bet"], amount=read_varint))] * 4),
        bet_at=option(I64), advanced_at=I64, jackpot_contribution=read_varint, jackpot_won=read_varint,
        week_score=read_varint, past_scores=read_varint, triggers=raw(7), suspicions=mapping(ANY_U8, ANY_U8),
    )),
)  # fmt: skip


def whole(read: Reader, data: bytes) -> Any:
    """Decode bytes that are one value and nothing else."""
    try:
        value, end = read(data, 0)
    except IndexError:
        raise Unreadable("it ends early") from None
    if end != len(data):
        raise Unreadable("something follows the last field")
    return value


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a decoded state with its path, so that a difference can be named."""
    if isinstance(value, dict):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (list, tuple)):
        pairs = enumerate(value)
    else:
        yield path, value.hex() if isinstance(value, bytes) else value
        return
    yield f"{path}.count", len(value)
    for key, inner in pairs:
        yield from flat(inner, f"{path}.{key.hex() if isinstance(key, bytes) else key}".lstrip("."))


def state_difference(theirs: bytes, ours: bytes) -> str | None:
    """The first field in which another's state is not the one that the events give."""
    if theirs == ours:
        return None
    try:
        left, right = dict(flat(whole(STATE, theirs))), dict(flat(whole(STATE, ours)))
    except Unreadable as why:
        return f"the state does not decode: {why}"
    for path in [*right, *left]:
        if left.get(path) != right.get(path):
            return f"{path} is {left.get(path)!r}, the events give {right.get(path)!r}"
    return "the state has another encoding than its own"


# --- Snapshots (FORMAT.md, "Snapshots") ---

class Snapshot(NamedTuple):
    """What a snapshot file says, its state still encoded."""

    path: Path
    seq: int
    hash: bytes
    recorded_at: int
    state_hash: bytes
    floor: int  # of all users, -2^63 for none
    state: bytes
    streams: list[tuple[bytes, int]]
    commands: list[tuple[bytes, bytes | None, bytes, int, int]]  # id, user, hash, seq of the first event, events
    floors: dict[bytes | None, int]  # by user; none in version 1
    flaw: str | None  # where what follows the header is no encoding, although the checksum holds


SNAPSHOT_HEAD = struct.Struct("<16sH16s32sQ32sq32sqQ")
STREAM_ENTRY, COMMAND_ENTRY = struct.Struct("<16sQ"), struct.Struct("<16sB16s16sQB")
FLOOR_ENTRY = struct.Struct("<B16sq")
NO_FLOOR = -(2**63)


def read_snapshots(directory: Path, genesis: Genesis) -> list[Snapshot]:
    """The sound ones of this ledger: a damaged one, or another's, is a cache that counts for nothing."""
    found = []
    for path in sorted(directory.glob("[0-9]" * 20 + ".snapshot")):
        data = path.read_bytes()
        body, checksum = data[:-32], data[-32:]
        if len(body) < SNAPSHOT_HEAD.size or digest("snapshot", body) != checksum:
            continue
        magic, version, ledger_id, genesis_hash, seq, row, at, state_hash, floor, size = SNAPSHOT_HEAD.unpack_from(body)
        if (magic, ledger_id, genesis_hash) != (b"daybook snapshot", genesis.ledger_id, genesis.hash):
            continue
        if version not in (1, 2):
            continue
        try:
            state, streams, commands, floors = read_tables(body[SNAPSHOT_HEAD.size :], size, version)
            flaw = None
        except (struct.error, Unreadable) as why:
            state, streams, commands, floors, flaw = b"", [], [], {}, str(why)
        found.append(Snapshot(path, seq, row, at, state_hash, floor, state, streams, commands, floors, flaw))
    return found


def user_or_none(has_user: int, user_id: bytes) -> bytes | None:
    if has_user > 1 or (not has_user and any(user_id)):
        raise Unreadable("a user is neither there nor absent")
    return user_id if has_user else None


def read_tables(data: bytes, size: int, version: int) -> tuple[bytes, list, list, dict]:
    """A snapshot's state, its streams, the commands that it remembers, and the floors of those it does not."""
    if size > len(data):
        raise Unreadable("the state is cut")
    state, at = data[:size], size
    tables: list[list[tuple]] = []
    for entry in (STREAM_ENTRY, COMMAND_ENTRY) + ((FLOOR_ENTRY,) if version > 1 else ()):
        (count,) = struct.unpack_from("<Q", data, at)
        end = at + 8 + count * entry.size
        if end > len(data):
            raise Unreadable("a table is cut")
        tables.append(list(entry.iter_unpack(data[at + 8 : end])))
        at = end
    if at != len(data):
        raise Unreadable("something follows the last table")
    streams, raw_commands, *raw_floors = tables
    commands = []
    for command_id, has_user, user_id, command_hash, seq, events in raw_commands:
        commands.append((command_id, user_or_none(has_user, user_id), command_hash, seq, events))
    floors = [(user_or_none(has_user, user_id), floor) for table in raw_floors for has_user, user_id, floor in table]
    of_command = (lambda c: (c[0], c[1] or b"")) if version == 1 else (lambda c: (c[1] or b"", c[0]))
    for keys in ([s for s, _ in streams], [of_command(c) for c in commands], [user or b"" for user, _ in floors]):
        if any(a >= b for a, b in zip(keys, keys[1:])):
            raise Unreadable("a table is not in ascending order")
    return state, streams, commands, dict(floors)


class SnapshotCheck:
    """Sets one snapshot against what the events up to its seq give. It is fed every command, then settled."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.problem = snapshot.flaw
        self.open = {c[3]: c for c in snapshot.commands}  # by the seq of the first event; met ones are taken out
        self.floors: dict[bytes | None, int] = {}  # greatest time in the id of a command that is not remembered, by user
        self.settled = False

    def note(self, problem: str) -> None:
        self.problem = self.problem or problem

    def command(self, events: list[Event], user_id: bytes | None) -> None:
        """Before the command is decided: is it remembered as it was, or old enough to be forgotten?"""
        first = events[0]
        if first.seq > self.snapshot.seq:
            return
        remembered = self.open.pop(first.seq, None)
        if remembered is None:
            time = 1000 * int.from_bytes(first.command_id[:6], "big")
            self.floors[user_id] = max(self.floors.get(user_id, NO_FLOOR), time)
        elif remembered != (first.command_id, user_id, first.command_hash, first.seq, len(events)):
            self.note(f"the command at {first.seq} is remembered otherwise than it is")

    def state(self, engine: Engine, chain: Chain) -> None:
        """After a command was decided: at the snapshot's seq, compare all that it says."""
        snapshot = self.snapshot
        if chain.seq != snapshot.seq or self.settled:
            return
        self.settled = True
        if digest("state", snapshot.state) != snapshot.state_hash:
            self.note("the state has another hash than the one beside it")
        if difference := state_difference(snapshot.state, encode_state(engine)):
            self.note(difference)
        if snapshot.recorded_at != chain.at:
            self.note(f"recorded_at is {snapshot.recorded_at}, not {chain.at}")
        if odd := set(snapshot.streams) ^ set(chain.heads.items()):
            self.note(f"stream {min(odd)[0].hex()} has another newest event or should not be there")
        if self.open:
            self.note(f"a command at {min(self.open)} is remembered that is not there")
        elif problem := self.floor_problem():
            self.note(problem)

    def floor_problem(self) -> str | None:
        """A command that is not remembered must lie at its user's floor or below, and no floor is made up."""
        common, greatest = self.snapshot.floor, max(self.floors.values(), default=NO_FLOOR)
        if common > greatest:
            return f"the floor of all is {common}, the commands that are not remembered give {greatest}"
        for user_id in {*self.floors, *self.snapshot.floors}:
            own, expected = self.snapshot.floors.get(user_id, NO_FLOOR), self.floors.get(user_id, NO_FLOOR)
            if own > expected or max(own, common) < expected:
                return f"the floor is {max(own, common)}, the commands that are not remembered give {expected}"
        return None

    def finish(self) -> None:
        if not self.settled:
            self.note("its seq ends no command")
        if self.problem:
            raise Bad("snapshot_mismatch", self.snapshot.seq, f"{self.snapshot.path}: {self.problem}")


# --- The signed head (FORMAT.md, "The keys directory") ---

def read_signed_head(keys: Path, ledger_id: bytes) -> Head | None:
    """The newest head that this directory's key signed for this ledger; none where there is no key or no head."""
    name = f"ldg_{uuid.UUID(bytes=ledger_id)}"
    seed_path, note_path = keys / "signing.key", keys / f"{name}.head"
    if not seed_path.is_file() or not note_path.is_file():
        return None
    seed = re.fullmatch(rb"daybook signing key v1\n([0-9a-f]{64})\n", seed_path.read_bytes())
    if seed is None:
        raise CannotVerify(f"{seed_path} is no signing key")
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed[1].decode()))
    text = rb"(daybook newest head v1\n%b\nepoch [0-9]{1,10} [0-9a-f]{32}\nhead ([0-9]{1,20}):([0-9a-f]{64})\n)"
    signature = rb"\n\xe2\x80\x94 daybook/%b ([A-Za-z0-9+/]+={0,2})\n"
    note = re.fullmatch((text + signature) % (name.encode(), name.encode()), note_path.read_bytes())
    if note is None:
        raise CannotVerify(f"{note_path} is no signed head of this ledger")
    check_signature(private, f"daybook/{name}", note[1], note[4], note_path)
    return int(note[2]), bytes.fromhex(note[3].decode())


def check_signature(private: Ed25519PrivateKey, name: str, text: bytes, encoded: bytes, path: Path) -> None:
    """Key id and signature are both of the key in the directory, or the note is worth nothing."""
    public = private.public_key()
    key = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    key_id = hashlib.sha256(name.encode() + b"\n\x01" + key).digest()[:4]
    try:
        signature = base64.b64decode(encoded, validate=True)
        if len(signature) != 68 or signature[:4] != key_id:
            raise ValueError("another key")
        public.verify(signature[4:], text)
    except (ValueError, InvalidSignature):
        raise CannotVerify(f"{path} is not signed by the key beside it") from None


# --- The file (FORMAT.md, "The file") ---

APPLICATION_ID, FORMATS = 0x44415942, (1, 2)
GAMES = ("farming_season",)

SCHEMA_1 = """
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


SCHEMAS = {1: SCHEMA_1, 2: SCHEMA_1.replace("  is_demo INTEGER NOT NULL,\n", "  is_demo INTEGER NOT NULL,\n  game TEXT NOT NULL,\n")}


class Genesis(NamedTuple):
    format: int
    ledger_id: bytes
    created_at: int
    is_demo: int
    game: str
    hash: bytes


def open_ledger(directory: Path) -> sqlite3.Connection:
    """Open read-only. `immutable` would miss what a writer's -wal holds, so it is only the second try."""
    path = directory / "ledger.db"
    if not path.is_file():
        raise CannotVerify(f"{path} does not exist")
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
    raise CannotVerify(f"{path} cannot be read: {error}")


def check_pragmas(db: sqlite3.Connection) -> None:
    application, version = (db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("application_id", "user_version"))
    if application != APPLICATION_ID:
        raise CannotVerify("this SQLite file is no ledger")
    if version not in FORMATS:
        raise CannotVerify(f"this ledger has format {version}; this program knows {FORMATS}")
    if version >= 2:
        try:
            row = db.execute("SELECT typeof(game), CAST(game AS BLOB) FROM genesis WHERE id = 1").fetchone()
        except sqlite3.Error:
            return  # the genesis is not as it should be; that is told where it is read
        if row is not None and row[0] == "text" and re.fullmatch(b"[a-z0-9_]{1,32}", row[1]):
            game = row[1].decode()
            if game not in GAMES:
                raise CannotVerify(f"this ledger is of the game {game}; this program knows {GAMES}")


def read_genesis(db: sqlite3.Connection) -> Genesis:
    """The one row that every hash rests on. Whatever is wrong with it, it is the genesis that does not hold."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    game_column = "game" if version >= 2 else "'farming_season'"
    columns = f"id, ledger_id, format_version, created_at, is_demo, typeof({game_column}), CAST({game_column} AS BLOB), hash"
    try:
        rows = db.execute(f"SELECT {columns} FROM genesis").fetchall()
    except sqlite3.Error as why:
        if getattr(why, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
            raise Bad("broken_link", 0, f"the genesis is not a table of this format: {why}") from None
        raise Bad("unreadable", 0, f"the genesis cannot be read: {why}") from None
    if [[type(c) for c in row] for row in rows] != [[int, bytes, int, int, int, str, bytes, bytes]]:
        raise Bad("broken_link", 0, "the genesis is not one row of the right types")
    row_id, ledger_id, stored_version, created_at, is_demo, game_type, raw_game, stored = rows[0]
    game = raw_game.decode("utf-8", "replace") if game_type == "text" else ""
    if (row_id, len(ledger_id), stored_version, len(stored)) != (1, 16, version, 32):
        raise Bad("broken_link", 0, "a column of the genesis holds no such value")
    if is_demo not in (0, 1) or game not in GAMES:
        raise Bad("broken_link", 0, "a column of the genesis holds no such value")
    return Genesis(version, ledger_id, created_at, is_demo, game, stored)


def genesis_hash(genesis: Genesis) -> bytes:
    fields = genesis.ledger_id + struct.pack("<IqB", genesis.format, genesis.created_at, genesis.is_demo)
    if genesis.format == 1:
        return digest("genesis", fields)
    name = genesis.game.encode()
    return digest("genesis", fields + bytes([len(name)]) + name, version=2)


def check_genesis(genesis: Genesis) -> None:
    if genesis_hash(genesis) != genesis.hash:
        raise Bad("broken_link", 0, "the genesis has another hash than the stored one")


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
    version = db.execute("PRAGMA user_version").fetchone()[0]
    wanted = {s.strip().removesuffix(";") for s in SCHEMAS[version].split("\n\n")}
    found = {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'")}
    if odd := sorted(wanted ^ found):
        raise Bad("guards_missing", None, f"missing or foreign in the schema: {odd[0].splitlines()[0]}")


def check_structure(db: sqlite3.Connection) -> None:
    """A file whose rows are all there may still be one that the next write ruins."""
    try:
        said = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.Error as why:
        said = str(why)
    if said != "ok":
        raise Bad("unreadable", None, f"the file's structure does not hold: {said}")


# --- Verification and its report ---

Head = tuple[int, bytes]


@dataclass
class Report:
    verdict: str = "intact"
    events: int = 0
    head_seq: int = 0
    head_hash: str = "0" * 64
    first_bad_seq: int | None = None
    detail: str = ""
    state_hash: str | None = None
    seconds: float = 0.0
    seasons: int = 0
    days: int = 0
    unrevealed_seasons: int = 0
    signed_head: int | None = None  # the seq of the signed head, where there is one
    snapshots: int = 0  # how many sound ones of this ledger there are


class Verifier:
    def __init__(self, directory: Path, heads: list[Head], full: bool, keys: Path | None = None) -> None:
        self.directory, self.heads, self.full = directory, list(heads), full
        self.keys = directory / "keys" if keys is None else keys
        self.seen: dict[int, bytes] = {}  # the hashes at the given heads' places
        self.snapshots: list[SnapshotCheck] = []
        self.report = Report()

    def run(self) -> Report:
        start = time.monotonic()
        db = None
        try:
            db = open_ledger(self.directory)
            genesis = self.begin(db)
            self.check_rows(db, genesis)
            self.check_heads()
            if self.full:
                check_structure(db)
            check_guards(db)
            if self.full:
                for snapshot in self.snapshots:
                    snapshot.finish()
        except Bad as bad:
            self.report.verdict, self.report.first_bad_seq, self.report.detail = bad.verdict, bad.seq, bad.detail
        finally:
            if db is not None:
                db.close()
        self.report.seconds = round(time.monotonic() - start, 3)
        return self.report

    def begin(self, db: sqlite3.Connection) -> Genesis:
        """The genesis, and all the heads that the ledger is held to. A false signature comes before any verdict."""
        genesis = read_genesis(db)
        if signed := read_signed_head(self.keys, genesis.ledger_id):
            self.heads.append(signed)
            self.report.signed_head = signed[0]
        check_genesis(genesis)
        for snapshot in read_snapshots(self.directory / "snapshots", genesis):
            self.heads.append((snapshot.seq, snapshot.hash))
            self.snapshots.append(SnapshotCheck(snapshot))
        self.report.snapshots = len(self.snapshots)
        return genesis

    def check_rows(self, db: sqlite3.Connection, genesis: Genesis) -> None:
        chain = Chain(genesis)
        engine = Engine(genesis) if self.full else None
        wanted = {seq for seq, _ in self.heads}
        self.seen = {0: genesis.hash}
        self.note(0, genesis.hash)
        command: list[Event] = []
        for row in read_events(db, lambda: chain.seq):
            event = chain.add(row)
            self.note(event.seq, event.hash)
            if event.seq in wanted:
                self.seen[event.seq] = event.hash
            command.append(event)
            if not chain.open_command:
                if engine is not None:
                    self.judge(engine, chain, command)
                command = []
        chain.finish()
        if engine is not None:
            if not engine.accounts.balanced():
                raise Bad("unbalanced", chain.seq, "the accounts do not sum to zero")
            self.report.state_hash = digest("state", encode_state(engine)).hex()

    def judge(self, engine: Engine, chain: Chain, command: list[Event]) -> None:
        if self.snapshots:
            user_id = engine.user_of(command[0])
            for snapshot in self.snapshots:
                snapshot.command(command, user_id)
        try:
            engine.run(command)
        finally:
            counts = engine.counts
            self.report.seasons, self.report.days = counts["seasons"], counts["days"]
            self.report.unrevealed_seasons = counts["unrevealed_seasons"]
        for snapshot in self.snapshots:
            snapshot.state(engine, chain)

    def note(self, seq: int, stored_hash: bytes) -> None:
        self.report.events, self.report.head_seq, self.report.head_hash = seq, seq, stored_hash.hex()

    def check_heads(self) -> None:
        if any(seq not in self.seen for seq, _ in self.heads):
            raise Bad("truncated", self.report.head_seq + 1, "the ledger ends before a head that it is held to")
        for seq, wanted in sorted(self.heads):
            if self.seen[seq] != wanted:
                raise Bad("head_mismatch", seq, f"event {seq} has another hash than a head that it is held to")


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
    parser.add_argument("--keys", type=Path, metavar="DIR",
                        help="of the signing key and the signed head (default: keys/ in the data directory)")  # fmt: skip
    parser.add_argument("--full", action="store_true", help="decide every command again, balance the accounts")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--head", type=parse_head, action="append", default=[], metavar="SEQ:HASH",
                        help="hold the ledger to a head noted earlier; may be given more than once")  # fmt: skip
    arguments = parser.parse_args()
    try:
        if arguments.keys is not None and not arguments.keys.is_dir():
            raise CannotVerify(f"{arguments.keys} is no directory")
        report = Verifier(arguments.data, arguments.head, arguments.full, arguments.keys).run()
    except (CannotVerify, sqlite3.Error) as why:
        print(f"second_reader: {why}", file=sys.stderr)
        return 2
    print_report(report, arguments.json, arguments.full)
    return 0 if report.verdict == "intact" else 1


if __name__ == "__main__":
    sys.exit(main())
