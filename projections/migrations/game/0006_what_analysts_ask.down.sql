-- The rows are made anew by the next worker; the heads that they stood for stay.
UPDATE projection_positions SET version = 4294967295;

DROP TABLE user_activity;
CREATE TABLE user_activity (
  user_id TEXT PRIMARY KEY NOT NULL,
  registered_day INTEGER,
  first_day INTEGER,
  last_day INTEGER,
  steps INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
DROP TABLE analytics_progress;
DROP TABLE bet_economics_days;
DROP TABLE play_sessions;
DROP TABLE user_days;
DROP VIEW past_leaderboards;
DROP VIEW coin_movements;
DROP TABLE season_keys;
DROP TABLE season_coins;
DROP TABLE season_ends;
ALTER TABLE projection_positions RENAME COLUMN recorded_at_micros TO recorded_at;
