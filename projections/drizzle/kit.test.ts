// drizzle-kit against a file made by somebody else: nothing to push, the eight tables pulled, and the file is what `generate` makes.
//   TURSO_URL=file:/path/game.db npx tsx --test kit.test.ts
// Works on copies: `push` executes what it finds, without asking, in no transaction. Its exit code says nothing (0 also after an error): read the text.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createClient, type Client } from '@libsql/client';
import config from './drizzle.config';

const here = import.meta.dirname;
const scratch = mkdtempSync(join(tmpdir(), 'drizzle-kit-'));
after(() => rmSync(scratch, { recursive: true }));

const eight = [...config.tablesFilter].sort();
const json = (path: string) => JSON.parse(readFileSync(path, 'utf8'));
const rows = async (db: Client, sql: string) => (await db.execute(sql)).rows.map((it) => ({ ...it })) as any[];

function kit(command: string, env: Record<string, string>) {
  const run = spawnSync(join(here, 'node_modules/.bin/drizzle-kit'), [command, '--config', 'drizzle.config.ts'],
    { cwd: here, env: { ...process.env, NO_COLOR: '1', ...env }, stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8', timeout: 60_000 });
  return { status: run.status, out: run.stdout, err: run.stderr };
}

/** A copy that has what is in the WAL too, without our views: drizzle-kit 0.31.11 ends at a view that its tablesFilter leaves out, exit code 1, no message. */
async function copy(name: string) {
  const path = join(scratch, name);
  const db = createClient({ url: process.env.TURSO_URL! });
  await db.execute(`VACUUM INTO '${path}'`);
  db.close();
  const copied = createClient({ url: `file:${path}` });
  for (const { name } of await rows(copied, `SELECT name FROM sqlite_master WHERE type = 'view'`)) await copied.execute(`DROP VIEW ${name}`);
  copied.close();
  return path;
}

/** Columns, foreign keys and indexes as SQLite itself reports them; what push does not look at (order, DESC, partial, collation) included. */
async function structure(db: Client, table: string) {
  const indexes = await rows(db, `SELECT name, "unique", origin, partial FROM pragma_index_list('${table}') WHERE name NOT LIKE 'sqlite_autoindex_%' ORDER BY name`);
  for (const it of indexes) it.columns = await rows(db, `SELECT seqno, name, "desc", coll, key FROM pragma_index_xinfo('${it.name}') WHERE key = 1`);
  return {
    columns: await rows(db, `SELECT cid, name, lower(type) AS type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo('${table}')`),
    foreignKeys: await rows(db, `SELECT "table", "from", "to", on_update, on_delete, match FROM pragma_foreign_key_list('${table}') ORDER BY "from"`),
    indexes,
  };
}

const generated = join(scratch, 'generated');

test('generate: the file has exactly these tables', async () => {
  const run = kit('generate', { DRIZZLE_OUT: generated });
  assert.match(run.out, /8 tables/, run.out + run.err);
  const sql = readFileSync(join(generated, readdirSync(generated).find((it) => it.endsWith('.sql'))!), 'utf8');
  const [fresh, game] = [createClient({ url: `file:${join(scratch, 'fresh.db')}` }), createClient({ url: process.env.TURSO_URL! })];
  await fresh.executeMultiple(sql);
  for (const table of eight) assert.deepEqual(await structure(game, table), await structure(fresh, table), table);
  // A view of more than one line makes push and pull end at once, with or without a tablesFilter.
  for (const { sql } of await rows(game, `SELECT sql FROM sqlite_master WHERE type = 'view'`)) assert.ok(!sql.includes('\n'));
  fresh.close();
  game.close();
});

test('push: no changes', async () => {
  const path = await copy('push.db');
  const master = async () => {
    const db = createClient({ url: `file:${path}` });
    const found = await rows(db, 'SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name');
    db.close();
    return found;
  };
  const before = await master();
  const run = kit('push', { DATABASE_URL: path });
  assert.match(run.out, /No changes detected/, run.out + run.err);
  assert.equal(run.status, 0);
  assert.deepEqual(await master(), before);
});

test('pull: the eight tables', async () => {
  const out = join(scratch, 'pulled');
  const run = kit('pull', { DATABASE_URL: await copy('pull.db'), DRIZZLE_OUT: out });
  assert.match(run.out, /schema file is ready/, run.out.slice(-2000) + run.err);
  assert.equal(run.status, 0);
  const names = [...readFileSync(join(out, 'schema.ts'), 'utf8').matchAll(/sqliteTable\("(\w+)"/g)].map((it) => it[1]);
  assert.deepEqual(names.sort(), eight);
  assert.deepEqual(json(join(out, 'meta/0000_snapshot.json')).tables, json(join(generated, 'meta/0000_snapshot.json')).tables);
});
