// Telemetry from a real browser to a running service, with the network cut, answers lost, pages closed: what was
// tracked arrives once, in order, in the name of who was logged in; what is lost is counted.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import assert from "node:assert/strict";
import { PASSWORD, launch, serve, serveClient, stop } from "./service.mjs";

const directory = mkdtempSync(join(tmpdir(), "daybook-telemetry-"));
const unlimited = ["--api-limit", "10000/10000", "--telemetry-limit", "10000/10000", "--auth-limit", "1000/1000",
                   "--telemetry-per-client", "1000000", "--telemetry-free-disk", "1"];
const service = await serve(directory, unlimited);
const { base } = service;
const browser = await launch();

/** What the service stored of messages that begin so, in the order in which it came. */
function stored(beginning) {
  const script = `
import json, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.row_factory = sqlite3.Row
rows = database.execute("SELECT * FROM telemetry_events WHERE properties ->> 'message' LIKE ? ORDER BY rowid", [sys.argv[2] + "%"])
print(json.dumps([dict(row) for row in rows]))`;
  const asked = spawnSync("python3", ["-c", script, join(directory, "data", "telemetry.db"), beginning], { encoding: "utf8" });
  assert.equal(asked.status, 0, asked.stderr);
  return JSON.parse(asked.stdout).map((row) => ({ ...row, message: JSON.parse(row.properties).message }));
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until something holds, and gives it. */
/** Closes a page as a user does, and waits until it is gone: until then it might send. */
async function closed(page) {
  const gone = page.waitForEvent("close");
  await page.close({ runBeforeUnload: true });
  await gone;
}

async function until(what, look) {
  for (let tries = 0; tries < 200; tries++) {
    const found = await look();
    if (found) return found;
    await pause(50);
  }
  assert.fail(`${what} did not happen`);
}

/** Waits until so many are stored; they must be those, once each, in order. */
async function arrives(beginning, count, first = 0) {
  const rows = await until(`${count} of ${beginning}`, () => {
    const rows = stored(beginning);
    return rows.length >= count && rows;
  });
  await pause(300);
  const messages = stored(beginning).map((row) => row.message);
  assert.deepEqual(messages, Array.from({ length: count }, (_, index) => `${beginning}${index + first}`));
  return rows;
}

/** A page of a game with a client: `window.telemetry`. */
async function game(context, config = {}) {
  const page = await context.newPage();
  await serveClient(page);
  await page.goto(`${base}/reset`);
  await start(page, config);
  return page;
}

const start = (page, config = {}) =>
  page.evaluate(async (config) => {
    const { TelemetryClient } = await import("/telemetry.js");
    const { PerformanceMonitor } = await import("/monitor.js");
    window.telemetry = new TelemetryClient({ flushIntervalMs: 100, retryMs: 50, reportMs: 200, enabled: true, appVersion: "9.9",
                                             ...config });
    window.monitor = new PerformanceMonitor(window.telemetry);
    window.say = (beginning, count, first = 0) => {
      for (let index = first; index < first + count; index++) {
        window.telemetry.track("error", { error_code: "E", message: `${beginning}${index}` });
      }
    };
  }, config);

const say = (page, beginning, count, first = 0) =>
  page.evaluate(([beginning, count, first]) => window.say(beginning, count, first), [beginning, count, first]);
const lost = (page) => page.evaluate(() => window.telemetry.lost);

const checks = {
  async "events arrive in order, with a context, and the monitor's breaches too"() {
    const context = await browser.newContext({ locale: "en-GB", timezoneId: "Europe/Berlin" });
    const page = await game(context);
    await say(page, "plain", 25);
    const rows = await arrives("plain", 25);
    const sequence = rows.map((row) => row.sequence);
    assert.deepEqual(sequence, sequence.map((_, index) => index + sequence[0]));
    assert.equal(new Set(rows.map((row) => row.session_id)).size, 1);
    const { platform, appVersion, locale, timezone } = JSON.parse(rows[0].context);
    assert.deepEqual([platform, appVersion, locale, timezone], ["web", "9.9", "en-GB", "Europe/Berlin"]);
    assert.ok(rows.every((row) => row.sent_at >= row.client_timestamp && row.client_timestamp === row.timestamp));
    // The session and its order go on when the page is loaded again.
    await page.reload();
    await start(page);
    await say(page, "again", 3);
    const again = await arrives("again", 3);
    assert.equal(again[0].session_id, rows[0].session_id);
    assert.ok(again[0].sequence > sequence.at(-1));
    const stats = await page.evaluate(async () => {
      for (const value of [1, 2, 3, 4, 500, 600]) window.monitor.record("db_query", value);
      window.monitor.measure("tick", () => 1);
      await window.monitor.measureAsync("wait", () => new Promise((done) => setTimeout(done, 20)));
      return [window.monitor.getStats("db_query"), window.monitor.getStats("none"), window.monitor.getStats("wait").min >= 19];
    });
    assert.deepEqual(stats, [{ avg: 185, p50: 4, p95: 600, p99: 600, min: 1, max: 600 }, null, true]);
    const sent = page.waitForRequest((request) => request.postData()?.includes('"performance"'));
    await page.evaluate(() => window.monitor.record("game_tick", 8.129));
    const told = JSON.parse((await sent).postData()).events.filter((event) => event.eventType === "performance");
    assert.ok(told.some((event) => event.properties.metric === "game_tick" && event.properties.value === 8.13) ||
              told.some((event) => event.properties.metric === "db_query" && event.properties.value === 500));
    await context.close();
  },

  async "while the network is cut nothing is lost, doubled or reordered"() {
    const context = await browser.newContext();
    const page = await game(context);
    await say(page, "cut", 10);
    await context.setOffline(true);
    await say(page, "cut", 30, 10);
    await pause(700);
    await say(page, "cut", 10, 40);
    await context.setOffline(false);
    await arrives("cut", 50);
    assert.deepEqual(await lost(page), { overflow: 0, throttled: 0, expired: 0, refused: 0, otherLogin: 0 });
    await context.close();
  },

  async "an answer that is lost makes no second event"() {
    const context = await browser.newContext();
    const page = await game(context);
    let sendings = 0;
    await page.route("**/api/telemetry", async (route) => {
      if (sendings++ % 2 === 1) return route.continue();
      await route.fetch();
      await route.abort("connectionreset");
    });
    await say(page, "unanswered", 35);
    await arrives("unanswered", 35);
    assert.ok(sendings >= 8, `${sendings} requests for four batches`);
    await context.close();
  },

  async "past its size the queue loses the oldest, and says how many"() {
    const context = await browser.newContext();
    const page = await game(context, { maxQueueSize: 20 });
    await context.setOffline(true);
    await say(page, "overflow", 50);
    await pause(300);
    await context.setOffline(false);
    const kept = await until("the newest", () => {
      const rows = stored("overflow");
      return rows.length >= 20 && rows;
    });
    assert.deepEqual(kept.map((row) => row.message), Array.from({ length: 20 }, (_, index) => `overflow${index + 30}`));
    const report = await until("a report", () => stored("lost since").find((row) => row.message.includes('"overflow":30')));
    assert.equal(JSON.parse(report.properties).error_code, "TELEMETRY_LOST");
    await context.close();
  },

  async "one sending is under way at a time"() {
    const context = await browser.newContext();
    const page = await game(context);
    let underWay = 0, most = 0;
    await page.route("**/api/telemetry", async (route) => {
      most = Math.max(most, ++underWay);
      await pause(100);
      await route.continue();
      underWay -= 1;
    });
    await page.evaluate(() => {
      for (let times = 0; times < 5; times++) {
        window.say("alone", 8, times * 8);
        void window.telemetry.flush();
      }
    });
    await arrives("alone", 40);
    assert.equal(most, 1);
    await context.close();
  },

  async "a page that is left sends all that waits, not one batch, and sends it again when it is back"() {
    const context = await browser.newContext();
    const page = await game(context, { flushIntervalMs: 60_000, batchSize: 1_000 });
    await say(page, "left", 35);
    await page.goto("about:blank");
    await arrives("left", 35);
    // Nobody answered the beacon: it was kept, and comes once more.
    const back = await context.newPage();
    await serveClient(back);
    await back.goto(`${base}/reset`);
    assert.equal(await back.evaluate(() => JSON.parse(Object.values(localStorage)[0]).events.length), 35);
    await page.close();
    const again = back.waitForRequest((request) => request.postData()?.includes("left34"));
    await start(back);
    await again;
    await until("an empty store", () => back.evaluate(() => Object.keys(localStorage).length === 0));
    await arrives("left", 35);
    await context.close();
  },

  async "what a page could not send when it was closed is sent by the next one"() {
    const context = await browser.newContext();
    const page = await game(context);
    await context.setOffline(true);
    // A beacon that the browser takes and that arrives nowhere.
    await page.evaluate(() => (navigator.sendBeacon = () => true));
    await say(page, "closed", 15);
    await closed(page);
    await context.setOffline(false);
    assert.equal(stored("closed").length, 0);
    const next = await game(context);
    await arrives("closed", 15);
    await say(next, "next", 3);
    await arrives("next", 3);
    await context.close();
  },

  async "beacons have 64 KiB in all, counted in bytes; the rest is stored and sent later"() {
    const context = await browser.newContext();
    const page = await game(context, { flushIntervalMs: 60_000, batchSize: 1_000 });
    const beacons = await page.evaluate(() => {
      // A letter of three bytes: by characters three times as many would seem to fit.
      for (let index = 0; index < 80; index++) {
        window.telemetry.track("error", { error_code: "E", message: `large${index}`, stack: "\u20ac".repeat(900) });
      }
      const sizes = [];
      const send = navigator.sendBeacon.bind(navigator);
      navigator.sendBeacon = (url, body) => {
        sizes.push([body.size, send(url, body)]);
        return sizes.at(-1)[1];
      };
      window.dispatchEvent(new PageTransitionEvent("pagehide"));
      window.dispatchEvent(new PageTransitionEvent("pagehide"));
      return sizes;
    });
    const bytes = beacons.reduce((sum, [size]) => sum + size, 0);
    assert.ok(bytes > 32 * 1024 && bytes <= 64 * 1024, `${bytes} bytes in ${beacons.length} beacons`);
    assert.ok(beacons.every(([, taken]) => taken));
    assert.equal(await page.evaluate(() => JSON.parse(localStorage.getItem(Object.keys(localStorage)[0])).events.length), 80);
    await page.evaluate(() => window.telemetry.flush());
    await arrives("large", 80);
    await context.close();
  },

  async "a beacon that the browser refuses loses nothing"() {
    const context = await browser.newContext();
    const page = await game(context, { flushIntervalMs: 60_000, batchSize: 1_000 });
    await page.evaluate(() => {
      navigator.sendBeacon = () => false;
      window.say("refused", 12);
    });
    await page.goto("about:blank");
    await pause(300);
    assert.equal(stored("refused").length, 0);
    await page.goto(`${base}/reset`);
    await start(page);
    await arrives("refused", 12);
    await context.close();
  },

  async "who is told to wait waits, a batch that is too large is halved, and what is refused is dropped"() {
    const context = await browser.newContext();
    const page = await game(context);
    const sizes = [], at = [];
    await page.route("**/api/telemetry", async (route) => {
      const { events } = route.request().postDataJSON();
      at.push(Date.now());
      if (at.length === 1) return route.fulfill({ status: 503, body: "{}" });
      // A hotel's page, where one must log in first.
      if (at.length === 2) return route.fulfill({ status: 200, body: "<p>welcome</p>", contentType: "text/html" });
      if (at.length === 3) return route.fulfill({ status: 429, headers: { "Retry-After": "1" }, body: "{}" });
      if (events.length > 3) {
        sizes.push(events.length);
        return route.fulfill({ status: 413, body: "{}" });
      }
      if (events.some((event) => event.properties.message === "told5")) return route.fulfill({ status: 400, body: "{}" });
      return route.continue();
    });
    await say(page, "told", 10);
    await until("the last one", () => stored("told9").length === 1);
    assert.ok(at[3] - at[2] >= 1_000, `${at[3] - at[2]} ms after a Retry-After of one second`);
    assert.deepEqual(sizes.slice(0, 2), [10, 5]);
    const { refused } = await lost(page);
    const rest = stored("told").map((row) => row.message);
    assert.equal(rest.length + refused, 10);
    assert.ok(!rest.includes("told5") && refused <= 3);
    assert.deepEqual(rest, [...rest].sort());
    // The service's own word for an event that it refuses.
    await page.unroute("**/api/telemetry");
    await page.evaluate(() => window.telemetry.track("error", { error_code: "ANTI_CHEAT_X", message: "told no" }));
    await say(page, "told after", 1);
    await arrives("told after", 1);
    assert.equal((await lost(page)).refused, refused + 1);
    await context.close();
  },

  async "another login is another session, and nobody's events become another's"() {
    const context = await browser.newContext();
    const page = await game(context, { flushIntervalMs: 60_000 });
    await page.evaluate(async (password) => {
      const { Daybook } = await import("/daybook.js");
      window.daybook = new Daybook({ telemetry: window.telemetry });
      window.say("before login", 3);
      await window.daybook.register("ada@farm.example", password, "Ada");
      window.say("as ada", 3);
      await window.daybook.logOut();
      window.say("after logout", 3);
      await window.daybook.register("eve@farm.example", password, "Eve");
      window.say("as eve", 3);
      await window.telemetry.flush();
    }, PASSWORD);
    const [before, ada, after, eve] = [
      await arrives("before login", 3), await arrives("as ada", 3), await arrives("after logout", 3), await arrives("as eve", 3),
    ];
    const one = (rows, name) => [...new Set(rows.map((row) => row[name]))];
    assert.deepEqual([one(before, "user_id"), one(after, "user_id")], [[null], [null]]);
    assert.ok(one(ada, "user_id")[0]?.startsWith("usr_") && one(ada, "user_id")[0] !== one(eve, "user_id")[0]);
    const sessions = [before, ada, after, eve].map((rows) => one(rows, "session_id"));
    // Before the first login nobody had said who is there: that session is hers.
    assert.equal(new Set(sessions.flat()).size, 3);
    assert.equal(sessions[0][0], sessions[1][0]);
    assert.equal(eve[0].sequence, 0);
    // What could not be sent of one login is not sent in another's name: in this page and in the next.
    await context.setOffline(true);
    await say(page, "unsent", 4);
    await page.evaluate(() => window.telemetry.setUser("usr_other"));
    assert.equal((await lost(page)).otherLogin, 4);
    await page.evaluate(() => (navigator.sendBeacon = () => true));
    await say(page, "unsent", 2, 4);
    await closed(page);
    await context.setOffline(false);
    const next = await context.newPage();
    await serveClient(next);
    await next.goto(`${base}/reset`);
    await next.evaluate(() => localStorage.setItem("telemetry_user", "null"));
    await start(next);
    await until("they are dropped", async () => (await lost(next)).otherLogin === 2);
    // A login in another tab counts in this one.
    const other = await game(context);
    await other.evaluate(() => window.telemetry.setUser("usr_third"));
    await until("the other tab knows", () => next.evaluate(() => localStorage.getItem("telemetry_user") === '"usr_third"'));
    await pause(500);
    assert.equal(stored("unsent").length, 0);
    await context.close();
  },

  async "what is too old, too much or too long is cut by the client itself"() {
    const context = await browser.newContext();
    const page = await context.newPage();
    await serveClient(page);
    await page.goto(`${base}/reset`);
    await page.evaluate(() => {
      const event = (days, index) => ({
        eventId: crypto.randomUUID(), eventType: "error", timestamp: Date.now() - days * 86_400_000, sessionId: "old", sequence: index,
        properties: { error_code: "E", message: `aged${index}` },
        context: { appVersion: "1", platform: "web", screenWidth: 1, screenHeight: 1, locale: "en", timezone: "UTC" },
      });
      const events = [event(8, 0), event(7.01, 1), event(6.9, 2), event(1, 3)];
      localStorage.setItem("telemetry_stored:old", JSON.stringify({ user: null, savedAt: 0, events }));
      localStorage.setItem("telemetry_stored:broken", "{");
    });
    await start(page);
    await arrives("aged", 2, 2);
    assert.equal((await lost(page)).expired, 2);
    await page.evaluate(async () => {
      for (let index = 0; index < 1_000; index++) window.telemetry.track("error", { error_code: "E", message: `loop${index}` });
      await window.telemetry.flush();
    });
    const { throttled } = await lost(page);
    assert.ok(throttled >= 890 && throttled < 1_000, `${throttled} of 1,000 at once`);
    await page.evaluate(() => {
      const text = "\u{1f33b}".repeat(3_000);
      window.telemetry.track("error", { error_code: text, message: `long${text}`, stack: text });
      window.telemetry.track("session_start", { referrer: "https://a.example/b?token=1#c" });
    });
    await pause(12_000 / 100);
    const long = await until("the long one", () => stored("long")[0]);
    const { message, stack, error_code } = JSON.parse(long.properties);
    assert.deepEqual([Buffer.byteLength(message), Buffer.byteLength(stack), Buffer.byteLength(error_code)], [1_024, 8_192, 256]);
    await context.close();
  },

  async "a duplicated tab has a session of its own, and where nothing may be stored it is sent all the same"() {
    const context = await browser.newContext();
    const page = await game(context);
    const session = await page.evaluate(() => sessionStorage.getItem("telemetry_session"));
    const twin = await context.newPage();
    await serveClient(twin);
    await twin.goto(`${base}/reset`);
    await twin.evaluate((session) => sessionStorage.setItem("telemetry_session", session), session);
    await start(twin);
    await say(twin, "twin", 3);
    const rows = await arrives("twin", 3);
    assert.notEqual(rows[0].session_id, session);
    await page.reload();
    const blocked = await browser.newContext();
    await blocked.addInitScript(() => {
      for (const name of ["localStorage", "sessionStorage"]) {
        Object.defineProperty(window, name, { get: () => { throw new DOMException("blocked", "SecurityError"); } });
      }
    });
    const without = await game(blocked);
    await say(without, "blocked", 12);
    await arrives("blocked", 12);
    // What is not enabled does nothing.
    const quiet = await game(context, { enabled: false });
    await say(quiet, "quiet", 3);
    await quiet.evaluate(() => window.telemetry.destroy());
    assert.equal(await quiet.evaluate(() => sessionStorage.length), 0);
    await pause(300);
    assert.equal(stored("quiet").length, 0);
    await blocked.close();
    await context.close();
  },
};

try {
  for (const [what, check] of Object.entries(checks)) {
    await check().catch((error) => {
      error.message = `${what}: ${error.message}`;
      throw error;
    });
  }
  console.log(`browser: telemetry, ${Object.keys(checks).length} checks with the network cut in between`);
} finally {
  await browser.close();
  await stop(service);
  rmSync(directory, { recursive: true });
}
