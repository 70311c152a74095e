// The seed's schema and queries, as they stand, on a file made by somebody else.
//   TURSO_URL=file:/path/game.db npx tsx --test seed.test.ts
// Expects at least one row in each of the eight tables; reads only.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { getTableColumns, getTableName, is } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/libsql';
import { SQLiteTable } from 'drizzle-orm/sqlite-core';
import { client, db, statements } from './src/db/client';
import * as inverses from './src/db/inverses';
import { findActiveSeasonStmt, loadSeasonWithDetails, tursoClient } from './src/db/queries';
import * as schema from './src/db/schema';

const tables = Object.values(schema).filter((it) => is(it, SQLiteTable)) as SQLiteTable[];
const whole = drizzle(client, { schema: { ...schema, ...inverses } });

/** The rows as plain SQLite has them, past drizzle. */
const raw = async (sql: string, ...args: string[]) => (await client.execute({ sql, args })).rows as any[];
const ids = (rows: { id: unknown }[]) => rows.map((it) => it.id).sort();
const seconds = (date: Date | null) => (date === null ? null : date.getTime() / 1000);

after(() => { client.close(); tursoClient.close(); });

test('the schema has the eight tables', () => {
  assert.deepEqual(tables.map(getTableName).sort(),
    ['bets', 'daily_triggers', 'days', 'leaderboard_entries', 'seasons', 'sessions', 'simulins', 'users']);
});

for (const table of tables) {
  test(`${getTableName(table)}: every row, every column`, async () => {
    const [rows, plain] = [await db.select().from(table), await raw(`SELECT * FROM ${getTableName(table)}`)];
    assert.ok(rows.length > 0, 'no rows');
    const byId = new Map(plain.map((it) => [it.id, it]));
    assert.equal(rows.length, plain.length);
    for (const row of rows as any[]) {
      for (const [key, column] of Object.entries(getTableColumns(table))) {
        const [value, stored] = [row[key], byId.get(row.id)[column.name]];
        const at = `${getTableName(table)}.${column.name} of ${row.id}: ${stored}`;
        if (stored === null) assert.ok(value === null && !column.notNull, at);
        else if (column.columnType === 'SQLiteTimestamp') {
          assert.equal(seconds(value), stored, at);
          assert.ok(value > new Date('2020-01-01') && value < new Date('2100-01-01'), `${at}: not seconds`);
        } else if (column.columnType === 'SQLiteBoolean') assert.ok((stored === 0 || stored === 1) && value === (stored === 1), at);
        else if (column.columnType === 'SQLiteTextJson') {
          assert.deepEqual(value, JSON.parse(stored), at);
          assert.equal(typeof value, 'object', `${at}: JSON within JSON?`);
        } else {
          assert.equal(value, stored, at);
          if (column.enumValues) assert.ok(column.enumValues.includes(value), `${at}: not of the enum`);
        }
      }
    }
  });
}

test('loadSeasonWithDetails, as it stands', async () => {
  for (const { id } of await raw('SELECT id FROM seasons LIMIT 100')) {
    statements.length = 0;
    const season = await loadSeasonWithDetails(db, id);
    assert.equal(statements.length, 3);
    assert.equal(season.id, id);
    assert.ok(season.startedAt instanceof Date);
    assert.deepEqual(ids(season.bets), ids(await raw('SELECT id FROM bets WHERE season_id = ?', id)));
    assert.deepEqual(ids(season.triggers), ids(await raw('SELECT id FROM daily_triggers WHERE season_id = ?', id)));
  }
  assert.deepEqual(await loadSeasonWithDetails(db, 'ssn_none'), { bets: [], triggers: [] });
});

