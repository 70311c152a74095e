-- Moves data: telemetry is nowhere else.

-- What a client says of the order of its events, and when it sent them: its clock beside the server's.
ALTER TABLE telemetry_events ADD COLUMN sequence INTEGER;
ALTER TABLE telemetry_events ADD COLUMN sent_at INTEGER;

-- The seed's two queries read these alone.
DROP INDEX idx_telemetry_timestamp;
DROP INDEX idx_telemetry_type_timestamp;
CREATE INDEX idx_telemetry_timestamp ON telemetry_events (timestamp, user_id);
CREATE INDEX idx_telemetry_type_day
  ON telemetry_events (event_type, date(timestamp / 1000, 'unixepoch'), user_id);

-- A user's own events, and the telemetry sessions that they are of: to show and to erase.
CREATE INDEX idx_telemetry_user ON telemetry_events (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX idx_telemetry_session ON telemetry_events (session_id, user_id);

-- What is too old, and addresses that are to be cleared.
CREATE INDEX idx_telemetry_stored ON telemetry_events (server_timestamp);
CREATE INDEX idx_telemetry_ip ON telemetry_events (server_timestamp) WHERE ip IS NOT NULL;

-- How much each user and each client address stored on the newest UTC day.
CREATE TABLE stored_on_day (
  whose BLOB PRIMARY KEY NOT NULL,
  day INTEGER NOT NULL,
  events INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Up to which flag of which ledger the flags were taken over.
CREATE TABLE flags_taken (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  ledger_id TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  seq INTEGER NOT NULL
) STRICT;
