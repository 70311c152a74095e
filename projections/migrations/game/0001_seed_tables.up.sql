-- Moves data: `users` and `sessions` hold what is nowhere else. The other six can be made again from the ledger.
-- What `drizzle-kit generate` makes of the schema in drizzle/, as strict tables.

CREATE TABLE `users` (
  `id` text PRIMARY KEY NOT NULL,
  `email` text NOT NULL,
  `display_name` text NOT NULL,
  `avatar_url` text,
  `role` text DEFAULT 'player' NOT NULL,
  `created_at` integer NOT NULL,
  `last_login_at` integer
) STRICT;
CREATE UNIQUE INDEX `idx_users_email` ON `users` (`email`);

CREATE TABLE `sessions` (
  `id` text PRIMARY KEY NOT NULL,
  `user_id` text NOT NULL,
  `expires_at` integer NOT NULL,
  `created_at` integer NOT NULL,
  `user_agent` text,
  `ip_address` text,
  FOREIGN KEY (`user_id`) REFERENCES `users`(`id`) ON UPDATE no action ON DELETE cascade
) STRICT;
CREATE INDEX `idx_sessions_user` ON `sessions` (`user_id`);
CREATE INDEX `idx_sessions_expires` ON `sessions` (`expires_at`);

CREATE TABLE `seasons` (
  `id` text PRIMARY KEY NOT NULL,
  `user_id` text NOT NULL,
  `season_number` integer NOT NULL,
  `current_day` integer DEFAULT 1 NOT NULL,
  `phase` text DEFAULT 'planting' NOT NULL,
  `coins` integer DEFAULT 500 NOT NULL,
  `jackpot_contribution` real DEFAULT 0 NOT NULL,
  `started_at` integer NOT NULL,
  `completed_at` integer,
  `final_score` integer,
  FOREIGN KEY (`user_id`) REFERENCES `users`(`id`) ON UPDATE no action ON DELETE no action
) STRICT;
CREATE INDEX `idx_seasons_user` ON `seasons` (`user_id`);
CREATE INDEX `idx_seasons_active` ON `seasons` (`user_id`,`completed_at`);

CREATE TABLE `days` (
  `id` text PRIMARY KEY NOT NULL,
  `season_id` text NOT NULL,
  `day_number` integer NOT NULL,
  `seed` text NOT NULL,
  `pot_levels` text NOT NULL,
  `events` text NOT NULL,
  `weather` text NOT NULL,
  `resolved` integer DEFAULT false NOT NULL,
  `created_at` integer NOT NULL,
  FOREIGN KEY (`season_id`) REFERENCES `seasons`(`id`) ON UPDATE no action ON DELETE cascade
) STRICT;
CREATE UNIQUE INDEX `idx_days_season_day` ON `days` (`season_id`,`day_number`);

CREATE TABLE `bets` (
  `id` text PRIMARY KEY NOT NULL,
  `season_id` text NOT NULL,
  `day_number` integer NOT NULL,
  `pot_id` text NOT NULL,
  `bet_type` text NOT NULL,
  `amount` integer NOT NULL,
  `payout` integer,
  `won` integer,
  `resolved_at` integer,
  `placed_at` integer NOT NULL,
  FOREIGN KEY (`season_id`) REFERENCES `seasons`(`id`) ON UPDATE no action ON DELETE cascade
) STRICT;
CREATE INDEX `idx_bets_season_day` ON `bets` (`season_id`,`day_number`);
CREATE UNIQUE INDEX `idx_bets_unique` ON `bets` (`season_id`,`day_number`,`pot_id`);

CREATE TABLE `daily_triggers` (
  `id` text PRIMARY KEY NOT NULL,
  `season_id` text NOT NULL,
  `day_number` integer NOT NULL,
  `trigger_type` text NOT NULL,
  `earned_at` integer NOT NULL,
  `metadata` text,
  FOREIGN KEY (`season_id`) REFERENCES `seasons`(`id`) ON UPDATE no action ON DELETE cascade
) STRICT;
CREATE INDEX `idx_triggers_season` ON `daily_triggers` (`season_id`);
CREATE INDEX `idx_triggers_season_day` ON `daily_triggers` (`season_id`,`day_number`);

CREATE TABLE `simulins` (
  `id` text PRIMARY KEY NOT NULL,
  `user_id` text NOT NULL,
  `name` text NOT NULL,
  `species` text NOT NULL,
  `stage` text NOT NULL,
  `path` text,
  `bond_level` integer DEFAULT 1 NOT NULL,
  `bond_xp` integer DEFAULT 0 NOT NULL,
  `personality` text NOT NULL,
  `abilities` text DEFAULT '[]' NOT NULL,
  `created_at` integer NOT NULL,
  `retired_at` integer,
  FOREIGN KEY (`user_id`) REFERENCES `users`(`id`) ON UPDATE no action ON DELETE no action
) STRICT;
CREATE INDEX `idx_simulins_user` ON `simulins` (`user_id`);

CREATE TABLE `leaderboard_entries` (
  `id` text PRIMARY KEY NOT NULL,
  `user_id` text NOT NULL,
  `season_id` text NOT NULL,
  `score` integer NOT NULL,
  `rank` integer,
  `period` text NOT NULL,
  `calculated_at` integer NOT NULL,
  FOREIGN KEY (`user_id`) REFERENCES `users`(`id`) ON UPDATE no action ON DELETE no action,
  FOREIGN KEY (`season_id`) REFERENCES `seasons`(`id`) ON UPDATE no action ON DELETE no action
) STRICT;
CREATE INDEX `idx_leaderboard_period_score` ON `leaderboard_entries` (`period`,`score`);
CREATE INDEX `idx_leaderboard_user_period` ON `leaderboard_entries` (`user_id`,`period`);