test('findActiveSeasonStmt, as it stands', async () => {
  let [with_, without] = [0, 0];
  for (const { id } of await raw('SELECT id FROM users LIMIT 100')) {
    const found = await findActiveSeasonStmt.execute({ userId: id });
    const active = ids(await raw('SELECT id FROM seasons WHERE user_id = ? AND completed_at IS NULL', id));
    if (active.length === 0) { without++; assert.deepEqual(found, []); continue; }
    with_++;
    assert.equal(found.length, 1);
    assert.ok(active.includes(found[0].id) && found[0].completedAt === null);
  }
  assert.ok(with_ > 0, 'no user has an active season');
  assert.ok(without > 0, 'every user has an active season');
});

test('the client that the seed itself makes', async () => {
  assert.equal((await drizzle(tursoClient, { schema }).query.seasons.findMany()).length, (await raw('SELECT id FROM seasons')).length);
});

test('relations with the seed alone: four work', async () => {
  for (const user of await db.query.users.findMany({ with: { seasons: true, simulins: true } })) {
    assert.deepEqual(ids(user.seasons), ids(await raw('SELECT id FROM seasons WHERE user_id = ?', user.id)));
    assert.deepEqual(ids(user.simulins), ids(await raw('SELECT id FROM simulins WHERE user_id = ?', user.id)));
    for (const it of user.seasons) assert.ok(it.startedAt instanceof Date && typeof it.jackpotContribution === 'number');
    for (const it of user.simulins) assert.ok(it.personality && typeof it.personality === 'object' && Array.isArray(it.abilities));
  }
  for (const it of await db.query.seasons.findMany({ with: { user: true } })) assert.equal(it.user.id, it.userId);
  for (const it of await db.query.simulins.findMany({ with: { user: true } })) assert.equal(it.user.id, it.userId);
});

test('relations with the seed alone: the other four lack their inverse', async () => {
  const none = /not enough information to infer relation/;
  await assert.rejects(async () => db.query.users.findMany({ with: { sessions: true } }), none);
  for (const it of ['days', 'bets', 'triggers'] as const)
    await assert.rejects(async () => db.query.seasons.findMany({ with: { [it]: true } }), none);
});

test('relations with the inverses beside it: all eight, both ways', async () => {
  for (const user of await whole.query.users.findMany({ with: { seasons: true, simulins: true, sessions: true } })) {
    for (const it of ['seasons', 'simulins', 'sessions'] as const)
      assert.deepEqual(ids(user[it]), ids(await raw(`SELECT id FROM ${it} WHERE user_id = ?`, user.id)));
    for (const it of user.sessions) assert.ok(it.expiresAt instanceof Date);
  }
  for (const season of await whole.query.seasons.findMany({ with: { user: true, days: true, bets: true, triggers: true } })) {
    assert.equal(season.user.id, season.userId);
    assert.deepEqual(ids(season.days), ids(await raw('SELECT id FROM days WHERE season_id = ?', season.id)));
    assert.deepEqual(ids(season.bets), ids(await raw('SELECT id FROM bets WHERE season_id = ?', season.id)));
    assert.deepEqual(ids(season.triggers), ids(await raw('SELECT id FROM daily_triggers WHERE season_id = ?', season.id)));
    for (const it of season.days) assert.ok(typeof it.resolved === 'boolean' && Array.isArray(it.events) && it.createdAt instanceof Date);
    for (const it of season.bets) assert.ok(it.won === null || typeof it.won === 'boolean');
  }
  for (const it of await whole.query.simulins.findMany({ with: { user: true } })) assert.equal(it.user.id, it.userId);
  for (const it of await whole.query.sessions.findMany({ with: { user: true } })) assert.equal(it.user.id, it.userId);
  for (const it of await whole.query.days.findMany({ with: { season: true } })) assert.equal(it.season.id, it.seasonId);
  for (const it of await whole.query.bets.findMany({ with: { season: true } })) assert.equal(it.season.id, it.seasonId);
  for (const it of await whole.query.dailyTriggers.findMany({ with: { season: true } })) assert.equal(it.season.id, it.seasonId);
});
