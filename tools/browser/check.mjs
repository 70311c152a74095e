// Logging in and out, the page of routes, the page of a new password and a player's life, in a real browser.
import { spawnSync } from "node:child_process";
import { createServer } from "node:http";
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import assert from "node:assert/strict";
import { PASSWORD, daybook, freePort, launch, proxy, serve, serveClient, stop } from "./service.mjs";

/** A player's life through the typed client: two seasons, a companion, the board, the statement. */
async function playersLife(context, base, name) {
  const page = await context.newPage();
  await serveClient(page);
  // Each fifth answer to an advance is lost after it was given.
  let advances = 0, lost = 0;
  await page.route("**/advance", async (route) => {
    if (advances++ % 5 !== 0) return route.continue();
    const cookies = await context.cookies();
    const cookie = cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
    const given = await route.fetch({ headers: { ...(await route.request().allHeaders()), cookie } });
    if (given.ok()) lost += 1;
    await route.abort("connectionreset");
  });
  await page.goto(`${base}/reset`);
  const told = await page.evaluate(async ([name, password]) => {
    const { Daybook, DaybookError } = await import("/daybook.js");
    const daybook = new Daybook();
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    await daybook.register(`${name}@farm.example`, password, "Player");
    const simulin = await daybook.adoptSimulin("sprig", "Drop");
    const key = await daybook.newKey();
    const commitment = await daybook.nextCommitment();
    const first = (await daybook.startSeason(commitment, { simulinId: simulin.id, key })).season;
    // The answer may be lost: the same id gets it again, though the commitment is used up.
    const again = (await daybook.startSeason(commitment, { simulinId: simulin.id, key })).season;
    const seen = [];
    let ended;
    const over = new Promise((resolve) => (ended = resolve));
    daybook.watch(first.id, (kind) => seen.push(kind), ended);
    const bet = (potId) => ({ potId, betType: "call", amount: 1 });
    let last;
    for (let day = 1; day <= 28; day++) {
      await daybook.placeBets(first.id, day, ["water", "sun", "pest", "growth"].map(bet));
      await pause(110);
      last = await daybook.advance(first.id, day);
    }
    const recalled = await daybook.recall(first.id, 7);
    const { potLevels } = recalled;
    const checked = await daybook.check(first.id, 7, { potLevels, coinsEarned: recalled.funds.paid });
    const second = (await daybook.startSeason(await daybook.nextCommitment())).season;
    const refusal = await daybook.placeBets(second.id, 1, [{ potId: "sun", betType: "raise", amount: 9000 }]).then(
      () => "accepted", (error) => (error instanceof DaybookError ? `${error.status} ${error.code}` : String(error)));
    await daybook.abandon(second.id);
    const statement = [];
    for await (const row of daybook.statement()) statement.push(row);
    const board = await daybook.leaderboard("all_time");
    const whole = await daybook.season(first.id);
    const { seasons } = await daybook.seasons();
    const odds = await daybook.odds(second.id).then(() => "shown", (error) => error.code);
    const { simulins } = await daybook.simulins();
    const reason = await over;
    await daybook.logOut();
    const out = await daybook.me().then(() => "in", (error) => error.code);
    return { same: first.id === again.id, seen, reason, last, checked, refusal, statement, board, whole, seasons, odds,
             simulins, out };
  }, [name, PASSWORD]);
  assert.ok(told.same);
  assert.ok(lost >= 5, `${lost} answers were lost`);
  assert.equal(told.last.end.finalScore, told.whole.season.finalScore);
  assert.equal(told.reason, "season_over");
  assert.equal(told.seen.filter((kind) => kind === "day_resolved").length, 28, "every day was told");
  assert.equal(told.seen.filter((kind) => kind === "bet_placed").length, 112, "every bet was told");
  assert.deepEqual(told.checked, { valid: true, errors: [], details: [] });
  assert.equal(told.refusal, "409 INSUFFICIENT_BALANCE");
  assert.equal(told.seasons.length, 2);
  assert.equal(told.board.own.score, told.whole.season.finalScore);
  assert.equal(told.simulins[0].name, "Drop");
  assert.equal(told.odds, "NOT_FOUND");
  const bySeason = Object.groupBy ? Object.groupBy(told.statement, (row) => row.seasonId) : {};
  for (const rows of Object.values(bySeason)) assert.equal(rows.at(-1).balanceAfter, 0, "the balance went back");
  assert.ok(told.statement.length > 112);
  assert.equal(told.out, "UNAUTHORIZED");
  await page.close();
}

/** Sends JSON as a page of the service's own would. */
const send = (page, method, path, body) =>
  page.evaluate(
    async ([method, path, body]) => {
      const headers = body === undefined ? {} : { "Content-Type": "application/json" };
      const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
      return { status: answer.status, text: await answer.text() };
    },
    [method, path, body],
  );

