-- Rebuilds: everything here can be made again from the ledger.
-- changes rows of: play_sessions, bet_economics, bet_economics_days

-- analytics: each login, until the session ended.
DROP TABLE play_sessions;
CREATE TABLE login_sessions (
  user_id TEXT NOT NULL,
  session_number INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  -- logout, expired, locked, erased, replaced, revoked
  reason TEXT,
  seconds INTEGER GENERATED ALWAYS AS (ended_at - started_at) VIRTUAL,
  PRIMARY KEY (user_id, session_number)
) STRICT, WITHOUT ROWID;

-- Commands of a user that are less than 30 minutes apart.
CREATE TABLE play_sessions (
  user_id TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  -- Its last command.
  ended_at INTEGER NOT NULL,
  commands INTEGER NOT NULL,
  seconds INTEGER GENERATED ALWAYS AS (ended_at - started_at) VIRTUAL,
  PRIMARY KEY (user_id, started_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_play_sessions_started ON play_sessions (started_at);

ALTER TABLE user_activity ADD COLUMN play_started_at INTEGER;
ALTER TABLE user_activity ADD COLUMN played_at INTEGER;

DROP TABLE bet_economics;
CREATE TABLE bet_economics (
  pot_id TEXT NOT NULL,
  bet_type TEXT NOT NULL,
  weather TEXT NOT NULL,
  bets INTEGER NOT NULL,
  won INTEGER NOT NULL,
  staked INTEGER NOT NULL,
  -- The sum of each stake's square.
  staked_squared INTEGER NOT NULL,
  paid INTEGER NOT NULL,
  -- What these bets pay on average, each payout floored to whole coins, in millionths of a coin.
  expected_microcoins INTEGER NOT NULL,
  -- The variance of what they pay, in thousandths of a squared coin.
  variance_thousandths INTEGER NOT NULL,
  -- Of a coin staked, before payouts are floored; none for folds.
  exact_return REAL,
  actual_return REAL GENERATED ALWAYS AS (CAST(paid AS REAL) / nullif(staked, 0)) VIRTUAL,
  exact_floored_return REAL GENERATED ALWAYS AS (expected_microcoins / 1e6 / nullif(staked, 0)) VIRTUAL,
  PRIMARY KEY (pot_id, bet_type, weather)
) STRICT, WITHOUT ROWID;

-- The same by the UTC day of the resolution.
DROP TABLE bet_economics_days;
CREATE TABLE bet_economics_days (
  day TEXT NOT NULL,
  pot_id TEXT NOT NULL,
  bet_type TEXT NOT NULL,
  weather TEXT NOT NULL,
  bets INTEGER NOT NULL,
  won INTEGER NOT NULL,
  staked INTEGER NOT NULL,
  staked_squared INTEGER NOT NULL,
  paid INTEGER NOT NULL,
  expected_microcoins INTEGER NOT NULL,
  variance_thousandths INTEGER NOT NULL,
  actual_return REAL GENERATED ALWAYS AS (CAST(paid AS REAL) / nullif(staked, 0)) VIRTUAL,
  exact_floored_return REAL GENERATED ALWAYS AS (expected_microcoins / 1e6 / nullif(staked, 0)) VIRTUAL,
  PRIMARY KEY (day, pot_id, bet_type, weather)
) STRICT, WITHOUT ROWID;

-- Coins that moved between the accounts on a UTC day.
CREATE TABLE coin_days (
  day TEXT PRIMARY KEY NOT NULL,
  -- From mint to balances: seasons that started, and stipends.
  started INTEGER NOT NULL,
  stipends INTEGER NOT NULL,
  -- From balances to mint: what was left when seasons ended.
  ended INTEGER NOT NULL,
  -- From balances to escrow, and from there back, or to house.
  placed INTEGER NOT NULL,
  given_back INTEGER NOT NULL,
  staked INTEGER NOT NULL,
  -- From house to balances.
  paid INTEGER NOT NULL,
  -- From house to jackpot, in thousandths of a coin, and from jackpot to balances.
  jackpot_in_millicoins INTEGER NOT NULL,
  jackpot_out INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The bets of days 1 to 7 of each user's first season, once day 7 is resolved.
CREATE TABLE first_weeks (
  user_id TEXT PRIMARY KEY NOT NULL,
  season_id TEXT NOT NULL,
  -- The UTC day on which day 7 was resolved.
  resolved_day TEXT NOT NULL,
  bets INTEGER NOT NULL,
  staked INTEGER NOT NULL,
  paid INTEGER NOT NULL,
  expected_microcoins INTEGER NOT NULL,
  variance_thousandths INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Bets that won 1,000 coins or more beyond their stake.
CREATE TABLE large_wins (
  season_id TEXT NOT NULL,
  day_number INTEGER NOT NULL,
  pot_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  bet_type TEXT NOT NULL,
  amount INTEGER NOT NULL,
  payout INTEGER NOT NULL,
  resolved_at INTEGER NOT NULL,
  PRIMARY KEY (season_id, day_number, pot_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_large_wins_resolved ON large_wins (resolved_at);

-- What the operator did to the ledger: key_rotated, ledger_restored.
CREATE TABLE ledger_events (
  seq INTEGER PRIMARY KEY NOT NULL,
  kind TEXT NOT NULL,
  recorded_at INTEGER NOT NULL,
  -- The event's fields, as a JSON object.
  payload TEXT NOT NULL
) STRICT;
