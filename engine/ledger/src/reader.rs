//! Reading events: by range, by stream, by kind. Readers may come at any time.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::Path;

use daybook_schema::{
    CommandId, EventHash, EventKind, Genesis, Head, Seq, StoredEvent, StreamId, StreamKind,
    UnixMicros, UserId, limits,
};
use daybook_simulator::streams::started_season;
use rusqlite::{Connection, OptionalExtension};

use crate::chain_check::{ChainCheck, check_row, stored};
use crate::database::{self, DatabaseError, LedgerConnection};
use crate::event_cut::Run;
use crate::event_row::{COLUMNS, RowView};
use crate::replay::unreadable_page;
use crate::scan::scan;
use crate::verdict::Finding;

/// Events could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A row is damaged; those before and after it may be sound.
    #[error("ledger is damaged: {0}")]
    Damaged(Finding),
    /// SQLite could not do it.
    #[error("ledger cannot be read")]
    Sqlite(#[from] rusqlite::Error),
    /// The ledger does not have the head that was asked from: it lost events, or is another one.
    #[error("the ledger does not have the head {after}")]
    UnknownHead {
        /// What was asked from.
        after: Head,
    },
    /// Reading for those who follow broke off on a broken invariant; it may be asked again.
    #[error("reading the ledger broke off: {reason}")]
    BrokeOff {
        /// What it broke off with.
        reason: String,
    },
}

impl From<Finding> for ReadError {
    fn from(finding: Finding) -> Self {
        Self::Damaged(finding)
    }
}

/// Reads a ledger, beside a writer or without one. Every event is held to the hash of the one
/// before it.
///
/// ```
/// # use daybook_ledger::{Ledger, NewLedger, Options, Reader, Submission};
/// # use daybook_schema::{Command, EventKind, Seq, UserId};
/// # use daybook_simulator::{Keyring, SeasonKey};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let key = SeasonKey::new([7; 32]);
/// # let key_id = key.key_id();
/// # let options = Options::new(directory.path(), Keyring::new([key])).create(NewLedger::random());
/// # let ledger = Ledger::open(options)?;
/// # ledger.submit(Submission::new(Command::RotateKey { key_id, compromised: false }))?.wait()?;
/// # let user_id = UserId::random();
/// # ledger.submit(Submission::new(Command::RegisterUser { user_id }))?.wait()?;
/// let reader = Reader::open(directory.path())?;
///
/// // By range.
/// let (from, until) = (Seq::new(2)?, Seq::new(3)?);
/// assert_eq!(reader.events_between(from, until).count(), 2);
///
/// // By kind.
/// let kinds = [EventKind::CommitmentPublished];
/// assert_eq!(reader.events_of_kinds(&kinds, Seq::MIN).count(), 1);
///
/// // By stream.
/// let head = reader.find_stream_head(user_id.into())?.ok_or("no such stream")?;
/// assert_eq!(reader.stream_from_head(head)?.len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reader {
    connection: LedgerConnection,
    genesis: Genesis,
    genesis_hash: EventHash,
}

impl Reader {
    /// Opens the ledger of a data directory.
    ///
    /// # Errors
    /// [`DatabaseError`] when there is none, or it is not one that this version can read.
    pub fn open(data_dir: &Path) -> Result<Self, DatabaseError> {
        let path = database::ledger_path(data_dir);
        let connection = database::open_reader(&path)?;
        let stored = database::read_genesis(&connection)
            .map_err(|source| DatabaseError::Sqlite { path: path.clone(), source })?;
        // Whoever acts on what the ledger says that it is must not be told something else.
        let (_, stored) = ChainCheck::start(stored).map_err(|finding| {
            DatabaseError::BrokenGenesis { path, detail: finding.to_string() }
        })?;
        Ok(Self { connection, genesis: stored.genesis, genesis_hash: stored.hash })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What the ledger begins with.
    #[must_use]
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The newest committed event, or the genesis.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub fn head(&self) -> Result<Head, ReadError> {
        let newest = self
            .connection
            .query_row("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1", [], |row| {
                let seq: i64 = row.get(0)?;
                let hash: [u8; 32] = row.get(1)?;
                Ok(Head { seq: seq.unsigned_abs(), hash: EventHash::new(hash) })
            })
            .optional()?;
        Ok(newest.unwrap_or(Head { seq: 0, hash: self.genesis_hash }))
    }

    /// Whether the ledger has this head; the genesis is one.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub fn has(&self, head: Head) -> Result<bool, ReadError> {
        match Seq::new(head.seq) {
            Err(_) => Ok(head.seq == 0 && head.hash == self.genesis_hash),
            Ok(_) => Ok(database::has_head(&self.connection, head)?),
        }
    }

