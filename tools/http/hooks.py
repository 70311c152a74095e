"""What schemathesis needs of us: a session for each request, and a record of what was answered.

Routes that end a session or an account get one of their own, so that the others are not asked without one.
"""

import atexit
import collections
import itertools
import json
import os
import subprocess
import threading

import requests
import schemathesis

BASE = os.environ["CHECK_BASE"]
DAYBOOK, DATA = os.environ["CHECK_DAYBOOK"], os.environ["CHECK_DATA"]
PASSWORD = "a pail of cold water"
OWN = {
    "/api/auth/logout", "/api/auth/password", "/api/auth/sessions", "/api/auth/sessions/{number}",
    "/api/auth/me/erase", "/api/auth/login", "/api/auth/register", "/api/auth/reset", "/api/users/{id}/lock",
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


def operator(*arguments):
    command = [DAYBOOK, "user", *arguments, "--data", DATA]
    return subprocess.run(command, input=PASSWORD, text=True, capture_output=True, check=True).stdout.strip()


operator("create", "admin@farm.example", "--role", "admin")
ADMIN = post("/api/auth/login", {"email": "admin@farm.example", "password": PASSWORD})[1]
SHARED = person()


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
    if path == "/api/users/{id}/lock":
        if is_positive(case) and next(numbers) % 2:
            case.path_parameters = {"id": user["id"]}
        session = ADMIN
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
