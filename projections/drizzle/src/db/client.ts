// The database that the seed's snippets call `db`: TURSO_URL is what the seed's own createClient reads, a file: URL here.
import { createClient } from '@libsql/client';
import { drizzle } from 'drizzle-orm/libsql';
import * as schema from './schema';

/** Every statement sent, so that tests can count them. */
export const statements: string[] = [];

export const client = createClient({ url: process.env.TURSO_URL! });
export const db = drizzle(client, { schema, logger: { logQuery: (sql) => statements.push(sql) } });
export type DrizzleClient = typeof db;