    /// The genesis as a head: seq 0 and its hash.
    #[must_use]
    pub const fn genesis_head(&self) -> Head {
        Head { seq: 0, hash: self.genesis_hash }
    }

    /// The events with `from <= seq <= until`, at most as many as one short read takes.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] at the first row that is damaged, unless sound ones come before it:
    /// then these are given, and the next read meets the damage.
    pub fn range(&self, from: Seq, until: Seq) -> Result<Vec<StoredEvent>, ReadError> {
        self.run(from, until).map(|run| run.events)
    }

    /// The same with what the first event is chained to.
    pub(crate) fn run(&self, from: Seq, until: Seq) -> Result<Run, ReadError> {
        let run = self.walk(from, until)?;
        let is_due = |head: Head| head.seq >= from.get() && from <= until;
        if !run.events.is_empty() || !is_due(self.head()?) {
            return Ok(run);
        }
        // There are newer events, but none was found: they came meanwhile, or no walk leads to
        // them.
        let run = self.walk(from, until)?;
        if run.events.is_empty() {
            let at = from.get().cast_signed();
            let detail = format!("event {from} cannot be reached, though later ones are there");
            return Err(Finding::at(crate::Verdict::Unreadable, at, detail).into());
        }
        Ok(run)
    }

    fn walk(&self, from: Seq, until: Seq) -> Result<Run, ReadError> {
        let mut events = Vec::new();
        let mut previous = self.hash_before(from)?;
        let begins_after = Head { seq: from.get() - 1, hash: previous };
        let mut expected = from.get().cast_signed();
        let last = until.get().cast_signed();
        let outcome = scan(&self.connection, expected, last, |seen| {
            let checked = seen.map_err(Finding::from).and_then(|row| {
                check_follows(&row, expected)?;
                Ok(stored(&row, check_row(&row, &previous)?))
            });
            match checked {
                Ok(event) => {
                    previous = event.hash;
                    expected += 1;
                    events.push(event);
                    let full = events.len() == limits::ROWS_PER_READ;
                    if full { ControlFlow::Break(None) } else { ControlFlow::Continue(()) }
                }
                Err(finding) => ControlFlow::Break(Some(finding)),
            }
        });
        let finding = match outcome {
            Ok(broken) => broken.flatten(),
            Err(error) => {
                let seq = events.last().map_or(from.get() - 1, |last| last.header.seq.get());
                Some(unreadable_page(&error, Head { seq, hash: previous }))
            }
        };
        match finding {
            Some(finding) if events.is_empty() => Err(finding.into()),
            _ => Ok(Run { previous: begins_after, events }),
        }
    }

    /// The hash that the event at `seq` is chained to.
    fn hash_before(&self, seq: Seq) -> Result<EventHash, ReadError> {
        if seq == Seq::MIN {
            return Ok(self.genesis_hash);
        }
        Ok(database::hash_at(&self.connection, seq.get() - 1)?.unwrap_or(self.genesis_hash))
    }

