// A client of Daybook for browsers: typed by the OpenAPI document, with retries done right. In Node give it a `fetch`
// that keeps cookies; `watch` needs an EventSource.
//
// A command has one id for all of its sendings. What is not known to have been done is sent again
// under the same id, and so is done once. Nothing is ever sent again under another id.

import type { components } from "./openapi";
import { uuid7 } from "./ids.js";
import type { TelemetryClient } from "./telemetry.js";

type Schemas = components["schemas"];
export type User = Schemas["User"];
export type Season = Schemas["Season"];
export type WholeSeason = Schemas["WholeSeason"];
export type Advanced = Schemas["Advanced"];
export type PlacedBets = Schemas["PlacedBets"];
export type Simulin = Schemas["Simulin"];
export type Recall = Schemas["Recall"];
export type Odds = Schemas["Odds"];
export type Bet = Schemas["BetOnPot"];
export type StatementRow = Schemas["StatementRow"];
export type BoardPage = Schemas["BoardPage"];
export type Claim = Schemas["Claim"];
export type Checked = Schemas["Checked"];
export type Detail = Schemas["Detail"] & Record<string, unknown>;

/** A refusal of the service's, or a command whose fate is not known because nobody answered. */
export class DaybookError extends Error {
  constructor(
    /** The code, such as `INSUFFICIENT_BALANCE`; `NO_ANSWER` where nobody answered. */
    readonly code: string,
    message: string,
    readonly status: number,
    /** Everything that is wrong, with its values. */
    readonly details: Detail[],
    /** The command's id: sending it again under this one is safe. */
    readonly key?: string,
  ) {
    super(message);
  }
}

/** What a command may be sent with. */
export interface Sending {
  /** The command's id, from an earlier sending whose answer was lost. */
  key?: string;
}

/** How a client is set up. */
export interface Settings {
  /** Where the service is; the page's own origin without it. */
  base?: string;
  /** How long a command is sent again before it is given up, in milliseconds. */
  patienceMs?: number;
  /** How long one answer is waited for, in milliseconds. */
  answerMs?: number;
  /** The `fetch` to use. */
  fetch?: typeof fetch;
  /** Telemetry that is to know who is logged in: what waits is sent before that changes. */
  telemetry?: Pick<TelemetryClient, "flush" | "setUser">;
}

/** What a stream tells: the kind of an event, its fields, and its seq in the ledger. */
export type OnEvent = (kind: string, data: Record<string, unknown>, seq: number) => void;

const KINDS = [
  "season_started", "day_opened", "bet_placed", "bet_resolved", "day_resolved", "trigger_earned",
  "week_evaluated", "jackpot_paid", "stipend_granted", "season_completed", "season_abandoned", "season_expired",
] as const;

export class Daybook {
  private readonly base: string;
  private readonly patienceMs: number;
  private readonly answerMs: number;
  private readonly send: typeof fetch;
  private readonly telemetry: Settings["telemetry"];
  /** The server's clock is so far ahead of ours, in milliseconds; not known before the first answer. */
  private aheadMs: number | undefined;

  constructor(settings: Settings = {}) {
    this.base = settings.base ?? "";
    this.patienceMs = settings.patienceMs ?? 30_000;
    this.answerMs = settings.answerMs ?? 10_000;
    this.telemetry = settings.telemetry;
    this.send = settings.fetch ?? ((url, init) => fetch(url, init));
  }

  // Accounts. They take no id: a login may be tried again, and a second registration is refused.

  async register(email: string, password: string, displayName: string): Promise<User> {
    return this.as(() => this.once("POST", "/api/auth/register", { email, password, displayName }));
  }

  async logIn(email: string, password: string): Promise<User> {
    return this.as(() => this.once("POST", "/api/auth/login", { email, password }));
  }

  async logOut(): Promise<void> {
    await this.sendTelemetry();
    await this.once("POST", "/api/auth/logout", {});
    this.telemetry?.setUser(null);
  }

  async me(): Promise<User> {
    const { user } = await this.read<{ user: User }>("/api/auth/me");
    this.telemetry?.setUser(user.id);
    return user;
  }

  // Play.

  /** What the operator commits to for the next season. Keep it with the start's id until that is answered. */
  nextCommitment = async (): Promise<string> =>
    (await this.read<Schemas["NextCommitment"]>("/api/fairness/next")).commitment;

  /** Starts a season. The command's id is the player's part of the draws. */
  startSeason = (
    commitment: string,
    { key, ...rest }: { simulinId?: string } & Sending = {},
  ): Promise<Schemas["StartedSeason"]> => this.command("/api/seasons", { commitment, ...rest }, key);

