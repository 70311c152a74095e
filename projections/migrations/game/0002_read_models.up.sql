-- Rebuilds: everything here can be made again from the ledger.

-- What the workers know of themselves.
CREATE TABLE projection_positions (
  name TEXT PRIMARY KEY NOT NULL,
  version INTEGER NOT NULL,
  ledger_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  hash TEXT NOT NULL,
  epoch_number INTEGER NOT NULL,
  epoch_nonce TEXT NOT NULL,
  recorded_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE projection_states (
  name TEXT PRIMARY KEY NOT NULL,
  stopped_seq INTEGER,
  stopped_kind TEXT,
  stopped_reason TEXT,
  events_per_second REAL NOT NULL DEFAULT 0,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- seasons
CREATE TABLE season_streams (
  season_id TEXT PRIMARY KEY NOT NULL,
  last_seq INTEGER NOT NULL,
  progress TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE week_results (
  season_id TEXT NOT NULL REFERENCES seasons (id) ON DELETE CASCADE,
  week_number INTEGER NOT NULL,
  hand TEXT NOT NULL,
  multiplier INTEGER NOT NULL,
  score INTEGER NOT NULL,
  jackpot_coins INTEGER NOT NULL,
  evaluated_at INTEGER NOT NULL,
  PRIMARY KEY (season_id, week_number)
) STRICT, WITHOUT ROWID;

CREATE TABLE leaderboard_boards (
  period TEXT PRIMARY KEY NOT NULL,
  first_day TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE leaderboard_history (
  period TEXT NOT NULL,
  first_day TEXT NOT NULL,
  user_id TEXT NOT NULL,
  id TEXT NOT NULL,
  season_id TEXT NOT NULL,
  score INTEGER NOT NULL,
  calculated_at INTEGER NOT NULL,
  PRIMARY KEY (period, first_day, user_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX idx_leaderboard_history_score ON leaderboard_history (period, first_day, score DESC, id);

-- analytics
CREATE TABLE daily_active_users (
  day TEXT PRIMARY KEY NOT NULL,
  users INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE cohort_retention (
  cohort_day TEXT NOT NULL,
  day_n INTEGER NOT NULL,
  cohort_size INTEGER NOT NULL,
  retained INTEGER NOT NULL,
  PRIMARY KEY (cohort_day, day_n)
) STRICT, WITHOUT ROWID;

CREATE TABLE funnel_steps (
  cohort_day TEXT NOT NULL,
  step INTEGER NOT NULL,
  name TEXT NOT NULL,
  users INTEGER NOT NULL,
  PRIMARY KEY (cohort_day, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE bet_economics (
  pot_id TEXT NOT NULL,
  bet_type TEXT NOT NULL,
  weather TEXT NOT NULL,
  bets INTEGER NOT NULL,
  won INTEGER NOT NULL,
  staked INTEGER NOT NULL,
  paid INTEGER NOT NULL,
  -- What these bets pay on average, each payout floored to whole coins, in millionths of a coin.
  expected_microcoins INTEGER NOT NULL,
  -- Of a coin staked, before payouts are floored; none for folds.
  exact_return REAL,
  actual_return REAL GENERATED ALWAYS AS (CAST(paid AS REAL) / nullif(staked, 0)) VIRTUAL,
  exact_floored_return REAL GENERATED ALWAYS AS (expected_microcoins / 1e6 / nullif(staked, 0)) VIRTUAL,
  PRIMARY KEY (pot_id, bet_type, weather)
) STRICT, WITHOUT ROWID;

CREATE TABLE user_activity (
  user_id TEXT PRIMARY KEY NOT NULL,
  registered_day INTEGER,
  first_day INTEGER,
  last_day INTEGER,
  steps INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE season_activity (
  season_id TEXT PRIMARY KEY NOT NULL,
  state TEXT NOT NULL
) STRICT, WITHOUT ROWID;
