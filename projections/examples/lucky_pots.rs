//! A read model of a team's own: which pot has paid each player the most, over all their seasons.
//!
//! `cargo run -p daybook-projections --example lucky_pots -- DATA_DIR` brings `lucky_pots.db`
//! beside the ledger there up to its newest event and prints the luckiest. A projection is a name,
//! a version, its tables, what it folds events into and how that is written; the worker does the
//! rest.

use std::path::Path;
use std::sync::Arc;

use daybook_projections::sqlx::{self, Row, SqliteConnection};
use daybook_projections::{
    ApplyError, BoxFuture, Changes, DatabaseSettings, FeedSource, GameDatabase, ProjectedEvent,
    Projection, Workers,
};
use daybook_schema::{Coins, Event, Pot, SeasonId, UserId};

/// What each pot has paid each player.
#[derive(Debug)]
pub struct LuckyPots;

impl Projection for LuckyPots {
    fn name(&self) -> &'static str {
        "lucky_pots"
    }

    // Raise it when the rows would come out differently: they are then made anew.
    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["lucky_pot_seasons", "lucky_pots"]
    }

    fn schema(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS lucky_pot_seasons (
           season_id TEXT PRIMARY KEY NOT NULL,
           user_id TEXT NOT NULL
         ) STRICT, WITHOUT ROWID;
         CREATE TABLE IF NOT EXISTS lucky_pots (
           user_id TEXT NOT NULL,
           pot_id TEXT NOT NULL,
           coins INTEGER NOT NULL,
           PRIMARY KEY (user_id, pot_id)
         ) STRICT, WITHOUT ROWID;"
    }

    // Nothing is written here, so that others may write meanwhile.
    fn fold<'a>(
        &'a self,
        _database: &'a mut SqliteConnection,
        events: &'a [ProjectedEvent],
    ) -> BoxFuture<'a, Result<Box<dyn Changes>, ApplyError>> {
        let mut new = NewRows::default();
        for event in events {
            // A season's events are in its own stream; whose it is the first of them says. Of any
            // other event, which the match below leaves alone, this is no season's id.
            let season_id = event.stored.header.stream.as_season();
            match &event.stored.event {
                Event::SeasonStarted(started) => new.seasons.push((season_id, started.user_id)),
                Event::BetResolved(resolved) if resolved.payout > Coins::ZERO => {
                    new.payouts.push((season_id, resolved.pot_id, resolved.payout));
                }
                _ => {}
            }
        }
        Box::pin(async { Ok(Box::new(new) as Box<dyn Changes>) })
    }
}

/// What events bring.
#[derive(Default)]
struct NewRows {
    seasons: Vec<(SeasonId, UserId)>,
    payouts: Vec<(SeasonId, Pot, Coins)>,
}

impl Changes for NewRows {
    // In the worker's transaction.
    fn write<'a>(
        self: Box<Self>,
        database: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        Box::pin(async move {
            for (season_id, user_id) in self.seasons {
                sqlx::query("INSERT INTO lucky_pot_seasons VALUES (?1, ?2)")
                    .bind(season_id.to_string())
                    .bind(user_id.to_string())
                    .execute(&mut *database)
                    .await?;
            }
            for (season_id, pot_id, payout) in self.payouts {
                sqlx::query(
                    "INSERT INTO lucky_pots SELECT user_id, ?2, ?3 FROM lucky_pot_seasons \
                     WHERE season_id = ?1 \
                     ON CONFLICT (user_id, pot_id) DO UPDATE SET coins = coins + excluded.coins",
                )
                .bind(season_id.to_string())
                .bind(pot_id.as_str())
                .bind(payout.get().cast_signed())
                .execute(&mut *database)
                .await?;
            }
            Ok(())
        })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let data_dir = std::env::args().nth(1).unwrap_or_else(|| "./daybook-data".to_owned());
    let data_dir = Path::new(&data_dir);
    let path = data_dir.join("lucky_pots.db");
    let database = GameDatabase::open(&path, DatabaseSettings::default()).await?;
    let projections: [Arc<dyn Projection>; 1] = [Arc::new(LuckyPots)];
    Workers::catch_up(&database, &projections, &FeedSource::ledger(data_dir)).await?;

    let mut connection =
        <SqliteConnection as sqlx::Connection>::connect(&format!("sqlite://{}", path.display()))
            .await?;
    let rows = sqlx::query("SELECT * FROM lucky_pots ORDER BY coins DESC LIMIT 5");
    for row in rows.fetch_all(&mut connection).await? {
        let (user, pot): (String, String) = (row.get("user_id"), row.get("pot_id"));
        println!("{user} {pot} {}", row.get::<i64, _>("coins"));
    }
    Ok(())
}
