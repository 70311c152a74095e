-- What logging in needs. Nothing of it is copied into game.db.
CREATE TABLE credentials (
  user_id TEXT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  password_hash TEXT NOT NULL,
  changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Registered here, and not known to be in the ledger yet.
CREATE TABLE pending_users (
  user_id TEXT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Locked by an operator or a moderator.
CREATE TABLE locked_users (
  user_id TEXT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  locked_at INTEGER NOT NULL,
  locked_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Which session of the ledger's a token's hash stands for.
CREATE TABLE session_numbers (
  user_id TEXT NOT NULL,
  session_number INTEGER NOT NULL,
  session_id TEXT NOT NULL UNIQUE REFERENCES sessions (id) ON DELETE CASCADE,
  PRIMARY KEY (user_id, session_number)
) STRICT, WITHOUT ROWID;

-- Sessions that are over, whose end the ledger is not known to have yet.
CREATE TABLE ended_sessions (
  user_id TEXT NOT NULL,
  session_number INTEGER NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (user_id, session_number)
) STRICT, WITHOUT ROWID;

CREATE TABLE reset_links (
  token_hash TEXT PRIMARY KEY NOT NULL,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_reset_links_user ON reset_links (user_id);

-- Failed logins by keyed hashes: of an address, of a device, of a client's address. `recent` holds the times of
-- those that count, in seconds, as a JSON array. `owner` is a keyed hash of the user whose device it is.
CREATE TABLE failed_logins (
  key BLOB PRIMARY KEY NOT NULL,
  owner BLOB,
  recent TEXT NOT NULL,
  lockouts INTEGER NOT NULL,
  locked_until INTEGER NOT NULL,
  last_failed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_failed_logins_last ON failed_logins (last_failed_at);
CREATE INDEX idx_failed_logins_owner ON failed_logins (owner) WHERE owner IS NOT NULL;

-- Registrations of a client's address on a UTC day (days since 1970), by keyed hashes.
CREATE TABLE registrations (
  client BLOB NOT NULL,
  day INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  PRIMARY KEY (day, client)
) STRICT, WITHOUT ROWID;

-- Erasures that were begun, until the ledger has them too.
CREATE TABLE erasures (
  user_id TEXT PRIMARY KEY NOT NULL,
  requested_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Keys of the service's own: for hashes of addresses, and for device cookies.
CREATE TABLE secrets (
  name TEXT PRIMARY KEY NOT NULL,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The ledger that these people play in.
CREATE TABLE served_ledger (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  ledger_id TEXT NOT NULL,
  epoch INTEGER NOT NULL
) STRICT;

-- Users of the ledger whose accounts were given up.
CREATE TABLE given_up_users (
  user_id TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;

-- Whose simulin it is: its name goes with the person.
ALTER TABLE simulin_names ADD COLUMN user_id TEXT;

-- Changes up to this number may have been taken out because later ones say more: whoever was filled less far is
-- filled anew.
CREATE TABLE swept_changes (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  number INTEGER NOT NULL
) STRICT;

-- A change is one row, but where an id changes.
DROP TRIGGER users_updated;
CREATE TRIGGER users_updated AFTER UPDATE ON users BEGIN
  INSERT INTO changes (kind, id) SELECT 'user', OLD.id WHERE OLD.id <> NEW.id;
  INSERT INTO changes (kind, id) VALUES ('user', NEW.id);
END;
DROP TRIGGER sessions_updated;
CREATE TRIGGER sessions_updated AFTER UPDATE ON sessions BEGIN
  INSERT INTO changes (kind, id) SELECT 'session', OLD.id WHERE OLD.id <> NEW.id;
  INSERT INTO changes (kind, id) VALUES ('session', NEW.id);
END;
DROP TRIGGER simulin_names_updated;
CREATE TRIGGER simulin_names_updated AFTER UPDATE ON simulin_names BEGIN
  INSERT INTO changes (kind, id) SELECT 'simulin_name', OLD.simulin_id WHERE OLD.simulin_id <> NEW.simulin_id;
  INSERT INTO changes (kind, id) VALUES ('simulin_name', NEW.simulin_id);
END;
