// Telemetry of a game's client in a browser: typed by the catalogue, sent in order, each event once.
//
// An event stays in the queue until the service has answered. While the page lives it is sent by fetch. When the page
// is hidden it is put into offline storage, and sent by beacon too; nobody answers a beacon, so it is sent again later.
// The service stores an event once, by its id.

import type { components } from "./openapi";
import { uuid7 } from "./ids.js";

type Wire = components["schemas"]["TelemetryEvent"];
type Context = components["schemas"]["EventContext"];
type Received = components["schemas"]["Received"];

/** A type of event of the catalogue. */
export type EventType = Wire["eventType"];
/** What an event of a type tells. */
export type PropertiesOf<T extends EventType> = Extract<Wire, { eventType: T }>["properties"];

/** How a client is set up: the seed's settings, and a few beside. */
export interface TelemetryConfig {
  /** Where events go. */
  endpoint: string;
  /** Events of one request. */
  batchSize: number;
  /** How often events are sent, in milliseconds. */
  flushIntervalMs: number;
  /** Events that wait; past it the oldest are lost. */
  maxQueueSize: number;
  /** Whether anything is tracked at all. */
  enabled: boolean;
  /** The game's version. */
  appVersion: string;
  /** The first wait after an attempt that failed, in milliseconds; each further one is twice as long. */
  retryMs: number;
  /** How often at most it is told how many events were lost, in milliseconds. */
  reportMs: number;
}

/** Events that were lost, by the reason. */
export interface Lost {
  /** The queue was full: the oldest went. */
  overflow: number;
  /** More came than a person makes. */
  throttled: number;
  /** They were older than seven days. */
  expired: number;
  /** The service refused them. */
  refused: number;
  /** They were of another login. */
  otherLogin: number;
}

const SESSION = "telemetry_session";
const SEQUENCE = "telemetry_sequence";
const USER = "telemetry_user";
const STORED = "telemetry_stored:";
const LOCK = "telemetry:";
/** The code of an event that tells of events that were lost. */
const LOST = "TELEMETRY_LOST";

/** Bytes that beacons may have in flight, and that one request may have. */
const BYTES_MAX = 64 * 1024;
/** Events of one beacon. */
const EVENTS_MAX = 100;
const AGE_MS_MAX = 7 * 86_400_000;
/** The longest wait after attempts that failed. */
const RETRY_MS_MAX = 300_000;
/** How long one answer is waited for. */
const ANSWER_MS = 10_000;
/** What a person makes: so many at once, and so many a second. */
const BURST = 100;
const PER_SECOND = 10;
/** A tab that cannot hold a lock is taken for closed after so long. */
const ORPHANED_AFTER_MS = 60_000;
/** Bytes of texts; of any other 256. */
const TEXT_BYTES_MAX: Record<string, number> = { message: 1_024, stack: 8_192 };

const bytesOf = (text: string): number => new TextEncoder().encode(text).length;

/** The longest beginning of a text that has so many bytes: whole characters, and no half of one. */
function cut(text: string, bytesMax: number): string {
  const room = new Uint8Array(bytesMax);
  const { written } = new TextEncoder().encodeInto(text, room);
  return new TextDecoder().decode(room.subarray(0, written));
}

/** A store of the browser's, or, where it may not be used, one that lasts as long as the page. */
class Store {
  private readonly instead = new Map<string, string>();
  constructor(private readonly of: () => Storage) {}

  get = (key: string): string | null => this.try((it) => it.getItem(key), () => this.instead.get(key) ?? null);
  remove = (key: string): void => this.try((it) => it.removeItem(key), () => void this.instead.delete(key));
  keys = (): string[] => this.try((it) => Object.keys(it), () => [...this.instead.keys()]);
  /** A store that is full takes nothing: what is to be sent is sent as long as the page lives. */
  set = (key: string, text: string): void => this.try((it) => it.setItem(key, text), () => void this.instead.set(key, text));

  private try<T>(use: (storage: Storage) => T, otherwise: () => T): T {
    try {
      return use(this.of());
    } catch {
      return otherwise();
    }
  }
}

