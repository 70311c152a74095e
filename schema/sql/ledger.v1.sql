-- ledger.db, format 1. Described byte by byte in FORMAT.md.
CREATE TABLE genesis (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  ledger_id BLOB NOT NULL,
  format_version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  is_demo INTEGER NOT NULL,
  hash BLOB NOT NULL
) STRICT;

CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  recorded_at INTEGER NOT NULL,
  stream BLOB NOT NULL,
  stream_prev INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  version INTEGER NOT NULL,
  command BLOB NOT NULL,
  payload BLOB NOT NULL,
  hash BLOB NOT NULL
) STRICT;

-- A seat belt, not a lock: INSERT OR REPLACE passes them. The chain is what tells.
CREATE TRIGGER events_refuse_update BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: events are never updated'); END;

CREATE TRIGGER events_refuse_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: events are never deleted'); END;

CREATE TRIGGER genesis_refuse_update BEFORE UPDATE ON genesis
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: the genesis is never updated'); END;

CREATE TRIGGER genesis_refuse_delete BEFORE DELETE ON genesis
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: the genesis is never deleted'); END;
