// What the browser's tests have in common: a service, nginx in front of one, a Chromium, the client's files.
import { spawn, spawnSync } from "node:child_process";
import { createServer } from "node:http";
import { openSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

export const [daybook, browserPath, clients] = process.argv.slice(2);
export const PASSWORD = "a pail of cold water";

/** Starts a service, at a free port if none is named, and gives its address, and the one for browsers. */
export async function serve(directory, more = [], port = "0") {
  const settings = ["--password-memory", "8", "--password-passes", "1", ...more];
  const child = spawn(daybook, ["serve", "--data", join(directory, "data"), "--listen", `127.0.0.1:${port}`, ...settings], {
    stdio: ["ignore", "pipe", openSync(join(directory, "log"), "w")],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const found = line.match(/Listening at http:\/\/(\S+), for browsers at (\S+)/);
    if (found) return { child, address: found[1], base: found[2] };
  }
  throw new Error("the service did not start");
}

/** Puts nginx in front of a service, as docs/nginx.conf shows it. */
export async function proxy(directory, port, address) {
  const script = new URL("../../tools/http/nginx_configuration.py", import.meta.url).pathname;
  const made = spawnSync("python3", [script, directory, port, address], { encoding: "utf8" });
  assert.equal(made.status, 0, made.stderr);
  const child = spawn("nginx", ["-c", made.stdout.trim()], { stdio: "ignore" });
  for (let tries = 0; tries < 100; tries++) {
    if (await fetch(`http://127.0.0.1:${port}/healthz`).then((it) => it.ok, () => false)) return child;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("nginx did not start");
}

/** A port that nobody listens at. */
export const freePort = () =>
  new Promise((resolve) => {
    const listener = createServer().listen(0, "127.0.0.1", () => {
      const { port } = listener.address();
      listener.close(() => resolve(String(port)));
    });
  });

/** Stops a service in good order. */
export async function stop({ child }) {
  child.kill("SIGTERM");
  await new Promise((ended) => child.once("exit", ended));
}

export function launch() {
  const quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync"];
  return chromium.launch({ executablePath: browserPath, args: quiet });
}

/** Serves the client's files as a part of a game's own pages. */
export async function serveClient(of) {
  for (const name of ["daybook", "ids", "telemetry", "monitor"]) {
    const path = join(clients, `${name}.js`);
    await of.route(`**/${name}.js`, (route) => route.fulfill({ path, contentType: "text/javascript" }));
  }
}