/** Of this tab. */
const ofTab = new Store(() => sessionStorage);
/** Of all tabs. */
const ofAll = new Store(() => localStorage);

/** What a module's build says of itself, where there is one. */
const build = (import.meta as { env?: { PROD?: boolean; VITE_APP_VERSION?: string } }).env;

/** Who is logged in: an id, null for nobody, undefined where nobody said. */
type User = string | null | undefined;

/** What lies in offline storage. */
interface Stored {
  user: User;
  savedAt: number;
  events: Wire[];
}

export class TelemetryClient {
  /** Events that were lost since the page was loaded. */
  readonly lost: Lost = { overflow: 0, throttled: 0, expired: 0, refused: 0, otherLogin: 0 };

  private readonly config: TelemetryConfig;
  private queue: Wire[] = [];
  private sessionId: string;
  private user: User;
  /** Resolves when this tab knows that the session is its own, and what was stored is back. */
  private readonly ready: Promise<void>;
  /** Whether what was stored is back in the queue. */
  private isBack = false;
  private readonly timer: ReturnType<typeof setInterval> | undefined;
  private readonly stopped = new AbortController();
  /** One sending at a time: there is no order otherwise. */
  private sending: Promise<void> | undefined;
  private batchMax: number;
  private failures = 0;
  private notBefore = 0;
  /** Ids that were beaconed since the page was hidden. */
  private beaconed = new Set<string>();
  /** Bytes that beacons may still have until it is shown again. */
  private beaconRoom = BYTES_MAX;
  private tokens = BURST;
  private tokensAt = performance.now();
  private reported = 0;
  private reportedAt = Number.NEGATIVE_INFINITY;
  private releaseLock = (): void => {};

