-- What the columns say is lost.
DROP TABLE flags_taken;
DROP TABLE stored_on_day;
DROP INDEX idx_telemetry_ip;
DROP INDEX idx_telemetry_stored;
DROP INDEX idx_telemetry_session;
DROP INDEX idx_telemetry_user;
DROP INDEX idx_telemetry_type_day;
DROP INDEX idx_telemetry_timestamp;
ALTER TABLE telemetry_events DROP COLUMN sent_at;
ALTER TABLE telemetry_events DROP COLUMN sequence;
CREATE INDEX idx_telemetry_timestamp ON telemetry_events (timestamp);
CREATE INDEX idx_telemetry_type_timestamp ON telemetry_events (event_type, timestamp);
