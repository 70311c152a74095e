// The seed's own configuration (cut out of the document by extract.mjs), and what a file with more tables than its eight needs beside it.
import seed from './drizzle.seed.config';

export default {
  ...seed,
  out: process.env.DRIZZLE_OUT || seed.out,
  tablesFilter: ['users', 'sessions', 'seasons', 'days', 'bets', 'daily_triggers', 'simulins', 'leaderboard_entries'],
};