  constructor(config: Partial<TelemetryConfig> = {}) {
    this.config = {
      endpoint: "/api/telemetry", batchSize: 10, flushIntervalMs: 5_000, maxQueueSize: 200,
      enabled: build?.PROD ?? true, appVersion: build?.VITE_APP_VERSION ?? "dev", retryMs: 1_000, reportMs: 60_000,
      ...config,
    };
    this.batchMax = Math.min(this.config.batchSize, EVENTS_MAX);
    this.user = readUser();
    this.sessionId = this.config.enabled ? (ofTab.get(SESSION) ?? this.newSession()) : "";
    if (!this.config.enabled) {
      this.ready = Promise.resolve();
      return;
    }
    // Whatever a browser refuses, what is tracked is sent.
    this.ready = this.begin().catch(() => {}).then(() => void (this.isBack = true));
    this.timer = setInterval(() => void this.flush(), this.config.flushIntervalMs);
    const { signal } = this.stopped;
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden") this.leave();
      else this.comeBack();
    }, { signal });
    window.addEventListener("pagehide", () => this.leave(), { signal });
    // Somebody logged in or out in another tab.
    window.addEventListener("storage", ({ key }) => {
      if (key === USER) this.takeUser(readUser());
    }, { signal });
  }

  /** Tracks an event. It never throws and never waits. */
  track<T extends EventType>(type: T, properties: PropertiesOf<T>): void {
    if (!this.config.enabled || this.stopped.signal.aborted) return;
    if (!this.takeToken()) {
      this.lost.throttled += 1;
      return;
    }
    this.push(type, properties);
    if (this.queue.length >= this.config.batchSize) void this.flush();
  }

  /** Sends what waits; resolves when all of it was answered, or one attempt failed. */
  flush(): Promise<void> {
    if (!this.config.enabled) return Promise.resolve();
    this.sending ??= this.send().finally(() => (this.sending = undefined));
    return this.sending;
  }

  /**
   * Says who is logged in: an id, or null for nobody. Another login begins another telemetry session, and events of the
   * one before that were not sent are lost: in the other's name they would be forged. `Daybook` sends them before.
   */
  setUser(user: string | null): void {
    if (!this.config.enabled) return;
    ofAll.set(USER, JSON.stringify(user));
    this.takeUser(user);
  }

  /** Sends what waits as a page does that is left, and stops. */
  destroy(): void {
    this.leave();
    clearInterval(this.timer);
    this.stopped.abort();
    this.releaseLock();
  }

  private push(type: EventType, properties: object): void {
    const now = Date.now();
    const event = {
      eventId: uuid7(now), eventType: type, timestamp: now, sessionId: this.sessionId,
      properties: shortened(properties), context: this.context(), sequence: nextSequence(),
    };
    this.queue.push(event as Wire);
    this.keepSmall();
  }

  /** Past its size the queue loses the oldest. */
  private keepSmall(): void {
    const more = this.queue.length - this.config.maxQueueSize;
    if (more > 0) {
      this.queue.splice(0, more);
      this.lost.overflow += more;
    }
  }

  private takeToken(): boolean {
    const now = performance.now();
    this.tokens = Math.min(BURST, this.tokens + ((now - this.tokensAt) / 1_000) * PER_SECOND);
    this.tokensAt = now;
    if (this.tokens < 1) return false;
    this.tokens -= 1;
    return true;
  }

  /** Makes the session this tab's own, and brings back what was stored. */
  private async begin(): Promise<void> {
    // A tab that was duplicated has the session of the first.
    if (!(await this.holdLock(this.sessionId))) this.sessionId = this.newSession(this.sessionId);
    const before = await this.takeOrphans();
    // The page may have been hidden meanwhile, and have stored what waits.
    const waiting = new Set(this.queue.map((event) => event.eventId));
    const own = this.takeStored(STORED + this.sessionId).filter((event) => !waiting.has(event.eventId));
    this.queue.unshift(...before, ...own);
    this.keepSmall();
    if (document.visibilityState === "hidden" || this.beaconed.size > 0) this.save();
  }

  /** Whether no other tab has a session; it is held as long as the page lives. */
  private holdLock(sessionId: string): Promise<boolean> {
    if (navigator.locks === undefined) return Promise.resolve(true);
    return new Promise((resolve) => {
      const held = navigator.locks.request(LOCK + sessionId, { ifAvailable: true }, (lock) => {
        resolve(lock !== null);
        return lock === null ? undefined : new Promise<void>((release) => (this.releaseLock = release));
      });
      held.catch(() => resolve(true));
    });
  }

  /** What tabs left that are closed. */
  private async takeOrphans(): Promise<Wire[]> {
    const keys = ofAll.keys().filter((key) => key.startsWith(STORED) && key !== STORED + this.sessionId);
    const taken: Wire[] = [];
    for (const key of keys) {
      if (navigator.locks === undefined) {
        if (Date.now() - (readStored(key)?.savedAt ?? 0) > ORPHANED_AFTER_MS) taken.push(...this.takeStored(key));
        continue;
      }
      const name = LOCK + key.slice(STORED.length);
      await navigator.locks.request(name, { ifAvailable: true }, (lock) => {
        if (lock !== null) taken.push(...this.takeStored(key));
      });
    }
    return taken;
  }

  /** Takes what is stored under a key, but for what is too old or another login's. */
  private takeStored(key: string): Wire[] {
    const stored = readStored(key);
    ofAll.remove(key);
    if (stored === undefined) return [];
    // Who nobody said to be logged in may be whoever is.
    if (stored.user !== undefined && this.user !== undefined && stored.user !== this.user) {
      this.lost.otherLogin += stored.events.length;
      return [];
    }
    return this.young(stored.events);
  }

  /** Those that are not older than seven days: the service would take an older one for one of today. */
  private young(events: Wire[]): Wire[] {
    const young = events.filter((event) => Date.now() - event.timestamp <= AGE_MS_MAX);
    this.lost.expired += events.length - young.length;
    return young;
  }

  private newSession(before?: string): string {
    const sessionId = uuid7(Date.now());
    ofTab.set(SESSION, sessionId);
    ofTab.remove(SEQUENCE);
    // What was tracked since the page was loaded is this session's.
    if (before !== undefined) {
      for (const event of this.queue) if (event.sessionId === before) event.sessionId = sessionId;
      void this.holdLock(sessionId);
    }
    return sessionId;
  }

  private takeUser(user: User): void {
    const before = this.user;
    this.user = user;
    // Who was not known is now.
    if (before === undefined || before === user) return;
    this.lost.otherLogin += this.queue.length;
    this.queue = [];
    ofAll.remove(STORED + this.sessionId);
    this.releaseLock();
    this.sessionId = this.newSession();
    void this.holdLock(this.sessionId);
  }

  private context(): Context {
    const connection = (navigator as { connection?: { effectiveType?: string } }).connection?.effectiveType;
    return {
      appVersion: cut(this.config.appVersion, 256),
      platform: "web",
      screenWidth: window.innerWidth,
      screenHeight: window.innerHeight,
      locale: navigator.language,
      timezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
      ...(connection === undefined ? {} : { connectionType: connection }),
    };
  }

  /** Sends batch after batch, in order, until nothing waits or one could not be sent. */
  private async send(): Promise<void> {
    await this.ready;
    while (performance.now() >= this.notBefore) {
      this.queue = this.young(this.queue);
      this.report();
      const batch = this.fitting(this.queue.slice(0, this.batchMax), BYTES_MAX);
      if (batch.length === 0) return;
      if (!(await this.sendBatch(batch))) return;
    }
  }

  /** Sends a batch; tells whether the next may follow. */
  private async sendBatch(batch: Wire[]): Promise<boolean> {
    let answer: Response | undefined;
    try {
      answer = await fetch(this.config.endpoint, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: bodyOf(batch),
        credentials: "same-origin",
        signal: AbortSignal.timeout(ANSWER_MS),
      });
    } catch {
      // Nobody answered.
    }
    // What says that it is well and is not the service's answer is nobody's: something else stands between.
    const received = answer?.ok ? await receivedOf(answer) : undefined;
    if (answer?.ok && received === undefined) answer = undefined;
    if (answer === undefined || answer.status >= 500 || answer.status === 408 || answer.status === 429) {
      this.waitAfter(answer);
      return false;
    }
    this.failures = 0;
    if (answer.status === 413 && batch.length > 1) {
      this.batchMax = Math.ceil(batch.length / 2);
      return true;
    }
    if (answer.ok) {
      this.lost.refused += received?.refused.length ?? 0;
      this.batchMax = Math.min(this.config.batchSize, EVENTS_MAX);
    } else {
      // A report that is refused itself would be reported for ever.
      this.lost.refused += batch.filter((event) => !isReport(event)).length;
    }
    this.remove(batch);
    return true;
  }

  /** Takes events out that were answered, from offline storage too. */
  private remove(batch: Wire[]): void {
    const ids = new Set(batch.map((event) => event.eventId));
    this.queue = this.queue.filter((event) => !ids.has(event.eventId));
    if (ofAll.get(STORED + this.sessionId) !== null) this.save();
  }

  /** Longer each time, never for all alike, and never sooner than the service says. */
  private waitAfter(answer: Response | undefined): void {
    const grown = Math.min(this.config.retryMs * 2 ** Math.min(this.failures++, 16), RETRY_MS_MAX);
    const asked = Number(answer?.headers.get("Retry-After") ?? 0) * 1_000 || 0;
    this.notBefore = performance.now() + Math.max(asked, grown * (0.5 + Math.random() / 2));
    this.save();
  }

  /** Tells of events that were lost, now and then, as an event of its own. */
  private report(): void {
    const { overflow, throttled, expired, refused, otherLogin } = this.lost;
    const lost = overflow + throttled + expired + refused + otherLogin;
    // A report takes no event's place, and none is made while nothing can be sent.
    if (this.failures > 0 || this.queue.length >= this.config.maxQueueSize) return;
    if (lost === this.reported || performance.now() - this.reportedAt < this.config.reportMs) return;
    this.reported = lost;
    this.reportedAt = performance.now();
    const message = `lost since the page was loaded: ${JSON.stringify(this.lost)}`;
    this.push("error", { error_code: LOST, message });
  }

  /** As many of these, from the first on, as a body of so many bytes holds; one that is too large is refused. */
  private fitting(events: Wire[], bytesMax: number): Wire[] {
    let bytes = bytesOf(bodyOf([]));
    const fitting: Wire[] = [];
    for (const event of events) {
      bytes += bytesOf(JSON.stringify(event)) + 32;
      if (bytes > bytesMax) break;
      fitting.push(event);
    }
    // It is sent alone, and refused, and counted.
    return fitting.length === 0 ? events.slice(0, 1) : fitting;
  }

  /** The page is hidden, and may never be shown again: all that waits is stored, and beaconed as far as it fits. */
  private leave(): void {
    if (this.stopped.signal.aborted || !this.config.enabled) return;
    this.save();
    for (;;) {
      const waiting = this.queue.filter((event) => !this.beaconed.has(event.eventId));
      const batch = this.fitting(waiting.slice(0, EVENTS_MAX), this.beaconRoom);
      const body = bodyOf(batch);
      const bytes = bytesOf(body);
      if (batch.length === 0 || bytes > this.beaconRoom) return;
      if (!navigator.sendBeacon(this.config.endpoint, new Blob([body], { type: "application/json" }))) return;
      this.beaconRoom -= bytes;
      for (const event of batch) this.beaconed.add(event.eventId);
    }
  }

  /** The page is shown again. */
  private comeBack(): void {
    this.beaconed.clear();
    this.beaconRoom = BYTES_MAX;
  }

  /** Puts what waits into offline storage, in the place of what was there. */
  private save(): void {
    const key = STORED + this.sessionId;
    // What an earlier page stored is not taken back yet: it stays, and comes first.
    const earlier = this.isBack ? [] : (readStored(key)?.events ?? []);
    const waiting = new Set(this.queue.map((event) => event.eventId));
    const events = [...earlier.filter((event) => !waiting.has(event.eventId)), ...this.queue];
    if (events.length === 0) return ofAll.remove(key);
    const stored: Stored = { user: this.user, savedAt: Date.now(), events };
    ofAll.set(key, JSON.stringify(stored));
  }
}

