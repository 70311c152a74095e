//! How the projections fare, for `projections status`.

use std::path::Path;

use daybook_ledger::{Reader, Standing};
use daybook_schema::{Head, LedgerId, Seq};
use sqlx::{Row, SqliteConnection};

use crate::game_file::{self, Wait};
use crate::position::Position;
use crate::projection::Projection;
use crate::rebuild;
use crate::sqlite::look;

/// An event that stopped a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The event.
    pub seq: u64,
    /// Its kind.
    pub kind: String,
    /// Why it could not be applied.
    pub reason: String,
}

/// What a projection is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectionState {
    /// It has applied all that the ledger holds.
    Current,
    /// It has not.
    Behind,
    /// The ledger is not at hand: whether it has is not known.
    Unknown,
    /// An event cannot be applied.
    Stopped(Stopped),
    /// Its tables are being made anew; so far has that come.
    Rebuilding {
        /// The newest event that the new tables hold.
        seq: u64,
    },
    /// Its tables are of another version of the projection, or stand for events whose loss was
    /// accepted; the next worker makes them anew.
    Outdated,
    /// The ledger ends before what its tables stand for: events are lost.
    LedgerBehind {
        /// The ledger's newest event.
        newest: Head,
    },
    /// The ledger has another event where its tables stand: it was altered, or went on from an
    /// older copy.
    LedgerDiffers {
        /// What the ledger has there.
        found: Head,
    },
    /// The process that kept it gave the file up, and none was started since.
    FileLost,
    /// Its tables are of another ledger.
    AnotherLedger {
        /// Whose they are.
        holds: LedgerId,
        /// Which ledger is at hand.
        given: LedgerId,
    },
}

impl ProjectionState {
    /// Its name in reports.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Behind => "behind",
            Self::Unknown => "unknown",
            Self::Stopped(_) => "stopped",
            Self::Rebuilding { .. } => "rebuilding",
            Self::Outdated => "outdated",
            Self::LedgerBehind { .. } => "ledger behind",
            Self::LedgerDiffers { .. } => "ledger differs",
            Self::FileLost => "file lost",
            Self::AnotherLedger { .. } => "another ledger",
        }
    }

    /// Whether the operator has to see to it: nothing goes on by itself.
    #[must_use]
    pub const fn needs_operator(&self) -> bool {
        matches!(
            self,
            Self::Stopped(_)
                | Self::FileLost
                | Self::LedgerBehind { .. }
                | Self::LedgerDiffers { .. }
                | Self::AnotherLedger { .. }
        )
    }
}

/// How a projection fares.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectionStatus {
    /// Its name.
    pub name: &'static str,
    /// The version of the rows.
    pub version: u32,
    /// The ledger's head that the rows stand for.
    pub head: Head,
    /// Events that the ledger has beyond that; none where the ledger is not at hand.
    pub lag_events: Option<u64>,
    /// How much earlier that event was recorded than the ledger's newest, in seconds.
    pub lag_seconds: Option<f64>,
    /// Events applied a second, when some were applied last.
    pub events_per_second: f64,
    /// What it is doing.
    pub state: ProjectionState,
    /// Why it waits, and since when, as the process says that runs it.
    pub waits: Option<Wait>,
}

