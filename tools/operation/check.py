"""Holds alerts and dashboard to what a running service tells, and lets prometheus scrape it."""

import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path("docs/monitoring")
# What Prometheus makes itself.
ITS_OWN = {"up"}


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, look):
    for _ in range(300):
        try:
            if found := look():
                return found
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"{what} did not happen within 30 s")


def named_in(text):
    """The metrics that an expression or a file of rules names."""
    return set(re.findall(r"\b(daybook_[a-z_]+)", text))


def play(base):
    """One request that is answered well, so that requests and durations are told."""
    body = json.dumps({"email": "ada@farm.example", "password": "a pail of cold water", "displayName": "Ada"})
    request = urllib.request.Request(f"{base}/api/auth/register", body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201


def check_units(daybook, directory):
    """The units for systemd start what there is, with options that there are."""
    installed, here = "/usr/local/bin/daybook", str(pathlib.Path(daybook).resolve())
    configuration = pathlib.Path(directory) / "daybook.toml"
    configuration.write_text('public-url = "https://farm.example"\n')
    files = []
    for name in ("daybook.service", "daybook-backup.service", "daybook-backup.timer"):
        unit = pathlib.Path("docs/deployment", name).read_text()
        files.append(pathlib.Path(directory) / name)
        # Whoever tests has not installed the command.
        files[-1].write_text(unit.replace(installed, here))
        start = re.search(r"^ExecStart=(.+)$", unit.replace("\\\n", ""), re.MULTILINE)
        if start is None:
            continue
        command, task, *options = start[1].split()
        if command != installed:
            raise SystemExit(f"{name} starts {command}")
        options = [str(configuration) if it.endswith("daybook.toml") else it for it in options]
        # `serve` looks at its options and ends; of others the names are looked for.
        if task == "serve":
            asked = [here, task, *options, "--check-config"]
            subprocess.run(asked, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        else:
            told = subprocess.run([here, task, "--help"], check=True, capture_output=True, text=True).stdout
            unknown = [it for it in options if it.startswith("--") and it not in told]
            if unknown:
                raise SystemExit(f"{name} has {unknown}, which there are not")
    told = subprocess.run(["systemd-analyze", "verify", *map(str, files)], capture_output=True, text=True)
    if told.returncode != 0 or "daybook" in told.stderr:
        raise SystemExit(f"systemd-analyze: {told.stderr}")
    print("the units: systemd-analyze finds no fault")


def main():
    daybook = sys.argv[1]
    with tempfile.TemporaryDirectory() as directory:
        check_units(daybook, directory)
        port, metrics, prometheus = free_port(), free_port(), free_port()
        serving = subprocess.Popen([daybook, "serve", "--data", f"{directory}/data", "--listen", f"127.0.0.1:{port}",
                                    "--metrics-listen", f"127.0.0.1:{metrics}"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        scraping = None
        try:
            wait_for("the start", lambda: "ok" in get(f"http://127.0.0.1:{port}/readyz"))
            play(f"http://127.0.0.1:{port}")
            told = get(f"http://127.0.0.1:{metrics}/metrics")
            names = set(re.findall(r"^(daybook_[a-z_]+)", told, re.MULTILINE))
            dashboard = json.loads((HERE / "grafana.json").read_text())
            panels = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
            rules = "\n".join(line for line in (HERE / "alerts.yml").read_text().splitlines() if "expr:" in line)
            for what, named in (("alerts", named_in(rules)), ("dashboard", named_in(panels))):
                if lacking := named - names - ITS_OWN:
                    raise SystemExit(f"the {what} name {sorted(lacking)}, and the service does not tell them")
                print(f"the {what}: all of {len(named)} metrics are told")
            tested = set(re.findall(r"alertname: (\w+)", (HERE / "alerts_test.yml").read_text()))
            alerts = set(re.findall(r"alert: (\w+)", (HERE / "alerts.yml").read_text()))
            if tested != alerts:
                raise SystemExit(f"no test fires {sorted(alerts - tested)}")
            operation = pathlib.Path("docs/OPERATION.md").read_text()
            headings = {re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
                        for line in operation.splitlines() if line.startswith("#")}
            runbooks = set(re.findall(r"runbook: OPERATION\.md#(\S+)", (HERE / "alerts.yml").read_text()))
            if lacking := runbooks - headings:
                raise SystemExit(f"docs/OPERATION.md lacks {sorted(lacking)}")
            # No label has an id of anybody.
            if re.search(r"(usr|ssn|bet)_[0-9a-f]{8}", told):
                raise SystemExit("an id stands in the metrics")
            configuration = (HERE / "prometheus.yml").read_text().replace("127.0.0.1:9464", f"127.0.0.1:{metrics}")
            configuration = configuration.replace("15s", "1s").replace("alerts.yml", str((HERE / "alerts.yml").resolve()))
            file = pathlib.Path(directory) / "prometheus.yml"
            file.write_text(configuration)
            scraping = subprocess.Popen(["prometheus", f"--config.file={file}", f"--storage.tsdb.path={directory}/tsdb",
                                         f"--web.listen-address=127.0.0.1:{prometheus}"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

            def scraped():
                answer = json.loads(get(f"http://127.0.0.1:{prometheus}/api/v1/query?query=daybook_events_total"))
                return answer["data"]["result"]

            events = wait_for("a scrape", scraped)[0]["value"][1]
            print(f"prometheus scraped the service: {events} events")
        finally:
            if scraping is not None:
                scraping.terminate()
                scraping.wait(timeout=30)
            serving.terminate()
            serving.wait(timeout=60)


main()
