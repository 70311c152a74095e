-- Pauses of play, of all or of one user: who began and ended each, and when. They stay on record.
CREATE TABLE pauses (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id TEXT,
  reason TEXT NOT NULL,
  paused_at INTEGER NOT NULL,
  paused_by TEXT NOT NULL,
  resumed_at INTEGER,
  resumed_by TEXT
) STRICT;
-- One at a time, of all and of each user.
CREATE UNIQUE INDEX idx_pauses_open ON pauses (coalesce(user_id, '')) WHERE resumed_at IS NULL;

-- Tokens of other backends, by hashes, with what each may do. Revoked ones stay on record.
CREATE TABLE service_tokens (
  name TEXT PRIMARY KEY NOT NULL,
  token_hash TEXT NOT NULL UNIQUE,
  scopes TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  revoked_at INTEGER,
  revoked_by TEXT
) STRICT, WITHOUT ROWID;

-- For whom a token may play.
CREATE TABLE token_users (
  token_name TEXT NOT NULL REFERENCES service_tokens (name) ON DELETE CASCADE,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  PRIMARY KEY (token_name, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_token_users_user ON token_users (user_id);

-- Two epochs may have the same number: a loss that was accepted twice, of two copies.
ALTER TABLE served_ledger ADD COLUMN nonce TEXT;
