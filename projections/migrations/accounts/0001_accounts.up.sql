-- Moves data: what is here is nowhere else.

-- Which accounts these are: read models that were filled from others are filled anew.
CREATE TABLE identity (
  id TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO identity VALUES (lower(hex(randomblob(16))));

-- The seed's columns.
CREATE TABLE users (
  id TEXT PRIMARY KEY NOT NULL,
  email TEXT NOT NULL UNIQUE,
  display_name TEXT NOT NULL,
  avatar_url TEXT,
  role TEXT NOT NULL DEFAULT 'player',
  created_at INTEGER NOT NULL,
  last_login_at INTEGER
) STRICT;

CREATE TABLE sessions (
  id TEXT PRIMARY KEY NOT NULL,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  expires_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  user_agent TEXT,
  ip_address TEXT
) STRICT;
CREATE INDEX idx_sessions_user ON sessions (user_id);
CREATE INDEX idx_sessions_expires ON sessions (expires_at);

-- What players call their simulins.
CREATE TABLE simulin_names (
  simulin_id TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The newest change of each row, by which read models are filled; numbers are never used again.
CREATE TABLE changes (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  UNIQUE (kind, id)
) STRICT;

CREATE TRIGGER users_inserted AFTER INSERT ON users BEGIN
  DELETE FROM changes WHERE kind = 'user' AND id = NEW.id;
  INSERT INTO changes (kind, id) VALUES ('user', NEW.id);
END;
CREATE TRIGGER users_updated AFTER UPDATE ON users BEGIN
  DELETE FROM changes WHERE kind = 'user' AND id IN (OLD.id, NEW.id);
  INSERT INTO changes (kind, id) SELECT DISTINCT 'user', value FROM json_each(json_array(OLD.id, NEW.id));
END;
CREATE TRIGGER users_deleted AFTER DELETE ON users BEGIN
  DELETE FROM changes WHERE kind = 'user' AND id = OLD.id;
  INSERT INTO changes (kind, id) VALUES ('user', OLD.id);
END;

CREATE TRIGGER sessions_inserted AFTER INSERT ON sessions BEGIN
  DELETE FROM changes WHERE kind = 'session' AND id = NEW.id;
  INSERT INTO changes (kind, id) VALUES ('session', NEW.id);
END;
CREATE TRIGGER sessions_updated AFTER UPDATE ON sessions BEGIN
  DELETE FROM changes WHERE kind = 'session' AND id IN (OLD.id, NEW.id);
  INSERT INTO changes (kind, id) SELECT DISTINCT 'session', value FROM json_each(json_array(OLD.id, NEW.id));
END;
CREATE TRIGGER sessions_deleted AFTER DELETE ON sessions BEGIN
  DELETE FROM changes WHERE kind = 'session' AND id = OLD.id;
  INSERT INTO changes (kind, id) VALUES ('session', OLD.id);
END;

CREATE TRIGGER simulin_names_inserted AFTER INSERT ON simulin_names BEGIN
  DELETE FROM changes WHERE kind = 'simulin_name' AND id = NEW.simulin_id;
  INSERT INTO changes (kind, id) VALUES ('simulin_name', NEW.simulin_id);
END;
CREATE TRIGGER simulin_names_updated AFTER UPDATE ON simulin_names BEGIN
  DELETE FROM changes WHERE kind = 'simulin_name' AND id IN (OLD.simulin_id, NEW.simulin_id);
  INSERT INTO changes (kind, id)
    SELECT DISTINCT 'simulin_name', value FROM json_each(json_array(OLD.simulin_id, NEW.simulin_id));
END;
CREATE TRIGGER simulin_names_deleted AFTER DELETE ON simulin_names BEGIN
  DELETE FROM changes WHERE kind = 'simulin_name' AND id = OLD.simulin_id;
  INSERT INTO changes (kind, id) VALUES ('simulin_name', OLD.simulin_id);
END;
