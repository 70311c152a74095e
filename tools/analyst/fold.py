#!/usr/bin/env python3
"""Recomputes Daybook's read models from a ledger's events and compares them with game.db.

Written from the documents alone (PROJECTIONS.md, FORMAT.md, RULEBOOK.md, interface.md and the migrations), as a second
opinion on the program. `fold.py DATA_DIR [--daybook PATH]` runs `daybook tail`, folds the events in memory, opens
DATA_DIR/game.db read-only and compares every table and view row for row. It prints a line a table, for a difference
the first missing rows (the events give them, game.db lacks them) and foreign ones (the other way round), and exits
with 1 if anything differs.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import date, timedelta
from fractions import Fraction
from itertools import groupby
from urllib.parse import quote

POTS = ["water", "sun", "pest", "growth"]
TRIGGERS = ["first_bloom", "perfect_read", "trouble_slayer", "growth_spurt", "simulin_sync"]
TRIGGER_CATEGORY = {"first_bloom": "betting", "perfect_read": "betting", "trouble_slayer": "farming",
                    "growth_spurt": "farming", "simulin_sync": "companion"}
ATTUNED_POT = {"dewdrop": "water", "sunpetal": "sun", "ladybot": "pest", "sprig": "growth"}
PERIODS = ["weekly", "seasonal", "all_time"]
STAGES = [(1, "sproutling", "root_sense"), (8, "cultivar", "leaf_shelter"), (16, "bloomform", "bright_bloom"),
          (25, "legendary", "evergreen")]
FUNNEL = ["registered", "first_season", "first_bet", "first_week", "completed_season"]
MOVEMENT_ORDER = {"start": 0, "stipend": 1, "bet": 2, "payout": 3, "stake_returned": 3, "jackpot": 4, "end": 5}
POT_EVENT_DELTA = {"none": 0, "boon": 15, "bane": -15, "windfall": 45}
DAY_MICROS = 86_400_000_000

# The rules of bets: FORMAT.md, "A day, from key to payout".
WEATHERS = ["sunny", "cloudy", "rainy", "stormy"]
THRESHOLDS = [50, 80, 100]
BASE = {"water": -8, "sun": -14, "pest": -21, "growth": -29}
SHIFT = {"sunny": (-3, 4, 1, 3), "cloudy": (0, 0, 0, 0), "rainy": (5, -4, 3, 2), "stormy": (3, -5, -4, -4)}
POT_EVENT_PERCENT = {"none": 80, "boon": 8, "bane": 8, "windfall": 4}
TARGET_PERCENT = {"water": 96, "sun": 94, "pest": 92, "growth": 90}
SHAPE = {"call": (100, 150, 250), "raise": (80, 220, 500), "all-in": (60, 260, 1000)}
ALL_WAYS = 61 * 61 * 100


# BLAKE3, as much as derived ids need: derive-key mode, inputs of one chunk (1,024 bytes at most).

BLAKE3_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
BLAKE3_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, ROOT, CONTEXT, MATERIAL = 1, 2, 8, 32, 64


def rotate_right(word, bits):
    """The 32-bit word, turned right."""
    return (word >> bits | word << (32 - bits)) & 0xFFFFFFFF


def mix(state, a, b, c, d, x, y):
    """BLAKE3's G function, in place."""
    for word, turn_d, turn_b in ((x, 16, 12), (y, 8, 7)):
        state[a] = (state[a] + state[b] + word) & 0xFFFFFFFF
        state[d] = rotate_right(state[d] ^ state[a], turn_d)
        state[c] = (state[c] + state[d]) & 0xFFFFFFFF
        state[b] = rotate_right(state[b] ^ state[c], turn_b)


def compress(chaining, block, block_length, flags):
    """The new chaining value (eight words) after one block of 64 bytes of chunk 0."""
    words = [int.from_bytes(block[i:i + 4], "little") for i in range(0, 64, 4)]
    state = list(chaining) + list(BLAKE3_IV[:4]) + [0, 0, block_length, flags]
    for _ in range(7):
        for column in range(4):
            mix(state, column, 4 + column, 8 + column, 12 + column, words[2 * column], words[2 * column + 1])
        for diagonal in range(4):
            mix(state, diagonal, 4 + (diagonal + 1) % 4, 8 + (diagonal + 2) % 4, 12 + (diagonal + 3) % 4,
                words[8 + 2 * diagonal], words[9 + 2 * diagonal])
        words = [words[i] for i in BLAKE3_PERMUTATION]
    return [state[i] ^ state[i + 8] for i in range(8)]


