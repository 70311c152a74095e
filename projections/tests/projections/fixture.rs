//! Ledgers that bots played, and read models of them.

use std::path::{Path, PathBuf};

use daybook_bots::Play;
use daybook_ledger::Reader;
use daybook_projections::test_kit::{Rows, rows_of};
use daybook_projections::{
    DatabaseSettings, FeedSource, GameDatabase, Position, Projection, Workers, all_projections,
};
use daybook_schema::{Seq, StoredEvent};

/// A directory with a ledger, and room for read models.
pub struct Played {
    pub directory: tempfile::TempDir,
}

impl Played {
    pub fn new(players: u32, days: u32, seed: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // In a thread of its own: the engine's answers are waited for, which async code may not.
        let play = || Play { players, days, seed }.into_new_ledger(directory.path()).unwrap();
        std::thread::scope(|scope| scope.spawn(play).join().unwrap());
        Self { directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn game_db(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn events(&self) -> Vec<StoredEvent> {
        let reader = Reader::open(self.path()).unwrap();
        reader.events_from(Seq::MIN).collect::<Result<_, _>>().unwrap()
    }

    pub async fn database(&self, name: &str) -> GameDatabase {
        GameDatabase::open(&self.game_db(name), DatabaseSettings::default()).await.unwrap()
    }

    /// All read models, made from the ledger's tail.
    pub async fn project(&self, name: &str) -> (GameDatabase, Vec<Position>) {
        let database = self.database(name).await;
        let source = FeedSource::ledger(self.path());
        let positions = Workers::catch_up(&database, &all_projections(), &source).await.unwrap();
        (database, positions)
    }
}

/// The tables of all projections, and those that they share.
pub fn all_tables() -> Vec<&'static str> {
    let projections = all_projections();
    let own = projections.iter().flat_map(|projection| projection.tables().iter().copied());
    own.chain(["users", "projection_positions"]).collect()
}

pub async fn all_rows(path: &Path) -> Rows {
    rows_of(path, &all_tables()).await.unwrap()
}

pub fn named(name: &str) -> std::sync::Arc<dyn Projection> {
    all_projections().into_iter().find(|projection| projection.name() == name).unwrap()
}

/// How often a test that draws its cases at random repeats them: as often as `DAYBOOK_LONG` says
/// where it is set, else a number that suits every run.
pub fn repeats(in_every_run: u32) -> u32 {
    std::env::var("DAYBOOK_LONG").map_or(in_every_run, |text| text.parse().unwrap())
}
