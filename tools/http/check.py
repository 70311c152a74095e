"""Holds a running service to its OpenAPI document with schemathesis: no server error, nothing undocumented."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

# Limits that would make most answers 429, and a hash that costs little.
SETTINGS = [
    "--api-limit", "1000000/1000000", "--bet-limit", "1000000/1000000", "--auth-limit", "1000000/1000000", "--registrations-per-day", "1000000",
    "--telemetry-limit", "1000000/1000000", "--telemetry-per-user", "1000000", "--telemetry-per-client", "1000000", "--telemetry-free-disk", "1",
    "--password-memory", "8", "--password-passes", "1", "--failed-logins", "1000",
    "--failed-logins-per-client", "10000", "--command-wait", "10000",
]
# Of requests that are not ours to answer: methods and headers that the transport answers itself.
LEFT_OUT = "ignored_auth,positive_data_acceptance"
# What no new player's request is answered well: a companion grows for seasons before it chooses its path.
REFUSED = {"POST /api/simulins/{id}/path": 409}


def start(daybook, data):
    command = [daybook, "serve", "--data", data, "--listen", "127.0.0.1:0", *SETTINGS]
    log = open(pathlib.Path(data).parent / "log", "w", encoding="utf-8")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    for line in process.stdout:
        if line.startswith("Listening at "):
            return process, line.split("Listening at ")[1].split(",")[0]
    raise SystemExit("the service did not start")


def judge(statuses):
    """What does not hold of what was answered, and how much was."""
    faults, total = [], 0
    for operation, counts in sorted(statuses.items()):
        counts = {int(status): count for status, count in counts.items()}
        asked = sum(counts.values())
        total += asked
        shown = ", ".join(f"{count} × {status}" for status, count in sorted(counts.items()))
        print(f"{operation:60} {shown}")
        if any(status >= 500 for status in counts):
            faults.append(f"{operation}: a server error")
        if operation.endswith("(without a session)"):
            if not all(400 <= status < 500 for status in counts):
                faults.append(f"{operation}: answered {sorted(counts)}")
            continue
        if operation in REFUSED and REFUSED[operation] in counts:
            continue
        if not any(status < 300 for status in counts):
            faults.append(f"{operation}: no request was answered well")
        refused = counts.get(401, 0) + counts.get(429, 0)
        if refused * 2 > asked:
            faults.append(f"{operation}: {refused} of {asked} were refused for their session or limit")
    return faults, total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--daybook", required=True)
    parser.add_argument("--examples", type=int, default=20, help="requests of each kind and route")
    arguments = parser.parse_args()
    here = pathlib.Path(__file__).parent
    with tempfile.TemporaryDirectory() as directory:
        data, record = os.path.join(directory, "data"), os.path.join(directory, "record.json")
        process, base = start(os.path.abspath(arguments.daybook), data)
        environment = dict(os.environ, CHECK_BASE=base, CHECK_DATA=data, CHECK_RECORD=record,
                           CHECK_DAYBOOK=os.path.abspath(arguments.daybook), SCHEMATHESIS_HOOKS="hooks",
                           PYTHONPATH=str(here))
        command = [os.path.join(os.path.dirname(sys.executable), "schemathesis"), "--config-file",
                   str(here / "schemathesis.toml"), "run", base + "/openapi.json",
                   # It never ends by itself; its own tests read it.
                   "--exclude-path", "/api/events",
                   "--checks", "all", "--exclude-checks", LEFT_OUT, "--max-examples", str(arguments.examples),
                   "--phases", "examples,coverage,fuzzing", "--seed", "7", "--generation-database", "none",
                   "--no-color"]
        told = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True)
        process.terminate()
        ended = process.wait(timeout=60)
        if not os.path.exists(record):
            print(told.stdout[-6000:], told.stderr[-6000:])
            raise SystemExit("schemathesis asked nothing")
        with open(record, encoding="utf-8") as file:
            faults, total = judge(json.load(file))
        if told.returncode != 0:
            print(told.stdout[-12000:], told.stderr[-3000:])
            faults.append(f"schemathesis ended with {told.returncode}")
        if ended != 0:
            faults.append(f"the service ended with {ended}")
    for fault in faults:
        print("fault:", fault)
    print(f"{total} requests, {len(faults)} faults")
    raise SystemExit(1 if faults else 0)


main()
