// The seed defines eight relations, and four of them (users.sessions, seasons.days, seasons.bets, seasons.triggers) from the "many" side only:
// drizzle cannot tell by which columns they join until the "one" side is there too. These four go beside the seed's schema:
//   drizzle(client, { schema: { ...schema, ...inverses } })
import { relations } from 'drizzle-orm';
import { bets, dailyTriggers, days, seasons, sessions, users } from './schema';

export const sessionsRelations = relations(sessions, ({ one }) => ({
  user: one(users, { fields: [sessions.userId], references: [users.id] }),
}));

export const daysRelations = relations(days, ({ one }) => ({
  season: one(seasons, { fields: [days.seasonId], references: [seasons.id] }),
}));

export const betsRelations = relations(bets, ({ one }) => ({
  season: one(seasons, { fields: [bets.seasonId], references: [seasons.id] }),
}));

export const dailyTriggersRelations = relations(dailyTriggers, ({ one }) => ({
  season: one(seasons, { fields: [dailyTriggers.seasonId], references: [seasons.id] }),
}));
