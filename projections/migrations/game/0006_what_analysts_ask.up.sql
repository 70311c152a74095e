-- Rebuilds: everything here can be made again from the ledger.
-- changes rows of: user_activity

-- Microseconds, unlike every other time here: its name says so.
ALTER TABLE projection_positions RENAME COLUMN recorded_at TO recorded_at_micros;

-- seasons: how each ended, which the seed has no column for.
CREATE TABLE season_ends (
  season_id TEXT PRIMARY KEY NOT NULL REFERENCES seasons (id) ON DELETE CASCADE,
  -- completed, abandoned, expired_idle, expired_key, expired_restore
  how TEXT NOT NULL,
  ended_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Coins that come and go without a bet: start, stipend, jackpot, end.
CREATE TABLE season_coins (
  season_id TEXT NOT NULL REFERENCES seasons (id) ON DELETE CASCADE,
  day_number INTEGER NOT NULL,
  kind TEXT NOT NULL,
  amount INTEGER NOT NULL,
  moved_at INTEGER NOT NULL,
  PRIMARY KEY (season_id, day_number, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE season_keys (
  key_id TEXT PRIMARY KEY NOT NULL,
  compromised INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- In one line each: drizzle-kit reads no view that has more.
CREATE VIEW coin_movements AS SELECT season_id, moved_at, day_number, kind, amount, sum(amount) OVER (PARTITION BY season_id ORDER BY day_number, step, bet_id ROWS UNBOUNDED PRECEDING) AS balance_after, bet_id FROM (SELECT season_id, moved_at, day_number, kind, amount, CASE kind WHEN 'start' THEN 0 WHEN 'stipend' THEN 1 WHEN 'jackpot' THEN 4 ELSE 5 END AS step, NULL AS bet_id FROM season_coins UNION ALL SELECT season_id, placed_at, day_number, 'bet', -amount, 2, id FROM bets WHERE amount > 0 UNION ALL SELECT season_id, resolved_at, day_number, CASE WHEN won IS NULL THEN 'stake_returned' ELSE 'payout' END, payout, 3, id FROM bets WHERE payout > 0);

CREATE VIEW past_leaderboards AS SELECT period, first_day, rank() OVER (PARTITION BY period, first_day ORDER BY score DESC) AS rank, user_id, season_id, score, calculated_at, id FROM leaderboard_history;

-- analytics
CREATE TABLE user_days (
  day TEXT NOT NULL,
  user_id TEXT NOT NULL,
  -- 1 on the user's first active day.
  is_new INTEGER NOT NULL,
  PRIMARY KEY (day, user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE play_sessions (
  user_id TEXT NOT NULL,
  session_number INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  -- logout, expired, locked, erased, replaced
  reason TEXT,
  seconds INTEGER GENERATED ALWAYS AS (ended_at - started_at) VIRTUAL,
  PRIMARY KEY (user_id, session_number)
) STRICT, WITHOUT ROWID;

CREATE TABLE bet_economics_days (
  day TEXT PRIMARY KEY NOT NULL,
  bets INTEGER NOT NULL,
  won INTEGER NOT NULL,
  staked INTEGER NOT NULL,
  paid INTEGER NOT NULL,
  -- What these bets pay on average, each payout floored to whole coins, in millionths of a coin.
  expected_microcoins INTEGER NOT NULL,
  actual_return REAL GENERATED ALWAYS AS (CAST(paid AS REAL) / nullif(staked, 0)) VIRTUAL,
  exact_floored_return REAL GENERATED ALWAYS AS (expected_microcoins / 1e6 / nullif(staked, 0)) VIRTUAL
) STRICT, WITHOUT ROWID;

CREATE TABLE analytics_progress (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  -- The UTC day of the newest event.
  newest_day TEXT NOT NULL
) STRICT;

-- Days as text, as everywhere.
DROP TABLE user_activity;
CREATE TABLE user_activity (
  user_id TEXT PRIMARY KEY NOT NULL,
  registered_day TEXT,
  first_day TEXT,
  last_day TEXT,
  steps INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
