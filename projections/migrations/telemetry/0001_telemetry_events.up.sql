-- Moves data: telemetry is nowhere else.
CREATE TABLE telemetry_events (
  event_id TEXT PRIMARY KEY NOT NULL,
  event_type TEXT NOT NULL,
  timestamp INTEGER NOT NULL,
  session_id TEXT NOT NULL,
  user_id TEXT,
  properties TEXT NOT NULL,
  context TEXT NOT NULL,
  client_timestamp INTEGER NOT NULL,
  server_timestamp INTEGER NOT NULL,
  ip TEXT,
  country TEXT
) STRICT;

CREATE INDEX idx_telemetry_timestamp ON telemetry_events (timestamp);
CREATE INDEX idx_telemetry_type_timestamp ON telemetry_events (event_type, timestamp);
