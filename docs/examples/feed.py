"""Prints a ledger's events as they come, one JSON object a line, and remembers how far it has come.

Usage: DAYBOOK_TOKEN=… python3 feed.py http://localhost:8080 position.txt [KIND,KIND]

The position is written after an event was handled. A program that stores what it makes of the events should store
the position in the same transaction: then each event counts once, whatever is killed.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

# The service says something every 15 s: a connection on which nothing comes for so long is dead.
SILENT_SECONDS = 45
COMES_AGAIN_SECONDS = 3


class Refused(Exception):
    """The token lacks the scope, or the ledger lost the event that was read last: going on would join two pasts."""


def told(base, token, kinds, last):
    """The ids and the events of one connection, from after the last id on."""
    headers = {"Authorization": f"Bearer {token}"}
    if last:
        headers["Last-Event-ID"] = last
    query = f"?kind={kinds}" if kinds else ""
    request = urllib.request.Request(f"{base}/api/events{query}", headers=headers)
    with urllib.request.urlopen(request, timeout=SILENT_SECONDS) as response:
        block = {}
        for line in response:
            line = line.decode().rstrip("\n")
            name, _, value = line.partition(": ")
            if line:
                block[name] = value
            else:
                if "id" in block:
                    yield block["id"], json.loads(block["data"]) if "data" in block else None
                block = {}


def follow(base, token, kinds=None, last=None):
    """Ids and events, for ever; the event is None where what was passed is of no kind that was asked for."""
    while True:
        try:
            for last, event in told(base, token, kinds, last):
                yield last, event
        except urllib.error.HTTPError as error:
            # Too many requests, or a service that starts or stops, pass by themselves.
            if error.code != 429 and error.code < 500:
                raise Refused(error.read().decode()) from error
            print(f"connecting again: {error}", file=sys.stderr)
        except OSError as error:
            # A wrong address looks like a service that is away.
            print(f"connecting again: {error}", file=sys.stderr)
        time.sleep(COMES_AGAIN_SECONDS)


def main():
    if len(sys.argv) < 3 or "DAYBOOK_TOKEN" not in os.environ:
        raise SystemExit(__doc__)
    base, position, *kinds = sys.argv[1:]
    last = None
    if os.path.exists(position):
        with open(position, encoding="utf-8") as file:
            last = file.read().strip()
    try:
        for last, event in follow(base, os.environ["DAYBOOK_TOKEN"], ",".join(kinds), last):
            if event is not None:
                print(json.dumps(event), flush=True)
            with open(position + ".new", "w", encoding="utf-8") as file:
                file.write(last)
            os.replace(position + ".new", position)
    except Refused as refused:
        raise SystemExit(f"refused: {refused}") from refused


if __name__ == "__main__":
    main()