async function logInAndOut(context, base) {
  const page = await context.newPage();
  await page.goto(`${base}/reset`);
  const person = { email: "ada@farm.example", password: PASSWORD, displayName: "Ada" };
  assert.equal((await send(page, "POST", "/api/auth/register", person)).status, 201);
  const cookies = await context.cookies();
  const session = cookies.find((cookie) => cookie.name === "session");
  assert.deepEqual([session.httpOnly, session.secure, session.sameSite, session.path], [true, true, "Strict", "/"]);
  assert.equal(await page.evaluate(() => document.cookie), "", "no script sees the session");
  assert.equal((await send(page, "GET", "/api/auth/me")).status, 200);
  assert.equal((await send(page, "POST", "/api/auth/logout", {})).status, 204);
  assert.equal((await send(page, "GET", "/api/auth/me")).status, 401);
  const { email, password } = person;
  assert.equal((await send(page, "POST", "/api/auth/login", { email, password })).status, 200);
  assert.equal((await send(page, "GET", "/api/auth/me")).status, 200);
  await page.close();
}

/** A page of another site cannot act for who is logged in here. */
async function anotherSite(context, base) {
  const site = createServer((_, answer) => answer.setHeader("content-type", "text/html").end("<p>another site")).listen(0);
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
  for (const type of ["application/json", "text/plain"]) {
    const outcome = await page.evaluate(
      async ([url, type]) =>
        fetch(url, { method: "POST", mode: type === "text/plain" ? "no-cors" : "cors", credentials: "include",
                     headers: { "Content-Type": type }, body: "{}" }).then((it) => it.status, () => "refused"),
      [`${base}/api/auth/logout`, type],
    );
    assert.ok(outcome === "refused" || outcome === 0, `${type}: ${outcome}`);
  }
  await page.close();
  site.close();
  const own = await context.newPage();
  await own.goto(`${base}/reset`);
  assert.equal((await send(own, "GET", "/api/auth/me")).status, 200, "still logged in");
  await own.close();
}

async function pageOfRoutes(context, base) {
  const page = await context.newPage();
  const asked = [], said = [];
  page.on("request", (request) => asked.push(request.url()));
  page.on("console", (message) => message.type() === "error" && said.push(message.text()));
  await page.goto(`${base}/docs/`);
  await page.waitForSelector(".opblock");
  assert.ok((await page.locator(".opblock").count()) >= 16);
  await page.locator("#operations-accounts-logIn").click();
  await page.waitForSelector("text=LOCKED_OUT");
  const elsewhere = asked.filter((url) => !url.startsWith(base) && !url.startsWith("data:"));
  assert.deepEqual(elsewhere, [], "nothing is loaded from elsewhere");
  assert.deepEqual(said, [], "the browser has no complaint");
  await page.close();
}

async function newPassword(context, base, directory) {
  const arguments_ = ["user", "reset-password", "ada@farm.example", "--data", join(directory, "data")];
  const link = spawnSync(daybook, arguments_, { encoding: "utf8" }).stdout.trim();
  assert.ok(link.startsWith(`${base}/reset#`), link);
  const page = await context.newPage();
  await page.goto(link);
  assert.ok(!page.url().includes("#"), "the token does not stay in the address");
  await page.fill("#password", "password1");
  await page.click("button");
  await page.waitForSelector("text=most common");
  await page.fill("#password", "two pails of warm water");
  await page.click("button");
  await page.waitForSelector("text=The new password is set");
  const body = { email: "ada@farm.example", password: "two pails of warm water" };
  assert.equal((await send(page, "GET", "/api/auth/me")).status, 401, "all sessions are over");
  assert.equal((await send(page, "POST", "/api/auth/login", body)).status, 200);
  await page.close();
}

const directory = mkdtempSync(join(tmpdir(), "daybook-browser-"));
chmodSync(directory, 0o755); // nginx's workers must reach it
// Limits that a player who never pauses would meet.
const unlimited = ["--api-limit", "10000/10000", "--bet-limit", "10000/10000"];
const { child, base } = await serve(directory, unlimited);
const browser = await launch();
try {
  const context = await browser.newContext();
  await logInAndOut(context, base);
  await anotherSite(context, base);
  await pageOfRoutes(context, base);
  await newPassword(context, base, directory);
  await playersLife(await browser.newContext(), base, "direct");
  const behind = join(directory, "behind"), port = await freePort();
  mkdirSync(behind, { mode: 0o755 });
  const site = `http://localhost:${port}`;
  const service = await serve(behind, [...unlimited, "--public-url", site, "--trusted-proxy", "127.0.0.1=x-forwarded-for"]);
  const nginx = await proxy(behind, port, service.address);
  try {
    await playersLife(await browser.newContext(), site, "proxied");
  } finally {
    nginx.kill("SIGTERM");
    await stop(service);
  }
  console.log("browser: login, logout, the routes' page, a new password, another site's page, a player's life, twice");
} finally {
  await browser.close();
  await stop({ child });
  rmSync(directory, { recursive: true });
}
