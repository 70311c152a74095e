// Logging in and out, the page of routes and the page of a new password, in a real browser.
import { spawn, spawnSync } from "node:child_process";
import { createServer } from "node:http";
import { mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [daybook, browserPath] = process.argv.slice(2);
const PASSWORD = "a pail of cold water";

/** Starts a service at a free port and gives its address for browsers. */
async function serve(directory) {
  const settings = ["--password-memory", "8", "--password-passes", "1"];
  const child = spawn(daybook, ["serve", "--data", join(directory, "data"), "--listen", "127.0.0.1:0", ...settings], {
    stdio: ["ignore", "pipe", openSync(join(directory, "log"), "w")],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const found = line.match(/for browsers at (\S+)/);
    if (found) return { child, base: found[1] };
  }
  throw new Error("the service did not start");
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
const { child, base } = await serve(directory);
const quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
               "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath: browserPath, args: quiet });
try {
  const context = await browser.newContext();
  await logInAndOut(context, base);
  await anotherSite(context, base);
  await pageOfRoutes(context, base);
  await newPassword(context, base, directory);
  console.log("browser: login, logout, the routes' page, a new password, another site's page");
} finally {
  await browser.close();
  child.kill("SIGTERM");
  await new Promise((ended) => child.once("exit", ended));
  rmSync(directory, { recursive: true });
}
