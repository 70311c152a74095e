"""Puts nginx in front of a service as docs/nginx.conf shows it: addresses, limits and cookies must come out right."""

import argparse
import http.client
import json
import os
import socket
import subprocess
import tempfile
import time

from nginx_configuration import configuration

PUBLIC = "https://farm.example"
# Few enough to be used up here.
SETTINGS = ["--public-url", PUBLIC, "--trusted-proxy", "127.0.0.1=x-forwarded-for", "--api-limit", "4/0.01",
            "--auth-limit", "50/10", "--password-memory", "8", "--password-passes", "1"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Client:
    """Requests through nginx, from an address of this machine."""

    def __init__(self, port, address):
        self.port, self.address, self.cookies = port, address, {}

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20, source_address=(self.address, 0))
        headers = {"Host": "farm.example", **(headers or {})}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if body is not None:
            body, headers["Content-Type"] = json.dumps(body), "application/json"
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        for name, cookie in answer.getheaders():
            if name.lower() == "set-cookie":
                key, value = cookie.split(";")[0].split("=", 1)
                self.cookies[key] = value
                assert "Secure" in cookie and "HttpOnly" in cookie, cookie
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text


def check(port):
    person = {"email": "ada@farm.example", "password": "a pail of cold water", "displayName": "Ada"}
    ada = Client(port, "127.0.0.21")
    own = {"Origin": PUBLIC, "Sec-Fetch-Site": "same-origin"}
    status, headers, text = ada.ask("POST", "/api/auth/register", person, own)
    assert status == 201, (status, text)
    assert headers["strict-transport-security"], headers
    # The session has the client's address, not the proxy's.
    status, _, text = ada.ask("GET", "/api/auth/sessions")
    assert json.loads(text)["sessions"][0]["ipAddress"] == "127.0.0.21", text
    status, _, text = Client(port, "127.0.0.22").ask("POST", "/api/auth/login", person, {"Origin": "http://farm.example"})
    assert status == 403 and "CROSS_SITE" in text, (status, text)
    # Each client has its own limit, whatever it says of itself.
    for address in ("127.0.0.23", "127.0.0.24"):
        stranger = Client(port, address)
        forged = [{"X-Forwarded-For": f"203.0.113.{number}", "CF-Connecting-IP": f"203.0.113.{number}",
                   "Forwarded": "for=203.0.113.9"} for number in range(6)]
        statuses = [stranger.ask("GET", "/api/auth/me", headers=headers)[0] for headers in forged]
        assert statuses == [401] * 4 + [429] * 2, statuses
    status, headers, text = Client(port, "127.0.0.24").ask("GET", "/api/auth/me")
    assert status == 429 and int(headers["retry-after"]) >= 1, headers
    assert ada.ask("POST", "/api/auth/logout", {}, own)[0] == 204
    assert ada.ask("GET", "/api/auth/me")[0] == 401


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--daybook", required=True)
    daybook = os.path.abspath(parser.parse_args().daybook)
    with tempfile.TemporaryDirectory() as directory:
        # nginx's workers must reach it.
        os.chmod(directory, 0o755)
        port = free_port()
        log = open(os.path.join(directory, "log"), "w", encoding="utf-8")
        service = subprocess.Popen([daybook, "serve", "--data", os.path.join(directory, "data"), "--listen",
                                    "127.0.0.1:0", *SETTINGS], stdout=subprocess.PIPE, stderr=log, text=True)
        listening = next(line for line in service.stdout if line.startswith("Listening at "))
        upstream = listening.split("http://")[1].split(",")[0]
        nginx = subprocess.Popen(["nginx", "-c", str(configuration(directory, port, upstream))], stderr=log)
        try:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            check(port)
        finally:
            nginx.terminate(), service.terminate()
            assert (nginx.wait(timeout=60), service.wait(timeout=60))[1] == 0
    print("nginx: addresses, limits, origins and cookies come out right")


main()
