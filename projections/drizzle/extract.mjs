// Cuts the seed's own TypeScript out of the design document, byte for byte, and puts it where its drizzle.config.ts looks for it.
//   node extract.mjs SEED.txt [OUT_DIR]
// OUT_DIR (default: this directory) must have node_modules in itself or above, since the schema imports drizzle-orm.
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SEED_SHA256 = '6e7f7f015b1be7d163ee20574082c6fabaa63cbe07663fa5eaaad79e18c55989';

const [seedPath, out = dirname(fileURLToPath(import.meta.url))] = process.argv.slice(2);
if (!seedPath) throw new Error('usage: node extract.mjs SEED.txt [OUT_DIR]');

const bytes = readFileSync(seedPath);
const sha256 = createHash('sha256').update(bytes).digest('hex');
if (sha256 !== SEED_SHA256) throw new Error(`${seedPath}: sha256 ${sha256}, expected ${SEED_SHA256}`);
const text = bytes.toString('utf8');

/** The one ```typescript block that follows the heading, as it stands. */
function block(heading) {
  const at = text.split(`\n${heading}\n`);
  if (at.length !== 2) throw new Error(`heading "${heading}" stands ${at.length - 1} times in the seed`);
  const found = /^\s*```typescript\n([\s\S]*?\n)```\n/.exec(at[1]);
  if (!found) throw new Error(`no typescript block right after "${heading}"`);
  return found[1];
}

function put(path, content) {
  const full = join(out, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, content);
  console.log(`${path}  ${createHash('sha256').update(content).digest('hex').slice(0, 16)}`);
}

// Whole files of the seed.
put('src/db/schema.ts', block('### Complete Drizzle Schema'));
put('drizzle.seed.config.ts', block('### Drizzle Kit Configuration'));

// A part of a file: what it takes for granted is put in front, and its names are exported after it.
put('src/db/queries.ts', `\
import { and, eq, isNull, sql } from 'drizzle-orm';
import { bets, dailyTriggers, seasons } from './schema';
import { db, type DrizzleClient } from './client';
// ── from here the seed, verbatim ───────────────────────────────────────────
${block('### Query Optimization Patterns')}\
// ── to here ────────────────────────────────────────────────────────────────
export { findActiveSeasonStmt, loadSeasonWithDetails, tursoClient };
`);
