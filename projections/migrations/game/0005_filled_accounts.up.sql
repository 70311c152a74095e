-- Rebuilds: how far `users`, `sessions` and the names of simulins were filled from accounts.db.
CREATE TABLE filled_accounts (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  accounts_id TEXT NOT NULL,
  change_number INTEGER NOT NULL,
  -- Of that change; none before the first.
  change_stamp INTEGER
) STRICT;