const isReport = (event: Wire): boolean => event.eventType === "error" && event.properties.error_code === LOST;

/** The service's answer, if it is one. */
async function receivedOf(answer: Response): Promise<Received | undefined> {
  const given = (await answer.json().catch(() => undefined)) as Partial<Received> | undefined;
  return typeof given?.accepted === "number" && Array.isArray(given.refused) ? (given as Received) : undefined;
}

/** A batch as it is sent, each event with the time of this sending. */
function bodyOf(events: Wire[]): string {
  const sentAt = Date.now();
  return JSON.stringify({ events: events.map((event) => ({ ...event, sentAt })) });
}

function readUser(): User {
  try {
    const text = ofAll.get(USER);
    return text === null ? undefined : (JSON.parse(text) as User);
  } catch {
    return undefined;
  }
}

function readStored(key: string): Stored | undefined {
  try {
    const stored = JSON.parse(ofAll.get(key) ?? "") as Stored;
    return Array.isArray(stored.events) ? stored : undefined;
  } catch {
    return undefined;
  }
}

/** The place of the next event among its session's; it goes on when the page is loaded again. */
function nextSequence(): number {
  const next = Number(ofTab.get(SEQUENCE) ?? 0);
  ofTab.set(SEQUENCE, String(next + 1));
  return next;
}

/** Texts no longer than the service takes, and a referrer without what may be private in it. */
function shortened(properties: object): Record<string, unknown> {
  const given = Object.entries(properties).map(([name, value]: [string, unknown]) => {
    if (typeof value !== "string") return [name, value];
    const text = name === "referrer" ? value.replace(/[?#].*$/s, "") : value;
    return [name, cut(text, TEXT_BYTES_MAX[name] ?? 256)];
  });
  return Object.fromEntries(given) as Record<string, unknown>;
}