  /** Places one to four bets on a day: all or none. A late copy never bets on the next day. */
  placeBets = (seasonId: string, expectedDay: number, bets: Bet[], { key }: Sending = {}): Promise<PlacedBets> =>
    this.command(`/api/seasons/${seasonId}/bets`, { bets, expectedDay }, key);

  advance = (seasonId: string, expectedDay: number, { key }: Sending = {}): Promise<Advanced> =>
    this.command(`/api/seasons/${seasonId}/advance`, { expectedDay }, key);

  abandon = (seasonId: string, { key }: Sending = {}): Promise<Schemas["SeasonEnd"]> =>
    this.command(`/api/seasons/${seasonId}/abandon`, {}, key);

  async adoptSimulin(species: string, name: string, { key }: Sending = {}): Promise<Simulin> {
    return (await this.command<{ simulin: Simulin }>("/api/simulins", { species, name }, key)).simulin;
  }

  choosePath = (simulinId: string, path: string, { key }: Sending = {}): Promise<Schemas["ChangedSimulin"]> =>
    this.command(`/api/simulins/${simulinId}/path`, { path }, key);

  retireSimulin = (simulinId: string, { key }: Sending = {}): Promise<Schemas["ChangedSimulin"]> =>
    this.command(`/api/simulins/${simulinId}/retire`, {}, key);

  // Reads.

  season = (id: string): Promise<WholeSeason> => this.read(`/api/seasons/${id}`);
  seasons = (before?: number): Promise<Schemas["SeasonsPage"]> => this.read("/api/seasons", { before });
  odds = (seasonId: string): Promise<Odds> => this.read(`/api/seasons/${seasonId}/odds`);
  simulins = (before?: string): Promise<Schemas["SimulinsPage"]> => this.read("/api/simulins", { before });
  recall = (seasonId: string, day: number): Promise<Recall> => this.read(`/api/seasons/${seasonId}/days/${day}`);
  leaderboard = (period: string, after?: string): Promise<BoardPage> =>
    this.read(`/api/leaderboards/${period}`, { after });

  jackpot = async (): Promise<number> => (await this.read<Schemas["Jackpot"]>("/api/jackpot")).coins;

  /** Compares what was shown of a resolved day with what it was. */
  check = (seasonId: string, day: number, claim: Claim): Promise<Checked> =>
    this.once("POST", `/api/seasons/${seasonId}/days/${day}/check`, claim);

  /** Every movement of coins between two UTC days, such as `2026-11-01`, both included. */
  async *statement(from?: string, to?: string): AsyncGenerator<StatementRow> {
    let after: string | undefined;
    do {
      const page: Schemas["StatementPage"] = await this.read("/api/auth/me/statement", { from, to, after, limit: 500 });
      yield* page.movements;
      after = page.next ?? undefined;
    } while (after !== undefined);
  }

  /**
   * Watches a season in a browser. It goes on by itself where the connection breaks, tells each event once, and
   * tells at last why it ended. Call what it returns to stop.
   */
  watch(seasonId: string, onEvent: OnEvent, onEnd: (reason: string) => void = () => {}): () => void {
    let source: EventSource, last = 0, stopped = false, attempt = 0;
    const stop = (reason?: string) => {
      source.close();
      if (!stopped && reason !== undefined) onEnd(reason);
      stopped = true;
    };
    // What a browser does not open again by itself: the service was away, or has nothing more to tell.
    const reopen = async () => {
      try {
        if ((await this.season(seasonId)).end !== null && attempt > 0) return stop("season_over");
      } catch (error) {
        const code = error instanceof DaybookError ? error.code : "NO_ANSWER";
        if (code === "UNAUTHORIZED" || code === "SESSION_EXPIRED") return stop("session_over");
        if (code === "NOT_FOUND") return stop("not_found");
      }
      await pause(backoffMs(attempt++));
      if (!stopped) open();
    };
    const open = () => {
      source = new EventSource(`${this.base}/api/seasons/${seasonId}/live`);
      for (const kind of KINDS) {
        source.addEventListener(kind, (event) => {
          const seq = Number(event.lastEventId);
          attempt = 0;
          // A new source begins at the beginning.
          if (seq > last) onEvent(kind, JSON.parse(event.data), (last = seq));
        });
      }
      source.addEventListener("end", (event) => {
        const { reason } = JSON.parse(event.data) as { reason: string };
        // A service that stops may be back soon.
        if (reason !== "stopping") stop(reason);
      });
      source.addEventListener("error", () => {
        if (source.readyState === EventSource.CLOSED && !stopped) void reopen();
      });
    };
    open();
    return () => stop();
  }

