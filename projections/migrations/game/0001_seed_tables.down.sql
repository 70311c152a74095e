DROP TABLE leaderboard_entries;
DROP TABLE simulins;
DROP TABLE daily_triggers;
DROP TABLE bets;
DROP TABLE days;
DROP TABLE seasons;
DROP TABLE sessions;
DROP TABLE users;
