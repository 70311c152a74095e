// How long things take in a browser: the newest 100 times of each metric; what takes too long becomes telemetry.

import type { TelemetryClient } from "./telemetry.js";

/** Figures of a metric's newest 100 times, in milliseconds. */
export interface Stats {
  avg: number;
  p50: number;
  p95: number;
  p99: number;
  min: number;
  max: number;
}

/** The seed's budgets, in milliseconds. */
const BUDGETS_MS: Record<string, number> = {
  render_frame: 16.67,
  game_tick: 8,
  api_response: 200,
  db_query: 50,
  state_update: 5,
};
const OTHERS_MS = 100;
const SAMPLES_KEPT = 100;
/** A metric is told of once in so long, at most. */
const TOLD_EVERY_MS = 1_000;

export class PerformanceMonitor {
  private readonly metrics = new Map<string, number[]>();
  private readonly toldAt = new Map<string, number>();

  /** Tells `telemetry` what takes longer than its budget; `budgetsMs` has budgets beside the seed's. */
  constructor(
    private readonly telemetry: Pick<TelemetryClient, "track">,
    private readonly budgetsMs: Record<string, number> = {},
  ) {}

  /** Does something and records how long it took. */
  measure<T>(metric: string, work: () => T): T {
    const start = performance.now();
    const done = work();
    this.record(metric, performance.now() - start);
    return done;
  }

  /** Waits for something and records how long it took. */
  async measureAsync<T>(metric: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    const done = await work();
    this.record(metric, performance.now() - start);
    return done;
  }

  /** Records a time, in milliseconds. */
  record(metric: string, value: number): void {
    if (!(value >= 0 && value < Infinity)) return;
    const values = this.metrics.get(metric) ?? [];
    this.metrics.set(metric, values);
    values.push(value);
    if (values.length > SAMPLES_KEPT) values.shift();
    const now = performance.now();
    const isDue = now - (this.toldAt.get(metric) ?? Number.NEGATIVE_INFINITY) >= TOLD_EVERY_MS;
    if (value > this.budgetMs(metric) && isDue) {
      this.toldAt.set(metric, now);
      this.telemetry.track("performance", { metric, value: Math.round(value * 100) / 100, unit: "ms" });
    }
  }

  /** Figures of the newest 100 times, percentiles as the seed computes them; null where there is none. */
  getStats(metric: string): Stats | null {
    const sorted = [...(this.metrics.get(metric) ?? [])].sort((a, b) => a - b);
    const at = (share: number): number => sorted[Math.floor(sorted.length * share)]!;
    if (sorted.length === 0) return null;
    const avg = sorted.reduce((sum, value) => sum + value, 0) / sorted.length;
    return { avg, p50: at(0.5), p95: at(0.95), p99: at(0.99), min: sorted[0]!, max: sorted.at(-1)! };
  }

  private budgetMs(metric: string): number {
    const own = Object.hasOwn(this.budgetsMs, metric) ? this.budgetsMs[metric] : undefined;
    const seeds = Object.hasOwn(BUDGETS_MS, metric) ? BUDGETS_MS[metric] : undefined;
    return own ?? seeds ?? OTHERS_MS;
  }
}
