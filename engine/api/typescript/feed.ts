// The ledger's events for another program: from any on, without a gap and without a double.
//
// Keep the id of the last event that you handled, together with what you made of it. With it you go on right after that
// event, also after a crash or a restart of the service. If the ledger does not have it any more, `follow` throws:
// going on would join two pasts.

/** An event as `daybook tail` prints it. */
export interface LedgerEvent {
  seq: number;
  /** When it was recorded, in microseconds since 1970. */
  recordedMicros: number;
  /** The id of the user, season or ledger that it is about. */
  stream: string;
  /** The event of the same stream before it; 0 if there is none. */
  streamPrev: number;
  kind: string;
  /** The version of the payload's form. */
  version: number;
  commandId: string;
  /** Its place among the events of its command, and how many they are. */
  place: number;
  size: number;
  /** The event's fields, as JSON. */
  payload: string;
  hash: string;
}

/** How far a reader has come: `id` is SEQ:HASH. Without an event what was passed is of no kind that was asked for. */
export interface Told {
  id: string;
  event?: LedgerEvent;
}

/** The service refuses for good: the token lacks the scope, or the ledger lost the event that was read last. */
export class FeedRefused extends Error {
  constructor(readonly status: number, readonly code: string, message: string) {
    super(message);
  }
}

export interface FeedOptions {
  /** Where the service is. */
  base: string;
  /** A service token with the scope `read-events`. */
  token: string;
  /** The id of the last event that was handled; from the first event on without it. */
  after?: string;
  /** Kinds of events; all without them. */
  kinds?: string[];
  /** Ends it. */
  signal?: AbortSignal;
  /** Told why it connects again: a wrong address looks like a service that is away. */
  onError?: (reason: unknown) => void;
}

/** A connection on which nothing comes for so long is dead: the service says something every 15 s. */
const SILENT_MS = 45_000;
const COMES_AGAIN_MS = 3_000;

/** Follows the events; it comes again by itself where the connection breaks. */
export async function* follow({ base, token, after, kinds, signal, onError }: FeedOptions): AsyncGenerator<Told> {
  let last = after;
  while (!signal?.aborted) {
    const silent = new AbortController();
    const alive = () => setTimeout(() => silent.abort(), SILENT_MS);
    let timer = alive();
    try {
      const url = new URL("/api/events", base);
      if (kinds?.length) url.searchParams.set("kind", kinds.join(","));
      const headers: Record<string, string> = { authorization: `Bearer ${token}` };
      if (last !== undefined) headers["last-event-id"] = last;
      const ends = signal ? AbortSignal.any([signal, silent.signal]) : silent.signal;
      const response = await fetch(url, { headers, signal: ends });
      if (!response.ok || response.body === null) {
        const { error, message } = await response.json();
        // Too many requests, or a service that starts or stops, pass by themselves.
        const refused = new FeedRefused(response.status, error, message);
        if (response.status !== 429 && response.status < 500) throw refused;
        onError?.(refused);
      } else {
        let text = "";
        for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
          clearTimeout(timer);
          timer = alive();
          const blocks = (text + chunk).split("\n\n");
          text = blocks.pop() ?? "";
          for (const block of blocks) {
            const field = (name: string) => block.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
            const [id, data] = [field("id"), field("data")];
            if (id === undefined) continue;
            last = id;
            yield data === undefined ? { id } : { id, event: JSON.parse(data) };
          }
        }
      }
    } catch (error) {
      if (error instanceof FeedRefused) throw error;
      if (!signal?.aborted) onError?.(error);
    } finally {
      clearTimeout(timer);
    }
    if (!signal?.aborted) await new Promise((resolve) => setTimeout(resolve, COMES_AGAIN_MS));
  }
}
