-- The rows are made anew by the next worker; the heads that they stood for stay.
UPDATE projection_positions SET version = 4294967295 WHERE name = 'analytics';
DROP TABLE ledger_events;
DROP TABLE large_wins;
DROP TABLE first_weeks;
DROP TABLE coin_days;
DROP TABLE bet_economics_days;
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
DROP TABLE bet_economics;
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
ALTER TABLE user_activity DROP COLUMN played_at;
ALTER TABLE user_activity DROP COLUMN play_started_at;
DROP TABLE play_sessions;
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
DROP TABLE login_sessions;
