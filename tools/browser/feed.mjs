// The feed's clients, TypeScript and Python: both are told what `daybook tail` prints, over a restart of the service.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import assert from "node:assert/strict";
import { PASSWORD, clients, daybook, freePort, serve, stop } from "./service.mjs";

const { FeedRefused, follow } = await import(join(clients, "feed.js"));
const directory = mkdtempSync(join(tmpdir(), "daybook-feed-"));
const data = join(directory, "data");

function run(...parameters) {
  const done = spawnSync(daybook, [...parameters, "--data", data], { encoding: "utf8" });
  assert.equal(done.status, 0, done.stderr);
  return done.stdout.trim();
}

async function register(base, count, name) {
  for (let number = 0; number < count; number++) {
    const body = JSON.stringify({ email: `${name}${number}@farm.example`, password: PASSWORD, displayName: "A" });
    const headers = { "content-type": "application/json" };
    const answer = await fetch(`${base}/api/auth/register`, { method: "POST", headers, body });
    assert.equal(answer.status, 201);
  }
}

/** Reads until an event that is newer than a seq; gives what was told, and how far it came. */
async function readUntil(options, seq) {
  const ends = new AbortController();
  const told = [];
  let after = options.after;
  for await (const { id, event } of follow({ ...options, signal: ends.signal })) {
    after = id;
    if (event) told.push(event);
    if (Number(id.split(":")[0]) >= seq) break;
  }
  ends.abort();
  return { told, after };
}

const head = () => JSON.parse(run("verify", "--json")).head_seq;
const port = await freePort();
const settings = ["--registrations-per-day", "1000", "--auth-limit", "1000/1000"];
try {
  let service = await serve(directory, settings, port);
  const base = `http://${service.address}`;
  await register(base, 5, "first");
  const token = run("user", "token", "audit", "--scope", "read-events");
  const script = new URL("../../docs/examples/feed.py", import.meta.url).pathname;
  const position = join(directory, "position");
  const python = spawn("python3", [script, base, position], { env: { ...process.env, DAYBOOK_TOKEN: token } });
  let printed = "";
  python.stdout.on("data", (chunk) => (printed += chunk));
  const first = await readUntil({ base, token }, head());
  await stop(service);
  service = await serve(directory, settings, port);
  await register(base, 5, "second");
  const newest = head();
  const second = await readUntil({ base, token, after: first.after }, newest);
  const all = run("tail").split("\n").map((line) => JSON.parse(line));
  const seqs = all.map(({ seq }) => seq);
  assert.deepEqual([...first.told, ...second.told], all, "TypeScript");
  // It waits a little before it comes again.
  for (let tries = 0; tries < 300 && printed.split("\n").length <= newest; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  python.kill();
  const lines = printed.trim().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map(({ seq }) => seq), seqs, "Python");
  assert.equal(readFileSync(position, "utf8"), `${newest}:${all.at(-1).hash}`);
  const some = await readUntil({ base, token, kinds: ["user_registered"] }, newest);
  assert.ok(some.told.length === 10 && some.told.every(({ kind }) => kind === "user_registered"));
  // Over a fork neither goes on.
  const fork = `3:${all.at(-1).hash}`;
  await assert.rejects(readUntil({ base, token, after: fork }, newest), (error) => {
    return error instanceof FeedRefused && error.code === "HEAD_UNKNOWN";
  });
  writeFileSync(position, fork);
  const refused = spawnSync("python3", [script, base, position], { env: { ...process.env, DAYBOOK_TOKEN: token }, encoding: "utf8" });
  assert.ok(refused.status === 1 && refused.stderr.includes("HEAD_UNKNOWN"), refused.stderr);
  await stop(service);
  console.log(`the feed's clients: ${newest} events, each once, over a restart`);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
process.exit(0);
