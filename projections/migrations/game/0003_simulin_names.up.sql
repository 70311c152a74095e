-- Moves data: what players call their simulins is nowhere else.
CREATE TABLE simulin_names (
  simulin_id TEXT PRIMARY KEY NOT NULL,
  name TEXT NOT NULL
) STRICT, WITHOUT ROWID;
