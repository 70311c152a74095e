-- Moves data: which positions an operator took for wrong is nowhere else.
CREATE TABLE disputed_positions (
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  ledger_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  hash TEXT NOT NULL,
  epoch_number INTEGER NOT NULL,
  epoch_nonce TEXT NOT NULL,
  recorded_at_micros INTEGER NOT NULL,
  -- Seconds since 1970.
  forgotten_at INTEGER NOT NULL,
  PRIMARY KEY (name, ledger_id, seq, hash)
) STRICT, WITHOUT ROWID;