  /** A new id: a UUIDv7 with the server's time, for ids from far ahead are refused. */
  async newKey(): Promise<string> {
    if (this.aheadMs === undefined) await this.read("/api/head");
    return uuid7(Date.now() + (this.aheadMs ?? 0));
  }

  /** Logs in: what telemetry has of before is sent first. */
  private async as(logIn: () => Promise<{ user: User }>): Promise<User> {
    await this.sendTelemetry();
    const { user } = await logIn();
    this.telemetry?.setUser(user.id);
    return user;
  }

  /** Gives telemetry a moment, and no more. */
  private async sendTelemetry(): Promise<void> {
    await Promise.race([this.telemetry?.flush(), pause(TELEMETRY_MS)]);
  }

  /** Sends a command until it is answered. Every sending has the same id. */
  private async command<T>(path: string, body: object, key?: string): Promise<T> {
    const id = key ?? (await this.newKey());
    return this.untilAnswered(() => this.ask<T>("POST", path, body, id), id);
  }

  /** What changes nothing may be asked again. */
  private read<T>(path: string, query: Record<string, string | number | undefined> = {}): Promise<T> {
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
    return this.untilAnswered(() => this.ask<T>("GET", text ? `${path}?${text}` : path));
  }

  private once<T>(method: string, path: string, body: object): Promise<T> {
    return this.ask(method, path, body);
  }

  private async untilAnswered<T>(ask: () => Promise<T>, key?: string): Promise<T> {
    const until = Date.now() + this.patienceMs;
    for (let attempt = 0; ; attempt++) {
      try {
        return await ask();
      } catch (error) {
        if (!(error instanceof DaybookError) || !isPassing(error)) throw error;
        const waitMs = Math.max(error.retryAfterMs ?? 0, backoffMs(attempt));
        if (Date.now() + waitMs > until) throw error;
        await pause(waitMs);
      }
    }
  }

  private async ask<T>(method: string, path: string, body?: object, key?: string): Promise<T> {
    const headers: Record<string, string> = {};
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (key !== undefined) headers["Idempotency-Key"] = key;
    let answer: Response, given: unknown;
    try {
      const signal = AbortSignal.timeout(this.answerMs);
      const init: RequestInit = { method, headers, credentials: "same-origin", signal };
      if (body !== undefined) init.body = JSON.stringify(body);
      answer = await this.send(this.base + path, init);
      const text = await answer.text();
      // An answer that is none of ours is no answer: something else stands between.
      given = text === "" ? undefined : JSON.parse(text);
    } catch (error) {
      throw new DaybookError("NO_ANSWER", String(error), 0, [], key);
    }
    const date = Date.parse(answer.headers.get("Date") ?? "");
    if (!Number.isNaN(date)) this.aheadMs = date - Date.now();
    if (answer.ok) return given as T;
    const refusal = refusalOf(given);
    const error = new DaybookError(refusal.error, refusal.message, answer.status, refusal.details, key);
    const retryAfter = Number(answer.headers.get("Retry-After") ?? Number.NaN);
    if (!Number.isNaN(retryAfter)) error.retryAfterMs = retryAfter * 1_000;
    throw error;
  }
}

export interface DaybookError {
  /** How long the service said to wait, in milliseconds. */
  retryAfterMs?: number;
}

/** Whether the same may be answered well a little later: nobody answered, or the service said when. */
function isPassing(error: DaybookError): boolean {
  return error.code === "NO_ANSWER" || error.status === 408 || error.status >= 502 ||
    (error.retryAfterMs !== undefined && error.code !== "ADOPTION_LIMIT" && error.code !== "SEASON_LIMIT");
}

/** A refusal, whatever was answered. */
function refusalOf(given: unknown): { error: string; message: string; details: Detail[] } {
  const { error, message, details } = (given ?? {}) as { error?: unknown; message?: unknown; details?: unknown };
  return {
    error: typeof error === "string" ? error : "UNAVAILABLE",
    message: typeof message === "string" ? message : "",
    details: Array.isArray(details) ? details : [],
  };
}

/** How long a login waits for telemetry, in milliseconds. */
const TELEMETRY_MS = 1_000;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** How long to wait before another attempt: longer each time, up to six seconds, and never for all alike. */
const backoffMs = (attempt: number): number => 100 * 2 ** Math.min(attempt, 6) * (0.5 + Math.random() / 2);