def hash_chunk(key_words, data, mode):
    """The root hash (eight words) of at most 1,024 bytes."""
    assert len(data) <= 1024, "only inputs of one chunk are supported"
    chaining = key_words
    starts = range(0, max(len(data), 1), 64)
    for start in starts:
        block = data[start:start + 64]
        flags = mode | (CHUNK_START if start == 0 else 0) | (CHUNK_END | ROOT if start == starts[-1] else 0)
        chaining = compress(chaining, block.ljust(64, b"\0"), len(block), flags)
    return chaining


ID_CONTEXT_KEY = hash_chunk(BLAKE3_IV, b"daybook v1 derived id", CONTEXT)


def id_bytes(text):
    """The 16 bytes of an id that is printed with a prefix."""
    return bytes.fromhex(text.split("_", 1)[1].replace("-", ""))


class Ids:
    """Derives ids, under the ledger's id and the epoch in force."""

    def __init__(self, ledger_id):
        self.ledger_id = id_bytes(ledger_id)
        self.set_epoch(1, bytes(16))

    def set_epoch(self, number, nonce):
        """From here on ids take this epoch."""
        self.epoch = number.to_bytes(4, "little") + nonce

    def derive(self, prefix, micros, *parts):
        """The id with that prefix, of the event's time and the parts."""
        kind = ["ssn", "sim", "day", "bet", "trg", "ldb"].index(prefix) + 1
        words = hash_chunk(ID_CONTEXT_KEY, bytes([kind]) + self.ledger_id + self.epoch + b"".join(parts), MATERIAL)
        raw = bytearray(b"".join(word.to_bytes(4, "little") for word in words)[:16])
        raw[0:6] = (micros // 1000 % 2**48).to_bytes(6, "big")
        raw[6] = 0x80 | raw[6] & 0x0F
        raw[8] = 0x80 | raw[8] & 0x3F
        text = raw.hex()
        return f"{prefix}_{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def check_ids():
    """Holds the derivation to the example at the end of FORMAT.md."""
    ids = Ids("ldg_" + "22" * 16)
    user = bytes([1] * 16)
    season = ids.derive("ssn", 1767571203000000, user, (1).to_bytes(4, "little"))
    assert season == "ssn_019b8b74-23b8-8f4a-9212-b838849bf5d7"
    assert ids.derive("bet", 1767571204000000, id_bytes(season), b"\1\0") == "bet_019b8b74-27a0-8616-a6fb-9366b1dd2a06"
    monday = (20458).to_bytes(4, "little")
    assert ids.derive("ldb", 1767571205000000, b"\0", monday, user) == "ldb_019b8b74-2b88-86e6-a265-eb87dbf0337f"


# What bets pay, by the rules.

class Odds:
    """Ways to the thresholds by (pot, weather), and multipliers by (pot, type, weather)."""

    def __init__(self):
        self.ways, self.multipliers = {}, {}
        for pot in POTS:
            for weather in WEATHERS:
                ways = self.ways[pot, weather] = self.ways_to_thresholds(pot, weather)
                for bet_type, shape in SHAPE.items():
                    weighted = 100 * sum(w * s for w, s in zip(ways, shape))
                    self.multipliers[pot, bet_type, weather] = [
                        10_000 * TARGET_PERCENT[pot] * s * ALL_WAYS // weighted for s in shape]

    @staticmethod
    def ways_to_thresholds(pot, weather):
        """In how many of 372,100 ways each of 50, 80, 100 is the highest threshold that the pot's level reaches."""
        ways = Counter()
        for event, percent in POT_EVENT_PERCENT.items():
            fixed = BASE[pot] + SHIFT[weather][POTS.index(pot)] + POT_EVENT_DELTA[event]
            for level in (fixed + a + b for a in range(61) for b in range(61)):
                ways[max((t for t in THRESHOLDS if level >= t), default=None)] += percent
        return [ways[t] for t in THRESHOLDS]

    def payout(self, pot, bet_type, weather, amount, threshold):
        """The payout of a bet whose pot reached that threshold."""
        if threshold is None or bet_type == "fold":
            return 0
        return amount * self.multipliers[pot, bet_type, weather][THRESHOLDS.index(threshold)] // 10_000

    def expected_microcoins(self, pot, bet_type, weather, amount):
        """What a bet pays on average, each payout floored to whole coins; in millionths of a coin, rounded down."""
        in_ways = sum(ways * self.payout(pot, bet_type, weather, amount, threshold)
                      for ways, threshold in zip(self.ways[pot, weather], THRESHOLDS))
        return in_ways * 1_000_000 // ALL_WAYS

    def variance_thousandths(self, pot, bet_type, weather, amount):
        """The variance of what a bet pays, in thousandths of a squared coin, rounded down."""
        paid = [(ways, self.payout(pot, bet_type, weather, amount, threshold))
                for ways, threshold in zip(self.ways[pot, weather], THRESHOLDS)]
        mean = Fraction(sum(ways * payout for ways, payout in paid), ALL_WAYS)
        of_squares = Fraction(sum(ways * payout**2 for ways, payout in paid), ALL_WAYS)
        return int((of_squares - mean**2) * 1000)

    def exact_return(self, pot, bet_type, weather):
        """Of a coin staked, before payouts are floored; in billionths, rounded down. None for folds."""
        if bet_type == "fold":
            return None
        paid = sum(w * m for w, m in zip(self.ways[pot, weather], self.multipliers[pot, bet_type, weather]))
        return paid * 10**9 // (ALL_WAYS * 10_000) / 1e9


# Days and periods.

def seconds(micros):
    """Seconds since 1970."""
    return micros // 1_000_000


def utc_date(micros):
    """The UTC day of a time."""
    return date(1970, 1, 1) + timedelta(days=micros // DAY_MICROS)


def first_day_of(period, day):
    """The first day of the ISO week, the calendar quarter or all time that a day falls in."""
    if period == "weekly":
        return day - timedelta(days=day.weekday())
    if period == "seasonal":
        return date(day.year, (day.month - 1) // 3 * 3 + 1, 1)
    return date(1970, 1, 1)


def phase_of(day_number):
    """The season's phase on a day of it."""
    return "planting" if day_number <= 7 else "growth" if day_number <= 21 else "harvest"


class Season:
    """What is folded of one season."""

    def __init__(self, event, epoch):
        payload = event["payload"]
        self.id, self.user, self.number = event["stream"], payload["userId"], payload["seasonNumber"]
        self.key, self.epoch, self.companion = payload["keyId"], epoch, payload["companion"]
        self.day, self.coins, self.jackpot_millicoins = 1, 0, 0
        self.started_at, self.ended_at = seconds(event["recordedMicros"]), None
        self.how, self.final_score = None, None
        self.last_seq = event["seq"]
        self.days, self.bets, self.triggers, self.weeks = {}, {}, [], {}
        self.flags = []  # (seq, day_number, code, flagged_at)
        self.movements = []  # (moved_at, day_number, kind, amount, bet id)
        self.first_week = Counter()

    def move(self, at, day, kind, amount, bet_id=None):
        """Notes a movement of coins; none of 0."""
        if amount:
            self.movements.append((at, day, kind, amount, bet_id))
            if kind != "end":
                self.coins += amount

    def end(self, at, how):
        """Gives stakes back and the balance to the mint."""
        for bet in self.bets.values():
            if bet["resolved_at"] is None:
                bet.update(payout=bet["amount"], resolved_at=at)
                self.move(at, bet["day"], "stake_returned", bet["amount"], bet["id"])
        self.how, self.ended_at = how, at
        self.move(at, self.day, "end", -self.coins)


class Fold:
    """The state of all read models, one event after another."""

    def __init__(self, events):
        self.odds, self.ids, self.epoch = Odds(), None, (1, "00" * 16)
        self.keys, self.users, self.sessions, self.simulins, self.seasons = {}, {}, {}, {}, {}
        self.boards = defaultdict(dict)  # (period, first day): user: row
        self.shown = {}  # period: first day
        self.active = defaultdict(set)  # day: users
        self.economics, self.economics_days = defaultdict(Counter), defaultdict(Counter)
        self.plays = defaultdict(list)  # user: [first command, newest command, commands] of each play session
        self.coin_days, self.first_weeks, self.large_wins = defaultdict(Counter), {}, []
        self.ledger_events = []
        self.broken = []  # where events are not what the documents give
        for command in split_commands(events):
            for event in command:
                self.apply(event)
            self.newest = command[-1]
            user = self.acting_user(command)
            if user:
                self.active[utc_date(command[0]["recordedMicros"])].add(user)
                self.play(user, seconds(command[0]["recordedMicros"]))

    def acting_user(self, command):
        """The user whose command this was, None where it was the engine's own."""
        first, last = command[0], command[-1]
        if first["kind"] in ("key_rotated", "ledger_restored", "season_expired", "suspicion_flagged",
                             "commitment_published"):
            return None
        if last["kind"] == "session_ended" and last["payload"]["reason"] in ("expired", "locked", "revoked"):
            return None
        season = self.seasons.get(first["stream"])
        return season.user if season else first["stream"]

    def play(self, user, at):
        """A command goes on with the user's play session, or begins another."""
        plays = self.plays[user]
        if not plays or at - plays[-1][1] >= 30 * 60:
            plays.append([at, at, 0])
        plays[-1][1:] = [at, plays[-1][2] + 1]

    def expect(self, what, event, given, computed):
        """Notes where an event is not what the rules give."""
        if given != computed:
            self.broken.append(f"{what} at seq {event['seq']}: the event has {given}, the documents give {computed}")

    def step(self, user, name):
        """A user takes a step of the funnel if all before it were taken, and no other."""
        if FUNNEL.index(name) == self.users[user]["steps"]:
            self.users[user]["steps"] += 1

    def apply(self, event):
        """Folds one event, by its stream."""
        stream, kind, payload, at = event["stream"], event["kind"], event["payload"], seconds(event["recordedMicros"])
        if stream.startswith("usr_"):
            self.apply_to_user(event, kind, stream, payload, at)
        elif stream.startswith("ssn_"):
            if kind == "season_started":
                self.seasons[stream] = Season(event, self.epoch)
            self.seasons[stream].last_seq = event["seq"]
            self.apply_to_season(event, kind, self.seasons[stream], payload, at)
        if stream.startswith("ldg_"):
            self.ledger_events.append((event["seq"], kind, at, canonical(payload)))
        if kind == "key_rotated":
            self.ledger = stream
            self.ids = self.ids or Ids(stream)
            if payload["compromised"]:
                self.keys = dict.fromkeys(self.keys, 1)
            self.keys[payload["keyId"]] = 0
        elif kind == "ledger_restored":
            self.epoch = payload["epoch"]["number"], payload["epoch"]["nonce"]
            self.ids.set_epoch(self.epoch[0], bytes.fromhex(self.epoch[1]))

    def apply_to_user(self, event, kind, user, payload, at):
        """Registration, sessions and simulins; erasures and commitments change no table by themselves."""
        if kind == "user_registered":
            self.users[user] = {"day": utc_date(event["recordedMicros"]), "steps": 1}
        elif kind == "session_started":
            self.sessions[user, payload["sessionNumber"]] = [at, None, None]
        elif kind == "session_ended":
            self.sessions[user, payload["sessionNumber"]][1:] = [at, payload["reason"]]
        elif kind == "simulin_adopted":
            number = payload["adoptionNumber"].to_bytes(4, "little")
            derived = self.ids.derive("sim", event["recordedMicros"], id_bytes(user), number)
            self.expect("simulin id", event, payload["simulinId"], derived)
            self.simulins[derived] = {"user": user, "species": payload["species"], "path": None, "level": 1, "xp": 0,
                                      "personality": payload["personality"], "created": at, "retired": None}
        elif kind == "simulin_path_chosen":
            self.simulins[payload["simulinId"]]["path"] = payload["path"]
        elif kind == "simulin_retired":
            self.simulins[payload["simulinId"]]["retired"] = at
        elif kind == "simulin_xp_gained":
            self.simulins[payload["simulinId"]]["xp"] += payload["gained"]
            self.expect("bond_xp", event, payload["bondXp"], self.simulins[payload["simulinId"]]["xp"])
        elif kind == "simulin_level_reached":
            self.simulins[payload["simulinId"]]["level"] = payload["bondLevel"]

    def apply_to_season(self, event, kind, season, payload, at):
        """A season's coins, days, flags and end."""
        self.coin_days[utc_date(event["recordedMicros"])].update(coins_moved(kind, payload))
        if kind == "season_started":
            number = season.number.to_bytes(4, "little")
            derived = self.ids.derive("ssn", event["recordedMicros"], id_bytes(season.user), number)
            self.expect("season id", event, season.id, derived)
            season.move(at, 1, "start", payload["coins"])
            self.step(season.user, "first_season")
        elif kind == "day_opened":
            season.day = payload["dayNumber"]
            day_id = self.ids.derive("day", event["recordedMicros"], id_bytes(season.id), bytes([season.day]))
            season.days[season.day] = {"id": day_id, "seed": "", "levels": {}, "events": [], "resolved": 0,
                                       "weather": payload["weather"], "created": at}
        elif kind == "bet_placed":
            self.place_bet(event, season, payload["dayNumber"], payload["potId"], at)
        elif kind == "bet_resolved":
            self.resolve_bet(event, season, payload["dayNumber"], payload["potId"], at)
        elif kind == "day_resolved":
            if season.number == 1 and payload["dayNumber"] == 7:
                self.first_weeks[season.user] = season, utc_date(event["recordedMicros"])
            happened = [{"type": pot_event, "potId": pot, "delta": POT_EVENT_DELTA[pot_event]}
                        for pot, pot_event in payload["potEvents"].items() if pot_event != "none"]
            happened += [{"type": "trouble", **trouble} for trouble in payload["troubles"]]
            season.days[payload["dayNumber"]].update(seed=payload["dayKey"], levels=payload["potLevels"],
                                                     events=happened, resolved=1)
        elif kind == "trigger_earned":
            day, trigger = payload["dayNumber"], payload["triggerType"]
            parts = id_bytes(season.id), bytes([day, TRIGGERS.index(trigger)])
            season.triggers.append((self.ids.derive("trg", event["recordedMicros"], *parts), day, trigger, at))
        elif kind == "week_evaluated":
            season.weeks[payload["weekNumber"]] = [payload["hand"], payload["multiplier"], payload["score"], 0, at]
            self.step(season.user, "first_week")
        elif kind == "jackpot_paid":
            season.weeks[payload["weekNumber"]][3] += payload["amount"]
            season.move(at, 7 * payload["weekNumber"], "jackpot", payload["amount"])
        elif kind == "suspicion_flagged":
            season.flags.append((event["seq"], payload["dayNumber"], payload["code"], at))
        elif kind == "stipend_granted":
            season.move(at, payload["dayNumber"], "stipend", payload["amount"])
        elif kind in ("season_completed", "season_abandoned", "season_expired"):
            self.end_season(event, kind, season, payload, at)

    def place_bet(self, event, season, day, pot, at):
        """A stake leaves the balance."""
        bet_type, amount = event["payload"]["betType"], event["payload"]["amount"]
        bet_id = self.ids.derive("bet", event["recordedMicros"], id_bytes(season.id), bytes([day, POTS.index(pot)]))
        season.bets[day, pot] = {"id": bet_id, "day": day, "pot": pot, "type": bet_type, "amount": amount,
                                 "payout": None, "won": None, "resolved_at": None, "placed_at": at}
        season.move(at, day, "bet", -amount, bet_id)
        self.step(season.user, "first_bet")

    def resolve_bet(self, event, season, day, pot, at):
        """A bet is won or lost, and counts in the economics of bets."""
        payload, bet = event["payload"], season.bets[day, pot]
        threshold = None if payload["threshold"] is None else payload["threshold"]
        won = int(threshold is not None)
        bet.update(payout=payload["payout"], won=won, resolved_at=at)
        season.jackpot_millicoins += payload["jackpotShare"]
        season.move(at, day, "payout", payload["payout"], bet["id"])
        cell = pot, bet["type"], season.days[day]["weather"]
        self.expect("payout", event, payload["payout"], self.odds.payout(*cell, bet["amount"], threshold))
        counts = {"bets": 1, "won": won, "staked": bet["amount"], "staked_squared": bet["amount"] ** 2,
                  "paid": payload["payout"], "expected": self.odds.expected_microcoins(*cell, bet["amount"]),
                  "variance": self.odds.variance_thousandths(*cell, bet["amount"])}
        self.economics[cell].update(counts)
        self.economics_days[utc_date(event["recordedMicros"]), *cell].update(counts)
        if season.number == 1 and day <= 7:
            season.first_week.update(counts)
        if payload["payout"] - bet["amount"] >= 1000:
            self.large_wins.append((season.id, day, pot, season.user, bet["type"], bet["amount"], payload["payout"],
                                    at))

    def end_season(self, event, kind, season, payload, at):
        """How a season ended, and its place on the boards if it was completed."""
        how = kind.removeprefix("season_")
        if how == "expired":
            compromised, restored = self.keys[season.key], season.epoch != self.epoch
            how = "expired_key" if compromised else "expired_restore" if restored else "expired_idle"
        season.end(at, how)
        self.expect("coins at the end", event, payload["coins"], season.coins)
        if how == "completed":
            season.final_score = payload["finalScore"]
            self.step(season.user, "completed_season")
            for period in PERIODS:
                self.enter_board(event, season, period, at)

    def enter_board(self, event, season, period, at):
        """A completed season counts on its period's board if it is its user's first one there, or better."""
        first_day = first_day_of(period, utc_date(event["recordedMicros"]))
        self.shown[period] = first_day
        board = self.boards[period, first_day]
        if season.user not in board:
            days = (first_day - date(1970, 1, 1)).days.to_bytes(4, "little", signed=True)
            parts = bytes([PERIODS.index(period)]), days, id_bytes(season.user)
            row_id = self.ids.derive("ldb", event["recordedMicros"], *parts)
        elif season.final_score > board[season.user]["score"]:
            row_id = board[season.user]["id"]
        else:
            return
        board[season.user] = {"id": row_id, "season": season.id, "score": season.final_score, "at": at}


def coins_moved(kind, payload):
    """Which coins an event moves between the accounts."""
    if kind == "season_started":
        return {"started": payload["coins"]}
    if kind == "stipend_granted":
        return {"stipends": payload["amount"]}
    if kind == "bet_placed":
        return {"placed": payload["amount"]}
    if kind == "bet_resolved":
        return {"staked": payload["amount"], "paid": payload["payout"], "jackpot_in": payload["jackpotShare"]}
    if kind == "jackpot_paid":
        return {"jackpot_out": payload["amount"]}
    if kind in ("season_completed", "season_abandoned", "season_expired"):
        return {"ended": payload["coins"], "given_back": payload.get("escrowReturned", 0)}
    return {}


COIN_COLUMNS = ["started", "stipends", "ended", "placed", "given_back", "staked", "paid", "jackpot_in", "jackpot_out"]


def split_commands(events):
    """The events of each command together."""
    command = []
    for event in events:
        command.append(event)
        if event["place"] == event["size"] - 1:
            yield command
            command = []


# Tables. Each of these functions gives the rows of some tables, with the columns in the order of the migrations.

def trigger_metadata(season, day, trigger):
    """Category, pot and bets of a trigger. The documents name the fields; who has which is read from the rules."""
    metadata = {"category": TRIGGER_CATEGORY[trigger]}
    if trigger in ("first_bloom", "growth_spurt"):
        metadata["potId"] = "growth"
    if trigger == "simulin_sync":
        metadata["potId"] = ATTUNED_POT[season.companion["species"]]
    if trigger in ("first_bloom", "simulin_sync"):
        metadata["betIds"] = [season.bets[day, metadata["potId"]]["id"]]
    if trigger == "perfect_read":
        metadata["betIds"] = [season.bets[day, pot]["id"] for pot in POTS]
    return metadata


def season_tables(fold):
    """What is kept of each season, and of the season keys. balance_after is left to compare_balances."""
    rows = defaultdict(list, season_keys=list(fold.keys.items()))
    for s in fold.seasons.values():
        rows["seasons"].append((s.id, s.user, s.number, s.day, phase_of(s.day), s.coins, s.jackpot_millicoins / 1000,
                                s.started_at, s.ended_at, s.final_score))
        rows["season_streams"].append((s.id, s.last_seq))
        if s.how:
            rows["season_ends"].append((s.id, s.how, s.ended_at))
        for number, day in s.days.items():
            rows["days"].append((day["id"], s.id, number, day["seed"], canonical(day["levels"]),
                                 canonical(day["events"]), day["weather"], day["resolved"], day["created"]))
        for bet in s.bets.values():
            rows["bets"].append((bet["id"], s.id, bet["day"], bet["pot"], bet["type"], bet["amount"], bet["payout"],
                                 bet["won"], bet["resolved_at"], bet["placed_at"]))
        for row_id, day, trigger, at in s.triggers:
            metadata = canonical(trigger_metadata(s, day, trigger))
            rows["daily_triggers"].append((row_id, s.id, day, trigger, at, metadata))
        for week, result in s.weeks.items():
            rows["week_results"].append((s.id, week, *result))
        for seq, day, code, at in s.flags:
            rows["flags"].append((seq, s.id, s.user, day, code, at))
        for at, day, kind, amount, bet_id in s.movements:
            rows["coin_movements"].append((s.id, at, day, kind, amount, bet_id))
            if bet_id is None:
                rows["season_coins"].append((s.id, day, kind, amount, at))
    return rows


def board_tables(fold):
    """Leaderboards: every board in the history, those that are shown once more with ranks for their first 1,000."""
    rows = defaultdict(list, leaderboard_boards=[(period, str(day)) for period, day in fold.shown.items()])
    for (period, first_day), board in fold.boards.items():
        # Among equals who came first is first: ids begin with the time at which the user came to the board.
        listed = sorted(board.items(), key=lambda entry: (-entry[1]["score"], entry[1]["id"]))
        rank = 0
        for place, (user, row) in enumerate(listed, start=1):
            if place == 1 or row["score"] < listed[place - 2][1]["score"]:
                rank = place
            season, score, at = row["season"], row["score"], row["at"]
            rows["leaderboard_history"].append((period, str(first_day), user, row["id"], season, score, at))
            rows["past_leaderboards"].append((period, str(first_day), rank, user, season, score, at, row["id"]))
            if fold.shown[period] == first_day:
                shown_rank = rank if place <= 1000 else None
                rows["leaderboard_entries"].append((row["id"], user, season, score, shown_rank, period, at))
    return rows


def simulin_table(fold, names):
    """Simulins; one without a name is called as its species."""
    rows = []
    for simulin_id, s in fold.simulins.items():
        reached = [(stage, ability) for level, stage, ability in STAGES if s["level"] >= level]
        stage, abilities = reached[-1][0], canonical([ability for _, ability in reached])
        rows.append((simulin_id, s["user"], names.get(simulin_id, s["species"]), s["species"], stage, s["path"],
                     s["level"], s["xp"], canonical(s["personality"]), abilities, s["created"], s["retired"]))
    return rows


def activity_tables(fold):
    """Who was active when: user_days and its counts, cohorts, each user's first and last day."""
    rows, days_of, cohorts = defaultdict(list), defaultdict(list), defaultdict(set)
    for day in sorted(fold.active):
        rows["daily_active_users"].append((str(day), len(fold.active[day])))
        for user in fold.active[day]:
            days_of[user].append(day)
            rows["user_days"].append((str(day), user, int(days_of[user][0] == day)))
    for user, days in days_of.items():
        cohorts[days[0]].add(user)
        known = fold.users[user]
        rows["user_activity"].append((user, str(known["day"]), str(days[0]), str(days[-1]), known["steps"],
                                      *fold.plays[user][-1][:2]))
    newest = utc_date(fold.newest["recordedMicros"])
    for day, users in cohorts.items():
        for n in range((newest - day).days + 1):
            retained = users & fold.active.get(day + timedelta(days=n), set())
            rows["cohort_retention"].append((str(day), n, len(users), len(retained)))
    return rows


def economics_columns(c, exact_return=()):
    """The columns that bet_economics and bet_economics_days share; bet_economics has exact_return among them."""
    actual = c["paid"] / c["staked"] if c["staked"] else None
    floored = c["expected"] / 1e6 / c["staked"] if c["staked"] else None
    return (c["bets"], c["won"], c["staked"], c["staked_squared"], c["paid"], c["expected"], c["variance"],
            *exact_return, actual, floored)


def analytics_tables(fold):
    """The funnel, the economics of bets, sessions, and how far the events go."""
    rows, registered, newest = defaultdict(list), defaultdict(list), fold.newest
    for user in fold.users.values():
        registered[user["day"]].append(user["steps"])
    for day, steps in registered.items():
        for number, name in enumerate(FUNNEL, start=1):
            rows["funnel_steps"].append((str(day), number, name, sum(reached >= number for reached in steps)))
    for cell, counts in fold.economics.items():
        rows["bet_economics"].append((*cell, *economics_columns(counts, [fold.odds.exact_return(*cell)])))
    for (day, *cell), counts in fold.economics_days.items():
        rows["bet_economics_days"].append((str(day), *cell, *economics_columns(counts)))
    for user, (season, day) in fold.first_weeks.items():
        c = season.first_week
        rows["first_weeks"].append((user, season.id, str(day), c["bets"], c["staked"], c["paid"], c["expected"],
                                    c["variance"]))
    rows["large_wins"], rows["ledger_events"] = fold.large_wins, fold.ledger_events
    for day, moved in fold.coin_days.items():
        if any(moved.values()):
            rows["coin_days"].append((str(day), *(moved[column] for column in COIN_COLUMNS)))
    for user, plays in fold.plays.items():
        rows["play_sessions"] += [(user, *play, play[1] - play[0]) for play in plays]
    for (user, number), (started, ended, reason) in fold.sessions.items():
        length = None if ended is None else ended - started
        rows["login_sessions"].append((user, number, started, ended, reason, length))
    rows["analytics_progress"] = [(1, str(utc_date(newest["recordedMicros"])))]
    rows["projection_positions"] = [(name, fold.ledger, newest["seq"], newest["hash"], *fold.epoch,
                                     newest["recordedMicros"]) for name in ("seasons", "simulins", "analytics")]
    return rows


def account_tables(fold):
    """What stands in the copies of accounts.db where there is none: placeholders."""
    users = [(user, f"erased+{user}@erased.invalid", None, "player") for user in fold.users]
    return {"users": users, "sessions": [], "simulin_names": []}


# Tables that are none of the events' (or working state that no document describes), and such columns.
SKIPPED_TABLES = {"_sqlx_migrations", "disputed_positions", "filled_accounts", "projection_states", "season_activity"}
SKIPPED_COLUMNS = {"season_streams.progress", "coin_movements.balance_after", "projection_positions.version",
                   "users.display_name", "users.created_at", "users.last_login_at"}
JSON_COLUMNS = {"pot_levels", "events", "metadata", "personality", "abilities", "payload"}


def canonical(value):
    """JSON in one form, so that spaces and the order of fields make no difference."""
    return json.dumps(value, sort_keys=True)


def comparable(row):
    """Floating-point values to 13 digits, so that the order of divisions makes no difference."""
    return tuple(float(f"{value:.13g}") if isinstance(value, float) else value for value in row)


def read_table(database, table):
    """The rows of a table or view, JSON in its one form, without the columns that are skipped."""
    cursor = database.execute(f"SELECT * FROM {table}")
    columns = [(i, d[0]) for i, d in enumerate(cursor.description) if f"{table}.{d[0]}" not in SKIPPED_COLUMNS]
    return [tuple(canonical(json.loads(row[i])) if name in JSON_COLUMNS and row[i] is not None else row[i]
                  for i, name in columns) for row in cursor]


def report(name, agreed, differences):
    """Prints a table's line, and what differs; tells whether nothing does."""
    if not differences:
        print(f"{name:22}{agreed:8} rows agree")
        return True
    print(f"{name:22} DIFFERS")
    for line in differences:
        print(f"    {line}")
    return False


def compare_rows(name, computed, stored):
    """Compares as multisets, and shows the first two rows of each side that the other lacks."""
    computed, stored = Counter(map(comparable, computed)), Counter(map(comparable, stored))
    differences = []
    for word, surplus in (("missing", computed - stored), ("foreign", stored - computed)):
        if surplus:
            differences.append(f"{sum(surplus.values())} {word} rows, of {sum(computed.values())} computed")
            differences += [f"{word}: {row}" for row in sorted(surplus, key=str)[:2]]
    return report(name, sum(computed.values()), differences)


def compare_balances(database, fold):
    """Holds balance_after to the running totals, and the sums of a season to its balance.

    Movements of one season, day and kind of step have no order among themselves. They are a chain in some order if the
    balances before them and the one after the last are the balances after them and the one before the first.
    """
    rows = database.execute("SELECT season_id, day_number, kind, amount, balance_after FROM coin_movements").fetchall()
    rows.sort(key=lambda row: (row[0], row[1], MOVEMENT_ORDER[row[2]]))
    coins = dict(database.execute("SELECT id, coins FROM seasons"))
    differences = []
    for season_id, movements in groupby(rows, key=lambda row: row[0]):
        balance = without_end = 0
        for place, tied in groupby(movements, key=lambda row: (row[1], MOVEMENT_ORDER[row[2]])):
            tied = list(tied)
            after = balance + sum(row[3] for row in tied)
            if Counter([balance] + [row[4] for row in tied]) != Counter([row[4] - row[3] for row in tied] + [after]):
                differences.append(f"{season_id} day {place[0]}: from {balance} to {after}, but balances are {tied}")
            balance = after
            without_end += sum(row[3] for row in tied if row[2] != "end")
        ended = fold.seasons[season_id].how
        if without_end != coins[season_id] or balance != (0 if ended else coins[season_id]):
            differences.append(f"{season_id}: sums {without_end} and {balance}, coins {coins[season_id]}, {ended}")
    return report("balance_after", len(rows), differences[:4])


def read_events(daybook, data_dir):
    """All events of the ledger, as `daybook tail` prints them."""
    with subprocess.Popen([daybook, "tail", "--data", data_dir], stdout=subprocess.PIPE, text=True) as tail:
        for line in tail.stdout:
            event = json.loads(line)
            yield event | {"payload": json.loads(event["payload"])}
    if tail.returncode:
        sys.exit(f"`{daybook} tail` failed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir")
    parser.add_argument("--daybook", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "daybook"))
    arguments = parser.parse_args()
    check_ids()
    fold = Fold(read_events(arguments.daybook, arguments.data_dir))
    path = quote(os.path.abspath(os.path.join(arguments.data_dir, "game.db")))
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    computed = {**season_tables(fold), **board_tables(fold), **activity_tables(fold), **analytics_tables(fold)}
    computed["simulins"] = simulin_table(fold, dict(read_table(database, "simulin_names")))
    accounts, skipped = account_tables(fold), set(SKIPPED_TABLES)
    if os.path.exists(os.path.join(arguments.data_dir, "accounts.db")):
        skipped.update(accounts)
    else:
        computed.update(accounts)
    stored = [name for name, in database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    agree = [report("events by the rules", fold.newest["seq"], fold.broken[:4])]
    for table in stored:
        if table not in skipped:
            agree.append(compare_rows(table, computed.pop(table, []), read_table(database, table)))
    agree.append(compare_balances(database, fold))
    agree.append(not computed or report("tables", 0, [f"{table} is not in game.db" for table in computed]))
    print("not compared:", ", ".join(sorted(skipped) + sorted(SKIPPED_COLUMNS)))
    return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
