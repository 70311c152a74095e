"""What schemathesis needs of us: a session for each request, and a record of what was answered.

Routes that end a session or an account get one of their own, so that the others are not asked without one.
"""

import atexit
import collections
import itertools
import json
import os
import secrets
import subprocess
import threading
import time
import uuid

import requests
import schemathesis

BASE = os.environ["CHECK_BASE"]
DAYBOOK, DATA = os.environ["CHECK_DAYBOOK"], os.environ["CHECK_DATA"]
PASSWORD = "a pail of cold water"
OWN = {
    "/api/auth/logout", "/api/auth/password", "/api/auth/sessions", "/api/auth/sessions/{number}",
    "/api/auth/me/erase", "/api/auth/login", "/api/auth/register", "/api/auth/reset", "/api/users/{id}/lock",
}
PLAY = {
    "/api/seasons/{id}", "/api/seasons/{id}/bets", "/api/seasons/{id}/advance", "/api/seasons/{id}/abandon",
    "/api/seasons/{id}/odds", "/api/seasons/{id}/live", "/api/seasons/{id}/days/{day}",
    "/api/seasons/{id}/days/{day}/check", "/api/simulins/{id}/path", "/api/simulins/{id}/retire",
    "/api/leaderboards/{period}", "/api/simulins",
}
# Here each request has a season of its own: it may be the only one that it is good for.
CHANGES_PLAY = {
    "/api/seasons/{id}/bets", "/api/seasons/{id}/advance", "/api/seasons/{id}/abandon", "/api/simulins/{id}/retire",
    "/api/simulins",
}
WITHOUT = "(without a session)"
numbers = itertools.count()
statuses = collections.defaultdict(collections.Counter)
lock = threading.Lock()


def post(path, body, cookies=None):
    answer = requests.post(BASE + path, json=body, cookies=cookies, timeout=30)
    assert answer.ok, (path, answer.status_code, answer.text)
    # The cookie is for https and localhost; here it is taken by hand.
    session = answer.headers["set-cookie"].split("session=")[1].split(";")[0]
    return answer.json()["user"], session


def person():
    email = f"person{os.getpid()}-{next(numbers)}@farm.example"
    return post("/api/auth/register", {"email": email, "password": PASSWORD, "displayName": "P"})


def farmer():
    """A new person with a season in play, whose first day is over; and the commitment that is used up."""
    user, session = person()
    cookies = {"session": session}
    get = lambda path: requests.get(BASE + path, cookies=cookies, timeout=30).json()
    commitment = get("/api/fairness/next")["commitment"]
    started = play("/api/seasons", {"commitment": commitment, "clientSeed": "5a" * 32}, cookies)
    season = started["season"]["id"]
    play(f"/api/seasons/{season}/advance", {"expectedDay": 1}, cookies)
    simulin = play("/api/simulins", {"species": "sprig"}, cookies)["simulin"]["id"]
    return {"session": session, "season": season, "simulin": simulin}


def play(path, body, cookies):
    answer = requests.post(BASE + path, json=body, cookies=cookies, timeout=30)
    assert answer.ok, (path, answer.status_code, answer.text)
    return answer.json()


def uuid7():
    """An id as a client makes it."""
    number = (int(time.time() * 1000) << 80) | (0x7 << 76) | (secrets.randbits(12) << 64) | (0b10 << 62) | secrets.randbits(62)
    return str(uuid.UUID(int=number))


