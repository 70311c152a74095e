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

-- Every change, by which read models are filled. The stamp tells a number that was given again, after an older
-- copy was put back, from the first one.
CREATE TABLE changes (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  stamp INTEGER NOT NULL DEFAULT (random())
) STRICT;
CREATE INDEX idx_changes_id ON changes (kind, id);

CREATE TRIGGER users_inserted AFTER INSERT ON users BEGIN
  INSERT INTO changes (kind, id) VALUES ('user', NEW.id);
END;
CREATE TRIGGER users_updated AFTER UPDATE ON users BEGIN
  INSERT INTO changes (kind, id) VALUES ('user', OLD.id), ('user', NEW.id);
END;
CREATE TRIGGER users_deleted AFTER DELETE ON users BEGIN
  INSERT INTO changes (kind, id) VALUES ('user', OLD.id);
END;

CREATE TRIGGER sessions_inserted AFTER INSERT ON sessions BEGIN
  INSERT INTO changes (kind, id) VALUES ('session', NEW.id);
END;
CREATE TRIGGER sessions_updated AFTER UPDATE ON sessions BEGIN
  INSERT INTO changes (kind, id) VALUES ('session', OLD.id), ('session', NEW.id);
END;
CREATE TRIGGER sessions_deleted AFTER DELETE ON sessions BEGIN
  INSERT INTO changes (kind, id) VALUES ('session', OLD.id);
END;

CREATE TRIGGER simulin_names_inserted AFTER INSERT ON simulin_names BEGIN
  INSERT INTO changes (kind, id) VALUES ('simulin_name', NEW.simulin_id);
END;
CREATE TRIGGER simulin_names_updated AFTER UPDATE ON simulin_names BEGIN
  INSERT INTO changes (kind, id) VALUES ('simulin_name', OLD.simulin_id), ('simulin_name', NEW.simulin_id);
END;
CREATE TRIGGER simulin_names_deleted AFTER DELETE ON simulin_names BEGIN
  INSERT INTO changes (kind, id) VALUES ('simulin_name', OLD.simulin_id);
END;