/// How projections fare, beside the ledger of a data directory if there is one.
///
/// # Errors
/// When `game.db` cannot be read.
pub async fn status(
    database: &Path,
    projections: &[std::sync::Arc<dyn Projection>],
    data_dir: &Path,
) -> Result<Vec<ProjectionStatus>, sqlx::Error> {
    let database = &crate::sqlite::real(database);
    let mut looked = look(database).await?;
    let connection = &mut looked.connection;
    let reader = Reader::open(data_dir).ok();
    let newest = reader.as_ref().and_then(newest_event);
    let mut all = Vec::with_capacity(projections.len());
    for projection in projections {
        let (name, version) = (projection.name(), projection.version());
        let position = Position::load(connection, name).await?;
        let position = position.unwrap_or(Position::start(version));
        let (events_per_second, stopped) = load(connection, name).await?;
        let lag_events = newest.map(|(head, _)| head.seq.saturating_sub(position.head.seq));
        let lag_seconds = newest.map(|(_, at)| match position.head.seq {
            0 => 0.0,
            _ => (at - position.recorded_at.get()).max(0) as f64 / 1e6,
        });
        let past = match &reader {
            Some(reader) => past_of(reader, &position),
            None => None,
        };
        let (waits, given_up) = game_file::wait_of(database, name);
        let rebuilding = rebuild::progress(database, name).await;
        let state = match (past, stopped, rebuilding) {
            _ if given_up.is_some() => ProjectionState::FileLost,
            (Some(past), ..) if past.needs_operator() => past,
            (_, Some(stopped), _) => ProjectionState::Stopped(stopped),
            (_, None, Some(seq)) => ProjectionState::Rebuilding { seq },
            (Some(outdated), ..) => outdated,
            _ if position.version != version => ProjectionState::Outdated,
            _ if lag_events == Some(0) => ProjectionState::Current,
            _ if lag_events.is_none() => ProjectionState::Unknown,
            _ => ProjectionState::Behind,
        };
        let (version, head) = (position.version, position.head);
        // What stands on another past is not behind by any number.
        let is_beside = matches!(
            state,
            ProjectionState::LedgerBehind { .. }
                | ProjectionState::LedgerDiffers { .. }
                | ProjectionState::AnotherLedger { .. }
        );
        all.push(ProjectionStatus {
            name,
            version,
            head,
            lag_events: lag_events.filter(|_| !is_beside),
            lag_seconds: lag_seconds.filter(|_| !is_beside),
            events_per_second,
            state,
            waits: given_up.or(waits),
        });
    }
    Ok(all)
}

/// What stands between a position and the ledger, if anything does.
fn past_of(reader: &Reader, position: &Position) -> Option<ProjectionState> {
    let identity = position.identity?;
    let given = reader.genesis().ledger_id;
    if identity.ledger_id != given {
        let holds = identity.ledger_id;
        return Some(ProjectionState::AnotherLedger { holds, given });
    }
    match reader.standing(position.head, Some(identity.epoch)).ok()? {
        Standing::Held => None,
        Standing::Accepted { .. } => Some(ProjectionState::Outdated),
        Standing::Lost { has } if has.seq < position.head.seq => {
            Some(ProjectionState::LedgerBehind { newest: has })
        }
        Standing::Lost { has } => Some(ProjectionState::LedgerDiffers { found: has }),
    }
}

/// The newest event of a ledger and its time.
fn newest_event(reader: &Reader) -> Option<(Head, i64)> {
    let head = reader.head().ok()?;
    let at = match Seq::new(head.seq) {
        Ok(seq) => reader.event(seq).ok()?.header.recorded_at,
        Err(_) => reader.genesis().created_at,
    };
    Some((head, at.get()))
}

async fn load(
    database: &mut SqliteConnection,
    name: &str,
) -> Result<(f64, Option<Stopped>), sqlx::Error> {
    let row = sqlx::query(
        "SELECT events_per_second, stopped_seq, stopped_kind, stopped_reason \
         FROM projection_states WHERE name = ?1",
    )
    .bind(name)
    .fetch_optional(database)
    .await?;
    let Some(row) = row else { return Ok((0.0, None)) };
    let stopped = match row.try_get::<Option<i64>, _>(1)? {
        None => None,
        Some(seq) => Some(Stopped {
            seq: seq.unsigned_abs(),
            kind: row.try_get(2)?,
            reason: row.try_get(3)?,
        }),
    };
    Ok((row.try_get(0)?, stopped))
}

/// Writes down that a projection goes on, and how fast.
pub(crate) async fn store_going(
    database: &mut SqliteConnection,
    name: &str,
    events_per_second: f64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT OR REPLACE INTO projection_states (name, events_per_second, updated_at) \
         VALUES (?1, ?2, unixepoch())",
    )
    .bind(name)
    .bind(events_per_second)
    .execute(database)
    .await?;
    Ok(())
}

/// Writes down which event stopped a projection.
pub(crate) async fn store_stopped(
    database: &mut SqliteConnection,
    name: &str,
    stopped: &Stopped,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT OR REPLACE INTO projection_states \
         (name, stopped_seq, stopped_kind, stopped_reason, updated_at) \
         VALUES (?1, ?2, ?3, ?4, unixepoch())",
    )
    .bind(name)
    .bind(stopped.seq.cast_signed())
    .bind(&stopped.kind)
    .bind(&stopped.reason)
    .execute(database)
    .await?;
    Ok(())
}
