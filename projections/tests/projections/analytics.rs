//! Guards: who counts as active, and what a play session is, at the edges of the definitions.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use daybook_ledger::{Ledger, NewLedger, Options, Submission, Time, TimeSource};
use daybook_projections::analytics::{DaysAsked, active_days, sessions};
use daybook_projections::{
    DatabaseSettings, FeedSource, GameDatabase, Reads, Workers, all_projections,
};
use daybook_schema::{Command, SessionEndReason, SessionNumber, UnixMicros, UserId};
use daybook_simulator::{Keyring, SeasonKey};

/// 2026-01-05, a Monday.
const MONDAY: i64 = 1_767_571_200_000_000;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

/// A clock that shows what it is set to.
#[derive(Clone)]
struct Set(Arc<AtomicI64>);

impl TimeSource for Set {
    fn wall(&mut self) -> UnixMicros {
        UnixMicros::new(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&mut self) -> Duration {
        let since = self.0.load(Ordering::SeqCst) - MONDAY;
        Duration::from_micros(since.unsigned_abs())
    }
}

struct Table {
    directory: tempfile::TempDir,
    ledger: Ledger,
    clock: Set,
}

impl Table {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Set(Arc::new(AtomicI64::new(MONDAY)));
        let key = SeasonKey::new([7; 32]);
        let key_id = key.key_id();
        let options = Options::new(directory.path(), Keyring::new([key]))
            .time(Time::Source(Box::new(clock.clone())))
            .create(NewLedger { created_at: Some(UnixMicros::new(MONDAY)), ..NewLedger::random() });
        let ledger = tokio::task::spawn_blocking(|| Ledger::open(options)).await.unwrap().unwrap();
        let table = Self { directory, ledger, clock };
        table.at(0, Command::RotateKey { key_id, compromised: false }).await;
        table
    }

    /// Submits a command so long after the first moment.
    async fn at(&self, micros: i64, command: Command) {
        self.clock.0.store(MONDAY + micros, Ordering::SeqCst);
        self.ledger.submit(Submission::new(command)).unwrap().await.unwrap();
    }

    async fn reads(&self) -> Reads {
        let path = self.directory.path().join("game.db");
        let database = GameDatabase::open(&path, DatabaseSettings::default()).await.unwrap();
        let source = FeedSource::ledger(&self.ledger);
        Workers::catch_up(&database, &all_projections(), &source).await.unwrap();
        Reads::new(&database)
    }
}

#[tokio::test]
async fn a_command_makes_active_whatever_its_first_event_is() {
    let table = Table::new().await;
    let user_id = UserId::random();
    table.at(0, Command::RegisterUser { user_id }).await;
    for minute in 1..=8 {
        table.at(minute * MINUTE, Command::StartSession { user_id }).await;
    }
    // The ninth login ends the first session before it begins its own.
    table.at(2 * DAY, Command::StartSession { user_id }).await;
    // What the engine does is none of hers.
    let expire = |number| Command::EndSession {
        user_id,
        session_number: SessionNumber::new(number).unwrap(),
        reason: SessionEndReason::Expired,
    };
    table.at(3 * DAY, expire(2)).await;
    // An erasure ends the sessions first.
    table.at(5 * DAY, Command::EraseUser { user_id }).await;
    let mut moment = table.reads().await.moment().await.unwrap();
    let days = active_days(&mut moment, DaysAsked::ALL).await.unwrap().days;
    let told: Vec<_> =
        days.iter().map(|day| (day.dau, day.new.unwrap(), day.wau.unwrap(), day.partial)).collect();
    let expected = [
        (1, 1, 1, false),
        (0, 0, 1, false),
        (1, 0, 1, false),
        (0, 0, 1, false),
        (0, 0, 1, false),
        (1, 0, 1, true),
    ];
    assert_eq!(told, expected);
    let day = sessions(&mut moment, DaysAsked::ALL).await.unwrap().days.remove(0);
    assert_eq!((day.sessions, day.commands, day.max_seconds), (1, 9, Some(8 * 60)));
}

#[tokio::test]
async fn half_an_hour_ends_a_play_session_and_midnight_does_not() {
    let table = Table::new().await;
    let user_id = UserId::random();
    let late = DAY - 10 * MINUTE;
    table.at(late, Command::RegisterUser { user_id }).await;
    table.at(late + 30 * MINUTE - SECOND, Command::StartSession { user_id }).await;
    table.at(late + 60 * MINUTE - SECOND, Command::StartSession { user_id }).await;
    table.at(2 * DAY, Command::StartSession { user_id }).await;
    let mut moment = table.reads().await.moment().await.unwrap();
    let days = sessions(&mut moment, DaysAsked::ALL).await.unwrap().days;
    let told: Vec<_> = days
        .iter()
        .map(|day| (day.sessions, day.commands, day.mean_seconds, day.p50_seconds))
        .collect();
    let expected = [
        // The second command is 29:59 after the first, the third 30:00 after the second.
        (1, 2, Some(1_799.0), Some(1_799)),
        (1, 1, Some(0.0), Some(0)),
        (1, 1, Some(0.0), Some(0)),
    ];
    assert_eq!(told, expected);
}