def prepare_play(case, path):
    """Whoever asks about a season has one, in the state that the route is about."""
    own = farmer() if path in CHANGES_PLAY else DONE if path.endswith("/live") else SHARED_FARM
    if is_positive(case) and next(numbers) % 8:
        if "/seasons/{id}" in path:
            case.path_parameters = {**(case.path_parameters or {}), "id": own["season"]}
        if "/simulins/{id}" in path:
            case.path_parameters = {"id": own["simulin"]}
        if "{day}" in path and next(numbers) % 3:
            case.path_parameters["day"] = 1
        if "{period}" in path:
            case.path_parameters = {"period": "all_time"}
        headers = case.headers if case.headers is not None else {}
        if headers.get("Idempotency-Key"):
            case.headers["Idempotency-Key"] = uuid7()
        body = case.body
        if isinstance(body, dict):
            if "seasonId" in body:
                body["seasonId"] = own["season"]
            if "expectedDay" in body:
                body["expectedDay"] = 2
            if path.endswith("/bets"):
                # Of random stakes hardly one is within the balance, and of random pots two are the same.
                orders = body["bets"] if isinstance(body.get("bets"), list) else [body]
                for pot, order in zip(("water", "sun", "pest", "growth"), orders):
                    order.update(potId=pot, betType="fold", amount=0)
    return own["session"]


def prepare_start(case):
    """Whoever starts a season has none, and names the commitment that is in force."""
    _, session = person()
    if is_positive(case) and isinstance(case.body, dict) and next(numbers) % 8:
        next_one = requests.get(BASE + "/api/fairness/next", cookies={"session": session}, timeout=30).json()
        case.body["commitment"] = next_one["commitment"]
        case.body.pop("simulinId", None)
        case.body.setdefault("clientSeed", "5a" * 32)
        if case.headers and case.headers.get("Idempotency-Key"):
            case.headers["Idempotency-Key"] = uuid7()
    return session


def operator(*arguments):
    command = [DAYBOOK, "user", *arguments, "--data", DATA]
    return subprocess.run(command, input=PASSWORD, text=True, capture_output=True, check=True).stdout.strip()


operator("create", "admin@farm.example", "--role", "admin")
ADMIN = post("/api/auth/login", {"email": "admin@farm.example", "password": PASSWORD})[1]
SHARED = person()
SHARED_FARM, DONE = farmer(), farmer()
play(f"/api/seasons/{DONE['season']}/abandon", {}, {"session": DONE["session"]})


def is_positive(case):
    return case.meta is None or case.meta.generation.mode.is_positive


def lacks_session(case):
    """Whether the case is about what happens without a session."""
    components = case.meta.components if case.meta else {}
    return any(kind.name == "COOKIE" and not data.mode.is_positive for kind, data in components.items())


@schemathesis.hook
def before_call(context, case, kwargs):
    path = case.operation.path
    user, session = person() if path in OWN else SHARED
    if path in PLAY:
        session = prepare_play(case, path)
    if path == "/api/seasons" and case.method.upper() == "POST":
        session = prepare_start(case)
    if path == "/api/flags" or path.startswith("/api/analytics/"):
        session = ADMIN
    if path == "/api/users/{id}/lock":
        if is_positive(case):
            # Never one whom others here ask as.
            unknown = f"usr_{uuid7()}"
            case.path_parameters = {"id": user["id"] if next(numbers) % 2 else unknown}
        session = ADMIN
    # Whoever has a session asks for itself.
    for header in ("X-On-Behalf-Of", "Authorization"):
        if case.headers:
            case.headers.pop(header, None)
    body = case.body
    if is_positive(case) and isinstance(body, dict) and next(numbers) % 4:
        if path == "/api/auth/login":
            body.update(email=user["email"], password=PASSWORD)
        elif path == "/api/auth/password":
            body["currentPassword"] = PASSWORD
        elif path in ("/api/auth/me/erase", "/api/auth/me/export"):
            body["password"] = PASSWORD
        elif path == "/api/auth/reset":
            body["token"] = operator("reset-password", user["email"]).split("#")[1]
    if not lacks_session(case):
        case.cookies = {**(case.cookies or {}), "session": session}


@schemathesis.hook
def after_call(context, case, response):
    operation = f"{case.operation.method.upper()} {case.operation.path}"
    if lacks_session(case):
        # What is asked without a session on purpose is refused for that.
        operation = f"{operation} {WITHOUT}"
    with lock:
        statuses[operation][response.status_code] += 1


@atexit.register
def write():
    if statuses:
        with open(os.environ["CHECK_RECORD"], "w", encoding="utf-8") as file:
            json.dump(statuses, file)
