-- Rebuilds: what is here can be made again from the ledger.

-- seasons: what was suspicious.
CREATE TABLE flags (
  -- The event that put it on record.
  seq INTEGER PRIMARY KEY NOT NULL,
  season_id TEXT NOT NULL REFERENCES seasons (id) ON DELETE CASCADE,
  user_id TEXT NOT NULL,
  day_number INTEGER NOT NULL,
  -- rapid_bet, coin_manipulation, level_manipulation
  code TEXT NOT NULL,
  flagged_at INTEGER NOT NULL
) STRICT;
CREATE INDEX idx_flags_user ON flags (user_id);
CREATE INDEX idx_flags_season ON flags (season_id);
