-- The events of ledger.db with names and fields: the values that `daybook tail` prints, its names in snake case.
--
--   daybook tail --sql > events.sql
--   sqlite3 -readonly -init events.sql daybook-data/ledger.db
--   sqlite> SELECT payload->>'$.betType', count(*) FROM readable_events WHERE kind = 'bet_placed' GROUP BY 1;
--
-- All that it makes is temporary: it belongs to your connection, and nothing of it is written to the ledger.
-- `payload` is decoded row by row, where it is asked for (some 50,000 events a second). It is NULL where the
-- bytes are not what FORMAT.md says of the kind and version. This decodes, it proves nothing: `daybook verify`
-- does that.

-- Every byte in hex, and its number. The smaller ones serve as a list of numbers too.
CREATE TEMP TABLE byte_numbers (hex TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO byte_numbers
WITH RECURSIVE counted(number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM counted WHERE number < 255)
SELECT printf('%02X', number), number FROM counted;

CREATE TEMP TABLE event_kinds (kind INTEGER PRIMARY KEY, name TEXT NOT NULL, stream TEXT NOT NULL);
INSERT INTO event_kinds VALUES
  (1, 'key_rotated', 'ldg_'), (2, 'ledger_restored', 'ldg_'),
  (10, 'user_registered', 'usr_'), (11, 'user_erased', 'usr_'), (12, 'session_started', 'usr_'),
  (13, 'session_ended', 'usr_'), (14, 'commitment_published', 'usr_'), (20, 'simulin_adopted', 'usr_'),
  (21, 'simulin_path_chosen', 'usr_'), (22, 'simulin_retired', 'usr_'), (23, 'simulin_xp_gained', 'usr_'),
  (24, 'simulin_level_reached', 'usr_'),
  (30, 'season_started', 'ssn_'), (31, 'season_completed', 'ssn_'), (32, 'season_abandoned', 'ssn_'),
  (33, 'season_expired', 'ssn_'), (34, 'suspicion_flagged', 'ssn_'), (40, 'day_opened', 'ssn_'),
  (41, 'day_resolved', 'ssn_'), (42, 'stipend_granted', 'ssn_'), (50, 'bet_placed', 'ssn_'),
  (51, 'bet_resolved', 'ssn_'), (60, 'trigger_earned', 'ssn_'), (61, 'week_evaluated', 'ssn_'),
  (62, 'jackpot_paid', 'ssn_');

-- The names of the enumerations, by FORMAT.md.
CREATE TEMP TABLE payload_names (type TEXT, number INTEGER, name TEXT NOT NULL, PRIMARY KEY (type, number))
WITHOUT ROWID;
INSERT INTO payload_names VALUES
  ('weather', 0, 'sunny'), ('weather', 1, 'cloudy'), ('weather', 2, 'rainy'), ('weather', 3, 'stormy'),
  ('pot', 0, 'water'), ('pot', 1, 'sun'), ('pot', 2, 'pest'), ('pot', 3, 'growth'),
  ('bet', 0, 'fold'), ('bet', 1, 'call'), ('bet', 2, 'raise'), ('bet', 3, 'all-in'),
  ('pot event', 0, 'none'), ('pot event', 1, 'boon'), ('pot event', 2, 'bane'), ('pot event', 3, 'windfall'),
  ('trouble', 0, 'drought'), ('trouble', 1, 'frost'), ('trouble', 2, 'aphids'), ('trouble', 3, 'blight'),
  ('trigger', 0, 'first_bloom'), ('trigger', 1, 'perfect_read'), ('trigger', 2, 'trouble_slayer'),
  ('trigger', 3, 'growth_spurt'), ('trigger', 4, 'simulin_sync'),
  ('hand', 0, 'none'), ('hand', 1, 'pair'), ('hand', 2, 'two_pair'), ('hand', 3, 'three_of_a_kind'),
  ('hand', 4, 'four_of_a_kind'), ('hand', 5, 'full_house'), ('hand', 6, 'flush'), ('hand', 7, 'straight'),
  ('hand', 8, 'straight_flush'), ('hand', 9, 'royal_flush'),
  ('species', 0, 'dewdrop'), ('species', 1, 'sunpetal'), ('species', 2, 'ladybot'), ('species', 3, 'sprig'),
  ('path', 0, 'tender'), ('path', 1, 'watcher'), ('path', 2, 'lucky'),
  ('session end', 0, 'logout'), ('session end', 1, 'expired'), ('session end', 2, 'locked'),
  ('session end', 3, 'erased'), ('session end', 4, 'replaced'),
  ('session end', 5, 'revoked'),
  ('suspicion', 0, 'rapid_bet'), ('suspicion', 1, 'coin_manipulation'), ('suspicion', 2, 'level_manipulation'),
  ('seed source', 1, 'client_seed'), ('seed source', 2, 'idempotency_key');

-- How each payload is read, step by step: the text that comes before a value, the value's type, and its bytes.
-- 'option' goes on, or writes null and goes to the step in `elsewhere`. 'list' reads how many there are; 'item'
-- begins one, or goes to `elsewhere` after the last; 'again' goes back to its item. 'text' is text alone. A type
-- of none of these and not in payload_names is written as a number. The last step has no next one.
CREATE TEMP TABLE payload_steps (
  kind INTEGER, version INTEGER, step INTEGER, before TEXT NOT NULL, type TEXT NOT NULL,
  bytes INTEGER NOT NULL, elsewhere INTEGER, PRIMARY KEY (kind, version, step)
) WITHOUT ROWID;
INSERT INTO payload_steps VALUES
  (1, 1, 1, '{"keyId":"', 'hex', 8, NULL), (1, 1, 2, '","compromised":', 'bool', 1, NULL), (1, 1, 3, '}', 'text', 0, NULL),
  (2, 1, 1, '{"epoch":{"number":', 'varint', 0, NULL), (2, 1, 2, ',"nonce":"', 'hex', 16, NULL), (2, 1, 3, '"}}', 'text', 0, NULL),
  (2, 2, 1, '{"epoch":{"number":', 'varint', 0, NULL), (2, 2, 2, ',"nonce":"', 'hex', 16, NULL),
    (2, 2, 3, '"},"lostHeads":[', 'list', 1, NULL), (2, 2, 4, '"', 'item', 0, 8), (2, 2, 5, '', 'varint', 0, NULL),
    (2, 2, 6, ':', 'hex', 32, NULL), (2, 2, 7, '"', 'again', 0, 4), (2, 2, 8, ']}', 'text', 0, NULL),
  (10, 1, 1, '{}', 'text', 0, NULL),
  (11, 1, 1, '{}', 'text', 0, NULL),
  (12, 1, 1, '{"sessionNumber":', 'varint', 0, NULL), (12, 1, 2, '}', 'text', 0, NULL),
  (13, 1, 1, '{"sessionNumber":', 'varint', 0, NULL), (13, 1, 2, ',"reason":', 'session end', 1, NULL), (13, 1, 3, '}', 'text', 0, NULL),
  (14, 1, 1, '{"seasonNumber":', 'varint', 0, NULL), (14, 1, 2, ',"keyId":"', 'hex', 8, NULL),
    (14, 1, 3, '","commitment":"', 'hex', 32, NULL), (14, 1, 4, '"}', 'text', 0, NULL),
  (20, 1, 1, '{"simulinId":"', 'sim_', 16, NULL), (20, 1, 2, '","adoptionNumber":', 'varint', 0, NULL),
    (20, 1, 3, ',"species":', 'species', 1, NULL), (20, 1, 4, ',"personality":{"curiosity":', 'u8', 1, NULL),
    (20, 1, 5, ',"courage":', 'u8', 1, NULL), (20, 1, 6, ',"warmth":', 'u8', 1, NULL), (20, 1, 7, '}}', 'text', 0, NULL),
  (21, 1, 1, '{"simulinId":"', 'sim_', 16, NULL), (21, 1, 2, '","path":', 'path', 1, NULL), (21, 1, 3, '}', 'text', 0, NULL),
  (22, 1, 1, '{"simulinId":"', 'sim_', 16, NULL), (22, 1, 2, '"}', 'text', 0, NULL),
  (23, 1, 1, '{"simulinId":"', 'sim_', 16, NULL), (23, 1, 2, '","gained":', 'varint', 0, NULL),
    (23, 1, 3, ',"bondXp":', 'varint', 0, NULL), (23, 1, 4, '}', 'text', 0, NULL),
  (24, 1, 1, '{"simulinId":"', 'sim_', 16, NULL), (24, 1, 2, '","bondLevel":', 'u8', 1, NULL), (24, 1, 3, '}', 'text', 0, NULL),
  (30, 1, 1, '{"userId":"', 'usr_', 16, NULL), (30, 1, 2, '","seasonNumber":', 'varint', 0, NULL),
    (30, 1, 3, ',"ruleset":', 'varint', 0, NULL), (30, 1, 4, ',"keyId":"', 'hex', 8, NULL),
    (30, 1, 5, '","commitment":"', 'hex', 32, NULL), (30, 1, 6, '","commitmentSeq":', 'varint', 0, NULL),
    (30, 1, 7, ',"commitmentHash":"', 'hex', 32, NULL), (30, 1, 8, '","clientSeedSource":', 'seed source', 1, NULL),
    (30, 1, 9, ',"clientDigest":"', 'hex', 32, NULL), (30, 1, 10, '","dayKeyZero":"', 'hex', 32, NULL),
    (30, 1, 11, '","companion":', 'option', 1, 17), (30, 1, 12, '{"simulinId":"', 'sim_', 16, NULL),
    (30, 1, 13, '","species":', 'species', 1, NULL), (30, 1, 14, ',"path":', 'option', 1, 16),
    (30, 1, 15, '', 'path', 1, NULL), (30, 1, 16, '}', 'text', 0, NULL),
    (30, 1, 17, ',"coins":', 'varint', 0, NULL), (30, 1, 18, '}', 'text', 0, NULL),
  (31, 1, 1, '{"finalScore":', 'varint', 0, NULL), (31, 1, 2, ',"coins":', 'varint', 0, NULL),
    (31, 1, 3, ',"seasonSecret":"', 'hex', 32, NULL), (31, 1, 4, '"}', 'text', 0, NULL),
  (32, 1, 1, '{"escrowReturned":', 'varint', 0, NULL), (32, 1, 2, ',"coins":', 'varint', 0, NULL),
    (32, 1, 3, ',"seasonSecret":', 'option', 1, 6), (32, 1, 4, '"', 'hex', 32, NULL),
    (32, 1, 5, '"', 'text', 0, NULL), (32, 1, 6, '}', 'text', 0, NULL),
  (33, 1, 1, '{"escrowReturned":', 'varint', 0, NULL), (33, 1, 2, ',"coins":', 'varint', 0, NULL),
    (33, 1, 3, ',"seasonSecret":', 'option', 1, 6), (33, 1, 4, '"', 'hex', 32, NULL),
    (33, 1, 5, '"', 'text', 0, NULL), (33, 1, 6, '}', 'text', 0, NULL),
  (34, 1, 1, '{"dayNumber":', 'u8', 1, NULL), (34, 1, 2, ',"code":', 'suspicion', 1, NULL), (34, 1, 3, '}', 'text', 0, NULL),
  (40, 1, 1, '{"dayNumber":', 'u8', 1, NULL), (40, 1, 2, ',"weather":', 'weather', 1, NULL), (40, 1, 3, '}', 'text', 0, NULL),
  (41, 1, 1, '{"dayNumber":', 'u8', 1, NULL), (41, 1, 2, ',"dayKey":"', 'hex', 32, NULL),
    (41, 1, 3, '","potLevels":{"water":', 'u8', 1, NULL), (41, 1, 4, ',"sun":', 'u8', 1, NULL),
    (41, 1, 5, ',"pest":', 'u8', 1, NULL), (41, 1, 6, ',"growth":', 'u8', 1, NULL),
    (41, 1, 7, '},"potEvents":{"water":', 'pot event', 1, NULL), (41, 1, 8, ',"sun":', 'pot event', 1, NULL),
    (41, 1, 9, ',"pest":', 'pot event', 1, NULL), (41, 1, 10, ',"growth":', 'pot event', 1, NULL),
    (41, 1, 11, '},"troubles":[', 'list', 1, NULL), (41, 1, 12, '{"kind":', 'item', 0, 17),
    (41, 1, 13, '', 'trouble', 1, NULL), (41, 1, 14, ',"severity":', 'u8', 1, NULL),
    (41, 1, 15, ',"cleared":', 'bool', 1, NULL), (41, 1, 16, '}', 'again', 0, 12),
    (41, 1, 17, '],"score":', 'varint', 0, NULL), (41, 1, 18, '}', 'text', 0, NULL),
  (42, 1, 1, '{"dayNumber":', 'u8', 1, NULL), (42, 1, 2, ',"amount":', 'varint', 0, NULL), (42, 1, 3, '}', 'text', 0, NULL),
  (50, 1, 1, '{"dayNumber":', 'u8', 1, NULL), (50, 1, 2, ',"potId":', 'pot', 1, NULL),
    (50, 1, 3, ',"betType":', 'bet', 1, NULL), (50, 1, 4, ',"amount":', 'varint', 0, NULL), (50, 1, 5, '}', 'text', 0, NULL),
  (51, 1, 1, '{"dayNumber":', 'u8', 1, NULL), (51, 1, 2, ',"potId":', 'pot', 1, NULL),
    (51, 1, 3, ',"amount":', 'varint', 0, NULL), (51, 1, 4, ',"threshold":', 'option', 1, 6), (51, 1, 5, '', 'u8', 1, NULL),
    (51, 1, 6, ',"payout":', 'varint', 0, NULL), (51, 1, 7, ',"jackpotShare":', 'varint', 0, NULL), (51, 1, 8, '}', 'text', 0, NULL),
  (60, 1, 1, '{"dayNumber":', 'u8', 1, NULL), (60, 1, 2, ',"triggerType":', 'trigger', 1, NULL), (60, 1, 3, '}', 'text', 0, NULL),
  (61, 1, 1, '{"weekNumber":', 'u8', 1, NULL), (61, 1, 2, ',"hand":', 'hand', 1, NULL),
    (61, 1, 3, ',"multiplier":', 'varint', 0, NULL), (61, 1, 4, ',"score":', 'varint', 0, NULL), (61, 1, 5, '}', 'text', 0, NULL),
  (62, 1, 1, '{"weekNumber":', 'u8', 1, NULL), (62, 1, 2, ',"amount":', 'varint', 0, NULL), (62, 1, 3, '}', 'text', 0, NULL);

CREATE TEMP VIEW readable_events AS
SELECT
  e.seq,
  e.recorded_at AS recorded_micros,
  strftime('%Y-%m-%dT%H:%M:%SZ', e.recorded_at / 1000000, 'unixepoch') AS recorded_time,
  k.stream || lower(substr(hex(e.stream), 1, 8) || '-' || substr(hex(e.stream), 9, 4) || '-'
    || substr(hex(e.stream), 13, 4) || '-' || substr(hex(e.stream), 17, 4) || '-'
    || substr(hex(e.stream), 21)) AS stream,
  e.stream_prev,
  coalesce(k.name, e.kind) AS kind,
  e.version,
  CASE length(e.command) WHEN 34 THEN lower(substr(hex(e.command), 5, 8) || '-'
    || substr(hex(e.command), 13, 4) || '-' || substr(hex(e.command), 17, 4) || '-'
    || substr(hex(e.command), 21, 4) || '-' || substr(hex(e.command), 25, 12)) END AS command_id,
  (SELECT number FROM byte_numbers WHERE hex = substr(hex(e.command), 1, 2)) AS place,
  (SELECT number FROM byte_numbers WHERE hex = substr(hex(e.command), 3, 2)) AS size,
  (
    -- `at` is the byte that comes next, `left_over` how many items of a list are to come.
    WITH RECURSIVE walk(step, at, left_over, is_first, text) AS (
      SELECT 1, 0, 0, 1, ''
      UNION ALL
      SELECT
        CASE
          WHEN f.type = 'option' AND b.number = 0 THEN f.elsewhere
          WHEN f.type = 'item' AND walk.left_over = 0 THEN f.elsewhere
          WHEN f.type = 'again' THEN f.elsewhere
          ELSE walk.step + 1
        END,
        walk.at + CASE f.type
          WHEN 'varint' THEN CASE b.number WHEN 251 THEN 3 WHEN 252 THEN 5 WHEN 253 THEN 9 ELSE 1 END
          ELSE f.bytes
        END,
        CASE f.type WHEN 'list' THEN b.number WHEN 'again' THEN walk.left_over - 1 ELSE walk.left_over END,
        CASE f.type WHEN 'list' THEN 1 WHEN 'again' THEN 0 ELSE walk.is_first END,
        walk.text
          || CASE WHEN f.type <> 'item' THEN f.before WHEN walk.left_over = 0 THEN ''
               WHEN walk.is_first THEN f.before ELSE ',' || f.before END
          || CASE
               WHEN f.type IN ('text', 'list', 'item', 'again') THEN ''
               WHEN f.type = 'option' THEN CASE b.number WHEN 0 THEN 'null' WHEN 1 THEN '' END
               WHEN f.type = 'bool' THEN CASE b.number WHEN 0 THEN 'false' WHEN 1 THEN 'true' END
               WHEN f.type = 'u8' THEN b.number
               WHEN f.type = 'hex' THEN lower(substr(hex(e.payload), 2 * walk.at + 1, 2 * f.bytes))
               WHEN f.bytes = 16 THEN f.type || lower(
                 substr(hex(e.payload), 2 * walk.at + 1, 8) || '-' || substr(hex(e.payload), 2 * walk.at + 9, 4)
                 || '-' || substr(hex(e.payload), 2 * walk.at + 13, 4) || '-'
                 || substr(hex(e.payload), 2 * walk.at + 17, 4) || '-' || substr(hex(e.payload), 2 * walk.at + 21, 12))
               WHEN f.type <> 'varint'
                 THEN (SELECT '"' || name || '"' FROM payload_names AS n WHERE n.type = f.type AND n.number = b.number)
               WHEN b.number < 251 THEN b.number
               -- The bytes after the first, little-endian.
               ELSE (SELECT sum(digit.number << (8 * (i.number - 1))) FROM byte_numbers AS i, byte_numbers AS digit
                 WHERE i.hex BETWEEN '01' AND CASE b.number WHEN 251 THEN '02' WHEN 252 THEN '04' WHEN 253 THEN '08' END
                   AND digit.hex = substr(hex(e.payload), 2 * (walk.at + i.number) + 1, 2))
             END
      FROM walk
      JOIN payload_steps AS f ON f.kind = e.kind AND f.version = e.version AND f.step = walk.step
      LEFT JOIN byte_numbers AS b ON b.hex = substr(hex(e.payload), 2 * walk.at + 1, 2)
      -- A payload that is cut ends here.
      WHERE walk.at <= length(e.payload) AND walk.text IS NOT NULL
    )
    -- Past the last step, at the last byte.
    SELECT text FROM walk WHERE at = length(e.payload)
      AND NOT EXISTS (SELECT 1 FROM payload_steps AS f
        WHERE f.kind = e.kind AND f.version = e.version AND f.step = walk.step)
      AND EXISTS (SELECT 1 FROM payload_steps AS f WHERE f.kind = e.kind AND f.version = e.version)
  ) AS payload,
  lower(hex(e.hash)) AS hash
FROM events AS e LEFT JOIN event_kinds AS k USING (kind);