    /// All events from `from` on, read in short transactions as the iterator is drained, up to the
    /// newest that there is by then.
    #[must_use]
    pub fn events_from(&self, from: Seq) -> Events<'_> {
        Events { reader: self, next: Some(from), until: Seq::MAX, buffered: VecDeque::new() }
    }

    /// The events with `from <= seq <= until`.
    #[must_use]
    pub fn events_between(&self, from: Seq, until: Seq) -> Events<'_> {
        Events { until, ..self.events_from(from) }
    }

    /// The events of some kinds from `from` on. Every row between them is read and checked too.
    pub fn events_of_kinds<'a>(
        &'a self,
        kinds: &'a [EventKind],
        from: Seq,
    ) -> impl Iterator<Item = Result<StoredEvent, ReadError>> + 'a {
        self.events_from(from).filter(|event| match event {
            Ok(stored) => kinds.contains(&stored.event.kind()),
            Err(_) => true,
        })
    }

    /// The newest event of a stream, found by a scan; the engine knows those of live streams.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger cannot be read.
    pub fn find_stream_head(&self, stream: StreamId) -> Result<Option<Seq>, ReadError> {
        let seq: Option<i64> = self
            .connection
            .query_row(
                "SELECT seq FROM events WHERE stream = ?1 ORDER BY seq DESC LIMIT 1",
                [stream.as_bytes()],
                |row| row.get(0),
            )
            .optional()?;
        Ok(seq.and_then(|seq| u64::try_from(seq).ok()).and_then(|seq| Seq::new(seq).ok()))
    }

    /// The events of a user and of that user's seasons, oldest first, found by a scan.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger cannot be read.
    pub fn find_events_of(&self, user_id: UserId) -> Result<Vec<Seq>, ReadError> {
        let kind = EventKind::SeasonStarted.number();
        // A season's first event begins with its user's id.
        let mut statement = self.connection.prepare_cached(
            "SELECT seq FROM events WHERE stream = ?1 OR stream IN \
             (SELECT stream FROM events WHERE kind = ?2 AND substr(payload, 1, 16) = ?1) ORDER BY seq",
        )?;
        let seqs = statement
            .query_map((user_id.as_bytes(), kind), |row| row.get::<_, i64>(0))?
            .collect::<Result<Vec<i64>, _>>()?;
        Ok(seqs.into_iter().filter_map(|seq| Seq::new(seq.cast_unsigned()).ok()).collect())
    }

    /// The first event that was recorded at a time or later, or the one that comes next: times
    /// never go back.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger cannot be read.
    pub fn first_since(&self, time: UnixMicros) -> Result<Seq, ReadError> {
        let (mut first, mut end) = (1, self.head()?.seq + 1);
        while first < end {
            let middle = first + (end - first) / 2;
            match self.event(Seq::clamped(middle))?.header.recorded_at < time {
                true => first = middle + 1,
                false => end = middle,
            }
        }
        Ok(Seq::clamped(first))
    }

    /// The events of an applied command, by its id and its user (none for the operator's): what
    /// tells after [`Expired`](crate::SubmitError::Expired) whether an earlier sending was applied.
    /// It looks from the id's own time on first, which for a fresh id is a short way, and then
    /// through all that is older.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger cannot be read.
    pub fn find_command(
        &self,
        user_id: Option<UserId>,
        id: CommandId,
    ) -> Result<Option<Vec<StoredEvent>>, ReadError> {
        let earliest = id.time().plus_micros(-limits::COMMAND_ID_AHEAD_MICROS_MAX);
        let (since, newest) = (self.first_since(earliest)?.get(), self.head()?.seq);
        match self.find_command_between(since, newest, user_id, id)? {
            None => self.find_command_between(1, since.saturating_sub(1), user_id, id),
            found => Ok(found),
        }
    }

    fn find_command_between(
        &self,
        from: u64,
        until: u64,
        user_id: Option<UserId>,
        id: CommandId,
    ) -> Result<Option<Vec<StoredEvent>>, ReadError> {
        // On a command's first event its id follows place and number.
        let mut statement = self.connection.prepare_cached(
            "SELECT seq FROM events WHERE seq BETWEEN ?1 AND ?2 \
             AND length(command) = 34 AND substr(command, 3, 16) = ?3",
        )?;
        let mut first = from;
        while first <= until {
            let last = until.min(first + limits::ROWS_PER_SEARCH - 1);
            let bounds = (first.cast_signed(), last.cast_signed(), id.as_bytes());
            let found = statement.query_map(bounds, |row| row.get::<_, i64>(0))?;
            for seq in found.collect::<Result<Vec<i64>, _>>()? {
                let begins = self.event(Seq::clamped(seq.unsigned_abs()))?;
                if self.user_of(&begins)? == user_id {
                    let (seq, size) = (begins.header.seq, begins.header.command.size);
                    let until = Seq::clamped(seq.get() + u64::from(size) - 1);
                    return self.range(seq, until).map(Some);
                }
            }
            first = last + 1;
        }
        Ok(None)
    }

    /// Whose an event is; none for the ledger's own.
    fn user_of(&self, stored: &StoredEvent) -> Result<Option<UserId>, ReadError> {
        let stream = stored.header.stream;
        match stored.event.kind().stream() {
            StreamKind::Ledger => Ok(None),
            StreamKind::User => Ok(Some(stream.as_user())),
            StreamKind::Season => {
                let season = self.stream_from_head(stored.header.seq)?;
                let started = season.first().and_then(|begins| started_season(&begins.event));
                Ok(started.map(|(user_id, _)| user_id))
            }
        }
    }

    /// The events of a stream, oldest first, by walking back from its newest.
    ///
    /// # Errors
    /// [`ReadError`] when a row on the way is damaged or leads elsewhere.
    pub fn stream_from_head(&self, head: Seq) -> Result<Vec<StoredEvent>, ReadError> {
        let mut events: Vec<StoredEvent> = Vec::new();
        let mut next = Some(head);
        while let Some(seq) = next {
            let event = self.event(seq)?;
            if let Some(later) = events.last()
                && later.header.stream != event.header.stream
            {
                let detail = format!("stream_prev leads to event {seq} of another stream");
                let at = later.header.seq.get().cast_signed();
                return Err(Finding::at(crate::Verdict::BrokenLink, at, detail).into());
            }
            next = event.header.stream_prev.filter(|previous| *previous < seq);
            events.push(event);
        }
        events.reverse();
        Ok(events)
    }

    /// One event.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when it is missing or damaged.
    pub fn event(&self, seq: Seq) -> Result<StoredEvent, ReadError> {
        let previous = self.hash_before(seq)?;
        let mut statement = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM events WHERE seq = ?1"))?;
        let mut rows = statement.query([seq.get().cast_signed()])?;
        match rows.next()? {
            Some(row) => {
                let row = RowView::read(row, row.get(0)?).map_err(Finding::from)?;
                Ok(stored(&row, check_row(&row, &previous)?))
            }
            None => {
                let at = seq.get().cast_signed();
                Err(Finding::at(crate::Verdict::Gap, at, format!("event {seq} is missing")).into())
            }
        }
    }
}

fn check_follows(row: &RowView<'_>, expected: i64) -> Result<(), Finding> {
    let found = row.header.seq.get().cast_signed();
    if found == expected {
        return Ok(());
    }
    let detail = format!("event {expected} is missing, the next one is {found}");
    Err(Finding::at(crate::Verdict::Gap, expected, detail))
}

/// Events of a ledger in order; ends at the newest one, or after an error.
#[derive(Debug)]
pub struct Events<'a> {
    reader: &'a Reader,
    next: Option<Seq>,
    until: Seq,
    buffered: VecDeque<StoredEvent>,
}

impl Iterator for Events<'_> {
    type Item = Result<StoredEvent, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.buffered.is_empty() {
            let from = self.next.filter(|from| *from <= self.until)?;
            match self.reader.range(from, self.until) {
                Ok(events) => {
                    self.next = events.last().map(|last| last.header.seq.next());
                    self.buffered = events.into();
                }
                Err(error) => {
                    self.next = None;
                    return Some(Err(error));
                }
            }
        }
        self.buffered.pop_front().map(Ok)
    }
}
