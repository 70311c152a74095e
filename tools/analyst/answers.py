#!/usr/bin/env python3
"""Computes every answer of `daybook analytics` from a ledger's events, and compares them.

Written from ANALYTICS.md, over the events that fold.py folded. `answers.py DATA_DIR --daybook PATH` prints a line an
answer, and exits with 1 if one differs.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import date, timedelta
from math import sqrt

import fold as folding

CELL_NAMES = ("potId", "betType", "weather")


def number(value):
    """Floating-point values to 11 digits, so that the order of sums makes no difference."""
    return float(f"{value:.11g}") if isinstance(value, float) else value


def comparable(value):
    """An answer with all its numbers rounded alike."""
    if isinstance(value, dict):
        return {key: comparable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [comparable(inner) for inner in value]
    return number(value)


def ratio(part, whole):
    return part / whole if whole else None


def days_between(first, last):
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


class Answers:
    """All answers over a range of days, or over all that there are."""

    def __init__(self, fold, first=None, last=None):
        self.fold = fold
        self.newest = folding.utc_date(fold.newest["recordedMicros"])
        begun = min(fold.active)
        self.days = days_between(max(begun, first or begun), min(self.newest, last or self.newest))
        self.in_range = set(self.days)
        self.first_day = {}
        for day in sorted(fold.active):
            for user in fold.active[day]:
                self.first_day.setdefault(user, day)

    def is_over(self, day):
        return day < self.newest

    def active(self, day):
        return self.fold.active.get(day, set())

    def dau(self):
        rows = []
        for day in self.days:
            week, month = (set().union(*(self.active(day - timedelta(days=n)) for n in range(count)))
                           for count in (7, 30))
            new = sum(self.first_day[user] == day for user in self.active(day))
            dau = len(self.active(day))
            rows.append({"day": str(day), "dau": dau, "new": new, "returning": dau - new, "wau": len(week),
                         "mau": len(month), "stickiness": ratio(dau, len(month)), "partial": not self.is_over(day)})
        return {"days": rows}

    def retention(self):
        cohorts, averages = [], defaultdict(lambda: [0, 0])
        for day in self.days:
            users = {user for user, first in self.first_day.items() if first == day}
            retained = []
            for later in days_between(day, self.newest):
                back = len(users & self.active(later)) if self.is_over(later) else None
                if back is not None:
                    averages[len(retained)][0] += len(users)
                    averages[len(retained)][1] += back
                retained.append(back)
            cohorts.append({"cohortDay": str(day), "cohortSize": len(users), "retained": retained})
        rows = [{"dayN": n, "cohortSize": size, "retained": back, "rate": ratio(back, size)}
                for n, (size, back) in sorted(averages.items())]
        return {"cohorts": cohorts, "averages": rows, "firstWeekLuck": self.luck()}

    def luck(self):
        lucks = []
        for user, (season, day) in sorted(self.fold.first_weeks.items()):
            week = season.first_week
            if day in self.in_range and self.is_over(day + timedelta(days=7)) and week["variance"]:
                luck = (week["paid"] - week["expected"] / 1e6) / sqrt(week["variance"] / 1e3)
                came_back = any(user in self.active(day + timedelta(days=n)) for n in range(1, 8))
                lucks.append((luck, user, came_back))
        lucks.sort()
        rows = []
        for tercile in (1, 2, 3):
            third = lucks[len(lucks) * (tercile - 1) // 3:len(lucks) * tercile // 3]
            back = sum(came_back for *_, came_back in third)
            rows.append({"tercile": tercile, "users": len(third), "luckFrom": third[0][0] if third else None,
                         "luckUntil": third[-1][0] if third else None, "cameBack": back,
                         "rate": ratio(back, len(third))})
        return rows

    def funnel(self):
        registered = [user for user in self.fold.users.values() if user["day"] in self.in_range]
        steps, counts = [], [sum(user["steps"] >= n for user in registered) for n in range(1, 6)]
        for n, (name, users) in enumerate(zip(folding.FUNNEL, counts)):
            steps.append({"step": n + 1, "name": name, "users": users, "ofFirst": ratio(users, counts[0]),
                          "ofPrevious": ratio(users, counts[max(n - 1, 0)])})
        given_up = defaultdict(lambda: [0, 0])
        for season in self.fold.seasons.values():
            if season.how not in (None, "completed") and folding.utc_date(season.ended_at * 10**6) in self.in_range:
                given_up[season.day][season.how != "abandoned"] += 1
        return {"steps": steps if registered else [],
                "givenUp": [{"dayNumber": day, "abandoned": abandoned, "expired": expired}
                            for day, (abandoned, expired) in sorted(given_up.items())]}

    def bets(self, by_day=False):
        rows, everything = defaultdict(Counter), Counter()
        for (day, *cell), sums in self.fold.economics_days.items():
            if day in self.in_range:
                rows[(str(day) if by_day else "", *cell)].update(sums)
                everything.update(sums)
        moved = [self.fold.coin_days[day] for day in self.days if day in self.fold.coin_days]
        return {"rows": [self.bet_row(sums, *key) for key, sums in sorted(rows.items())],
                "all": self.bet_row(everything),
                "jackpot": {"inMillicoins": sum(day["jackpot_in"] for day in moved),
                            "out": sum(day["jackpot_out"] for day in moved)},
                "judged": self.judged(), "judgedDay": self.judged_day(), "alarms": self.alarms()}

    def bet_row(self, sums, day=None, pot=None, bet_type=None, weather=None):
        staked, expected, deviation = sums["staked"], sums["expected"] / 1e6, sqrt(sums["variance"] / 1e3)
        exact = self.fold.odds.exact_return(pot, bet_type, weather) if pot else None
        of_staked = lambda coins: ratio(coins, staked)  # noqa: E731
        return {"day": day or None, "potId": pot, "betType": bet_type, "weather": weather, "bets": sums["bets"],
                "won": sums["won"], "staked": staked, "paid": sums["paid"], "expected": expected,
                "actualReturn": of_staked(sums["paid"]), "expectedReturn": of_staked(expected),
                "lowReturn": of_staked(expected - 1.96 * deviation),
                "highReturn": of_staked(expected + 1.96 * deviation), "exactReturn": exact,
                "deviations": ratio(sums["paid"] - expected, deviation)}

    def of_30_days(self, day, cell):
        """A cell's bets of a day and the 29 before it."""
        sums = Counter()
        for n in range(30):
            sums.update(self.fold.economics_days.get((day - timedelta(days=n), *cell), {}))
        return sums

    def judged_day(self):
        """The last day that is over."""
        over = [day for day in self.days if self.is_over(day)]
        return str(max(over)) if over else None

    def judged(self):
        over = [day for day in self.days if self.is_over(day)]
        cells = {tuple(cell) for _, *cell in self.fold.economics_days}
        sums = [self.of_30_days(over[-1], cell) for cell in cells] if over else []
        return sum(s["staked"] ** 2 >= 1_000 * s["staked_squared"] > 0 for s in sums)

    def alarms(self):
        alarms = []
        cells = sorted({tuple(cell) for _, *cell in self.fold.economics_days})
        for day in filter(self.is_over, self.days):
            for cell in cells:
                sums = self.of_30_days(day, cell)
                far, deviation = sums["paid"] - sums["expected"] / 1e6, sqrt(sums["variance"] / 1e3)
                if abs(far) > 4 * deviation and sums["staked"] ** 2 >= 1_000 * sums["staked_squared"] > 0:
                    alarms.append({"day": str(day), **dict(zip(CELL_NAMES, cell)), "staked": sums["staked"],
                                   "paid": sums["paid"], "expected": sums["expected"] / 1e6,
                                   "deviations": far / deviation})
        return alarms

    def sessions(self):
        plays = defaultdict(list)
        for user, of_user in self.fold.plays.items():
            for started, ended, commands in of_user:
                plays[folding.utc_date(started * 10**6)].append((ended - started, user, commands))
        rows = []
        for day in self.days:
            lengths = sorted(length for length, *_ in plays[day])
            rank = lambda percent: lengths[-(-len(lengths) * percent // 100) - 1] if lengths else None  # noqa: E731
            rows.append({"day": str(day), "sessions": len(lengths), "users": len({user for _, user, _ in plays[day]}),
                         "commands": sum(commands for *_, commands in plays[day]),
                         "meanSeconds": ratio(sum(lengths), len(lengths)), "p50Seconds": rank(50),
                         "p90Seconds": rank(90), "maxSeconds": lengths[-1] if lengths else None,
                         "partial": not self.is_over(day)})
        return {"days": rows}

    def coins(self):
        rows, total = [], Counter()
        for day in days_between(min(min(self.fold.coin_days), self.days[0]), self.days[-1]):
            moved = self.fold.coin_days.get(day, Counter())
            total.update(moved)
            if day in self.in_range:
                t = total
                rows.append({
                    "day": str(day), "started": moved["started"], "stipends": moved["stipends"],
                    "ended": moved["ended"], "placed": moved["placed"], "givenBack": moved["given_back"],
                    "staked": moved["staked"], "paid": moved["paid"], "jackpotInMillicoins": moved["jackpot_in"],
                    "jackpotOut": moved["jackpot_out"], "mint": t["ended"] - t["started"] - t["stipends"],
                    "balances": t["started"] + t["stipends"] + t["given_back"] + t["paid"] + t["jackpot_out"]
                    - t["placed"] - t["ended"],
                    "escrow": t["placed"] - t["given_back"] - t["staked"],
                    "houseMillicoins": 1000 * (t["staked"] - t["paid"]) - t["jackpot_in"],
                    "jackpotMillicoins": t["jackpot_in"] - 1000 * t["jackpot_out"],
                    "partial": not self.is_over(day)})
        return {"days": rows}


    def period(self):
        """The figures of a period of the month's report, for all days that are over."""
        fold, over = self.fold, {day for day in self.days if self.is_over(day)}
        end = (max(over) - date(1970, 1, 1)).days * 86_400 + 86_400
        seasons = list(fold.seasons.values())
        within = lambda at: folding.utc_date(at * 10**6) in over  # noqa: E731
        ended = Counter(s.how.split("_")[0] for s in seasons if s.how and within(s.ended_at))
        moved = [fold.coin_days[day] for day in over if day in fold.coin_days]
        wins = [win for win in fold.large_wins if within(win[-1]) and win[-2] - win[-3] >= 5_000]
        bets = Answers(fold, min(over), max(over)).bets()
        period = {
            "active": len({user for day in over for user in self.active(day)}),
            "new": sum(day in over for day in self.first_day.values()),
            "seasonsStarted": sum(within(s.started_at) for s in seasons), "seasonsCompleted": ended["completed"],
            "seasonsAbandoned": ended["abandoned"], "seasonsExpired": ended["expired"],
            "givenBack": sum(day["given_back"] for day in moved), "bets": bets, "largeWins": len(wins),
            "largeWinsPaid": sum(win[-2] for win in wins),
            "flags": sum(within(at) for s in seasons for *_, at in s.flags),
            "keyRotations": sum(kind == "key_rotated" and within(at) for _, kind, at, _ in fold.ledger_events),
            "restores": sum(kind == "ledger_restored" and within(at) for _, kind, at, _ in fold.ledger_events)}
        return period, self.interrupted(seasons, end)

    @staticmethod
    def interrupted(seasons, end):
        """Seasons in play at a time without a command for 24 hours, and the coins in them."""
        count = coins = 0
        for s in seasons:
            if s.started_at >= end or (s.ended_at is not None and s.ended_at < end):
                continue
            times = [s.started_at, *(day["created"] for day in s.days.values()),
                     *(bet["placed_at"] for bet in s.bets.values())]
            if max(at for at in times if at < end) < end - 86_400:
                count += 1
                coins += sum(amount for at, _, kind, amount, bet_id in s.movements
                             if bet_id is None and at < end and kind != "end")
                coins += sum(bet["payout"] - bet["amount"] for bet in s.bets.values()
                             if bet["resolved_at"] is not None and bet["resolved_at"] < end)
        return count, coins


def ask(daybook, data_dir, *arguments):
    """What the command answers."""
    command = [daybook, "analytics", *arguments, "--json", "--data", data_dir]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def month_cohorts(whole, first, last):
    """The cohorts of a month, with what was known of them at its end, or on the last day that is over."""
    end = min(last, max(day for day in whole.days if whole.is_over(day)))
    days = [first + timedelta(days=n) for n in range((end - first).days + 1)]
    answers = []
    for day in [day for day in days if day >= whole.days[0]]:
        users = {user for user, joined in whole.first_day.items() if joined == day}
        later = [day + timedelta(days=n) for n in range((end - day).days + 1)]
        answers.append({"cohortDay": str(day), "cohortSize": len(users),
                        "retained": [len(users & set(whole.active(on))) for on in later]})
    return answers


def report_differs(daybook, data_dir, fold):
    """Each month's report, held to what the events give since the beginning."""
    whole = Answers(fold)
    for first in sorted({day.replace(day=1) for day in whole.days if whole.is_over(day)}):
        command = [daybook, "report", "--month", f"{first:%Y-%m}", "--json", "--data", data_dir]
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
        period, interrupted = Answers(fold, last=last).period()
        found = {key: report["periods"][2][key] for key in period}
        difference = differing(comparable(period), comparable(found), f"{first:%Y-%m}")
        cohorts = month_cohorts(whole, first, last)
        difference = difference or differing(cohorts, report["cohorts"], f"{first:%Y-%m}.cohorts")
        told = report["interruptedSeasons"], report["interruptedCoins"]
        if difference or told != interrupted:
            return difference or f"{first:%Y-%m}: interrupted expected {interrupted}, found {told}"
    return None


def differing(expected, found, path=""):
    """The first place in which two answers differ."""
    if type(expected) is not type(found) and not {type(expected), type(found)} <= {int, float}:
        return f"{path}: expected {expected}, found {found}"
    if isinstance(expected, dict):
        if expected.keys() != found.keys():
            return f"{path}: expected the fields {sorted(expected)}, found {sorted(found)}"
        return next(filter(None, (differing(expected[key], found[key], f"{path}.{key}") for key in expected)), None)
    if isinstance(expected, list):
        if len(expected) != len(found):
            return f"{path}: expected {len(expected)} entries, found {len(found)}"
        pairs = enumerate(zip(expected, found))
        return next(filter(None, (differing(one, other, f"{path}[{n}]") for n, (one, other) in pairs)), None)
    return None if expected == found else f"{path}: expected {expected}, found {found}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir")
    parser.add_argument("--daybook", required=True)
    arguments = parser.parse_args()
    fold = folding.Fold(folding.read_events(arguments.daybook, arguments.data_dir))
    whole = Answers(fold)
    middle = whole.days[len(whole.days) // 4], whole.days[len(whole.days) // 2]
    agree = True
    for named, answers in (("all days", whole), (f"{middle[0]} to {middle[1]}", Answers(fold, *middle))):
        days = [] if answers is whole else ["--from", str(middle[0]), "--until", str(middle[1])]
        asked = {"dau": answers.dau(), "retention": answers.retention(), "funnel": answers.funnel(),
                 "bets": answers.bets(), "bets --by-day": answers.bets(by_day=True),
                 "sessions": answers.sessions(), "coins": answers.coins()}
        for name, expected in asked.items():
            found = ask(arguments.daybook, arguments.data_dir, *name.split(), *days)
            if found.pop("seq") != fold.newest["seq"]:
                sys.exit("the read models have not come to the newest event")
            difference = differing(comparable(expected), comparable(found))
            print(f"analytics {name}, {named}: {difference or 'agrees'}")
            agree = agree and difference is None
    difference = report_differs(arguments.daybook, arguments.data_dir, fold)
    print(f"report: {difference or 'agrees'}")
    return 0 if agree and difference is None else 1


if __name__ == "__main__":
    sys.exit(main())
