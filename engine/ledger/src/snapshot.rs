//! Snapshots: a ledger's state at a seq, in a file of its own, so that a start reads only what came
//! after. The format is FORMAT.md's. One whose head the ledger does not have is never used.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use daybook_schema::{
    CommandHash, CommandId, EventHash, Genesis, Head, LedgerId, Seq, StreamId, UnixMicros, UserId,
    digest, limits,
};
use daybook_simulator::State;
use rusqlite::Connection;

use crate::chain_check::ChainCheck;
use crate::command_ids::{Applied, CommandIds};
use crate::database::{self, DatabaseError};
use crate::files::{UNFINISHED, UnfinishedFile};
use crate::lost_heads::KnownHead;
use crate::recovery::Recovery;
use crate::replay::{Fold, ReplayError};
use crate::scoped_ids::Scope;
use crate::stream_heads::StreamHeads;

const MAGIC: &[u8; 16] = b"daybook snapshot";
/// The version of the format that is written.
const SNAPSHOT_VERSION: u16 = 2;
/// The oldest version that is read: it has one floor for all users.
const SNAPSHOT_VERSION_MIN: u16 = 1;
/// What stands for no floor.
const NO_FLOOR: i64 = i64::MIN;
const ENDING: &str = ".snapshot";
const CHECKSUM_BYTES: usize = 32;
/// What is hashed and written at once, in bytes.
const PIECE_BYTES: usize = 1 << 18;
/// Pieces that are synced together: a commit that comes meanwhile waits for these alone.
const PIECES_PER_SYNC: usize = 2;

/// The snapshots' directory of a data directory.
#[must_use]
pub fn snapshots_path(data_dir: &Path) -> PathBuf {
    data_dir.join("snapshots")
}

/// Why a snapshot is of no use; it is ignored, and the ledger alone is read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The file is no snapshot, or its bytes are not those that were written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It is of a format that this version does not read.
    #[error(
        "it has version {found}, this version of Daybook reads versions {SNAPSHOT_VERSION_MIN} to \
         {SNAPSHOT_VERSION}"
    )]
    Version {
        /// Its version.
        found: u16,
    },
    /// It is another ledger's.
    #[error("it is another ledger's")]
    Foreign,
}

fn damaged(problem: impl Into<String>) -> SnapshotError {
    SnapshotError::Damaged(problem.into())
}

/// A snapshot's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    pub(crate) seq: u64,
    pub(crate) path: PathBuf,
}

/// The snapshots of a data directory by their names, the newest first.
///
/// # Errors
/// When the directory is there and cannot be read: what it holds may tell of lost events.
pub(crate) fn list(data_dir: &Path) -> Result<Vec<SnapshotFile>, DatabaseError> {
    let directory = snapshots_path(data_dir);
    let io_error = |source| DatabaseError::Io { path: directory.clone(), source };
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if is_no_directory(&error) => return Ok(Vec::new()),
        Err(error) => return Err(io_error(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error)?.path();
        let seq = path.file_name().and_then(|name| named_seq(name.to_str()?));
        files.extend(seq.map(|seq| SnapshotFile { seq, path }));
    }
    files.sort_by_key(|file| std::cmp::Reverse(file.seq));
    Ok(files)
}

fn is_no_directory(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// The seq that a snapshot's file is named by.
fn named_seq(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(ENDING)?;
    let is_seq = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| is_seq)
}

/// The bytes of a snapshot's file. What is no file could be read for ever, and what does not begin
/// as a snapshot does may be of any size: neither is read.
fn read_file(path: &Path) -> Result<Vec<u8>, SnapshotError> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(damaged("it is no file"));
    }
    let mut file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(MAGIC.len() as u64).read_to_end(&mut bytes)?;
    if bytes != MAGIC {
        return Err(damaged("it does not begin as a snapshot does"));
    }
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The heads of the snapshots that are whole and of this ledger; their bodies are not decoded.
pub(crate) fn known_heads(
    data_dir: &Path,
    genesis: &Genesis,
) -> Result<Vec<KnownHead>, DatabaseError> {
    let mut heads = Vec::new();
    for file in list(data_dir)? {
        let source = file.path.display().to_string();
        match read_file(&file.path).and_then(|bytes| Ok(Header::read(&bytes, genesis)?.0.head)) {
            Ok(head) => heads.push(KnownHead { head, epoch: None, source }),
            // Removed meanwhile by whoever made a newer one.
            Err(SnapshotError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(SnapshotError::Io(source)) => {
                return Err(DatabaseError::Io { path: file.path, source });
            }
            Err(error) => tracing::warn!(path = source, %error, "a snapshot is ignored"),
        }
    }
    Ok(heads)
}

/// Whose snapshots lie there, whole or not: none where a file does not begin as a snapshot does.
pub(crate) fn ledgers(data_dir: &Path) -> Result<Vec<(Option<LedgerId>, PathBuf)>, DatabaseError> {
    const ID_AT: usize = MAGIC.len() + 2;
    let ledger_id = |path: &Path| -> Result<LedgerId, SnapshotError> {
        let bytes = read_file(path)?;
        let id = bytes.get(ID_AT..).and_then(<[u8]>::first_chunk::<16>);
        id.map(|id| LedgerId::from_bytes(*id)).ok_or_else(|| damaged("it is cut short"))
    };
    let files = list(data_dir)?.into_iter();
    Ok(files.map(|file| (ledger_id(&file.path).ok(), file.path)).collect())
}

/// Reads a whole snapshot; what it claims is still to be held to the ledger.
pub(crate) fn read(path: &Path, genesis: &Genesis) -> Result<Recovery, SnapshotError> {
    decode(&read_file(path)?, genesis)
}

/// What was found among the snapshots.
pub(crate) struct FoundSnapshots {
    /// The newest that the ledger confirms.
    pub(crate) snapshot: Option<Recovery>,
    /// Sound ones of events that the ledger does not have.
    pub(crate) lacking: Vec<KnownHead>,
}

/// Looks for the newest snapshot that the ledger confirms. One that is of no use is ignored, and
/// said so.
pub(crate) fn newest_confirmed(
    connection: &Connection,
    data_dir: &Path,
    genesis: &Genesis,
) -> Result<FoundSnapshots, ReplayError> {
    let mut lacking = Vec::new();
    for file in list(data_dir)? {
        let path = file.path.display().to_string();
        let recovery = match read(&file.path, genesis) {
            Ok(recovery) => recovery,
            Err(error) => {
                tracing::warn!(path, %error, "a snapshot is ignored");
                continue;
            }
        };
        let head = recovery.fold.check.head();
        if database::has_head(connection, head)? {
            return Ok(FoundSnapshots { snapshot: Some(recovery), lacking });
        }
        let epoch = Some(recovery.fold.state.identity().epoch);
        lacking.push(KnownHead { head, epoch, source: path });
    }
    Ok(FoundSnapshots { snapshot: None, lacking })
}

/// Writes a snapshot: whole under its name, or not at all. Beside it the one that it was made from
/// is kept; all others are removed.
///
/// # Errors
/// What the file system says; the snapshots before stay.
pub(crate) fn write(
    data_dir: &Path,
    recovery: &Recovery,
    before: Option<u64>,
) -> std::io::Result<()> {
    let directory = snapshots_path(data_dir);
    crate::files::create_directories(&directory)?;
    let seq = recovery.fold.check.head().seq;
    let file = UnfinishedFile::begin(&path_of(data_dir, seq))?;
    encode(recovery, HashedFile::create(file.path())?)?;
    file.finish()?;
    remove_others(&directory, &[Some(seq), before]);
    Ok(())
}

/// Where the snapshot of a seq is.
pub(crate) fn path_of(data_dir: &Path, seq: u64) -> PathBuf {
    snapshots_path(data_dir).join(format!("{seq:020}{ENDING}"))
}

/// Removes the snapshots that are not to be kept: older ones, those that are of no use, and what
/// interrupted writes left.
fn remove_others(directory: &Path, kept: &[Option<u64>; limits::SNAPSHOTS_KEPT]) {
    let kept: Vec<String> = kept.iter().flatten().map(|seq| format!("{seq:020}{ENDING}")).collect();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = named_seq(&name).is_some()
            || name.strip_suffix(UNFINISHED).is_some_and(|name| named_seq(name).is_some());
        if !is_ours || kept.contains(&name) {
            continue;
        }
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "an old snapshot cannot be removed");
        }
    }
}

/// Removes every snapshot that the ledger does not confirm: those of events that are lost.
///
/// # Errors
/// When one cannot be removed: it would tell of the loss again.
pub(crate) fn remove_unconfirmed(data_dir: &Path, genesis: &Genesis) -> Result<(), DatabaseError> {
    let path = database::ledger_path(data_dir);
    let connection = database::open_reader(&path)?;
    for file in list(data_dir)? {
        let head =
            read_file(&file.path).and_then(|bytes| Ok(Header::read(&bytes, genesis)?.0.head));
        let is_confirmed = head.is_ok_and(|head| {
            file.seq == head.seq && database::has_head(&connection, head).unwrap_or(false)
        });
        if !is_confirmed {
            std::fs::remove_file(&file.path)
                .map_err(|source| DatabaseError::Io { path: file.path, source })?;
        }
    }
    Ok(())
}

/// What a snapshot begins with.
struct Header {
    version: u16,
    head: Head,
    recorded_at: UnixMicros,
    state_hash: EventHash,
    common_floor: Option<UnixMicros>,
}

impl Header {
    /// Checks the file as a whole and reads its beginning; what follows is its body.
    fn read<'a>(bytes: &'a [u8], genesis: &Genesis) -> Result<(Self, Cursor<'a>), SnapshotError> {
        let mut cursor = Cursor(bytes);
        if cursor.array::<16>()? != *MAGIC {
            return Err(damaged("it does not begin as a snapshot does"));
        }
        let version = u16::from_le_bytes(cursor.array()?);
        if !(SNAPSHOT_VERSION_MIN..=SNAPSHOT_VERSION).contains(&version) {
            return Err(SnapshotError::Version { found: version });
        }
        let (content, checksum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(|| damaged("it is cut short"))?;
        if digest::SNAPSHOT.derive(&[content]) != *checksum {
            return Err(damaged("its checksum does not hold"));
        }
        cursor.0 = cursor.0.strip_suffix(checksum).unwrap_or_default();
        if cursor.array::<16>()? != *genesis.ledger_id.as_bytes()
            || cursor.array::<32>()? != *genesis.hash().as_bytes()
        {
            return Err(SnapshotError::Foreign);
        }
        let header = Self {
            version,
            head: Head { seq: cursor.u64()?, hash: EventHash::new(cursor.array()?) },
            recorded_at: cursor.time()?,
            state_hash: EventHash::new(cursor.array()?),
            common_floor: Some(cursor.time()?).filter(|floor| floor.get() != NO_FLOOR),
        };
        Ok((header, cursor))
    }
}

/// The bytes that are left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let (array, rest) =
            self.0.split_first_chunk::<N>().ok_or_else(|| damaged("it is cut short"))?;
        self.0 = rest;
        Ok(*array)
    }

    fn bytes(&mut self, count: u64) -> Result<&'a [u8], SnapshotError> {
        let (bytes, rest) = usize::try_from(count)
            .ok()
            .and_then(|count| self.0.split_at_checked(count))
            .ok_or_else(|| damaged("it is cut short"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn u64(&mut self) -> Result<u64, SnapshotError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn time(&mut self) -> Result<UnixMicros, SnapshotError> {
        Ok(UnixMicros::new(i64::from_le_bytes(self.array()?)))
    }

    fn seq(&mut self) -> Result<Seq, SnapshotError> {
        Seq::new(self.u64()?).map_err(|error| damaged(error.to_string()))
    }

    fn stream_head(&mut self) -> Result<(StreamId, Seq), SnapshotError> {
        Ok((StreamId::from_bytes(self.array()?), self.seq()?))
    }

    fn scope(&mut self) -> Result<Scope, SnapshotError> {
        let [has_user] = self.array()?;
        let user_id = UserId::from_bytes(self.array()?);
        Ok((has_user != 0).then_some(user_id))
    }

    fn floor(&mut self) -> Result<(Scope, UnixMicros), SnapshotError> {
        Ok((self.scope()?, self.time()?))
    }

    fn applied_id(&mut self) -> Result<(Scope, CommandId, Applied), SnapshotError> {
        let id =
            CommandId::from_bytes(self.array()?).map_err(|error| damaged(error.to_string()))?;
        let scope = self.scope()?;
        let hash = CommandHash::new(self.array()?);
        let first = self.seq()?;
        let [size] = self.array()?;
        Ok((scope, id, Applied { hash, first, size }))
    }

    /// A count and so many items.
    fn list<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, SnapshotError>,
    ) -> Result<Vec<T>, SnapshotError> {
        let count = self.u64()?;
        // No memory is set aside for a count that is not there: each item takes bytes.
        (0..count).map(|_| item(self)).collect()
    }
}

/// A file that is written and hashed in pieces: a snapshot may be large, and what it is made of is in
/// memory already.
struct HashedFile {
    file: File,
    hasher: digest::Hasher,
    piece: Vec<u8>,
    /// Pieces since what was written was synced.
    pieces_not_synced: usize,
}

impl HashedFile {
    fn create(path: &Path) -> std::io::Result<Self> {
        let file = File::create(path)?;
        let hasher = digest::SNAPSHOT.hasher();
        Ok(Self { file, hasher, piece: Vec::new(), pieces_not_synced: 0 })
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn put_scope(&mut self, scope: Scope) -> std::io::Result<()> {
        self.put(&[u8::from(scope.is_some())])?;
        self.put(scope.unwrap_or(UserId::from_bytes([0; 16])).as_bytes())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::thread::yield_now();
        self.hasher.update(&self.piece);
        self.file.write_all(&self.piece)?;
        self.piece.clear();
        self.pieces_not_synced += 1;
        if self.pieces_not_synced < PIECES_PER_SYNC {
            return Ok(());
        }
        self.pieces_not_synced = 0;
        self.file.sync_data()
    }

    /// Ends the file with the checksum over all before it.
    fn seal(mut self) -> std::io::Result<()> {
        self.flush()?;
        self.file.write_all(self.hasher.finalize().as_bytes())
    }
}

/// Writes the bytes of a snapshot.
fn encode(recovery: &Recovery, mut into: HashedFile) -> std::io::Result<()> {
    let Recovery { fold: Fold { check, state }, ids } = recovery;
    let genesis = state.genesis();
    let mut state_bytes = Vec::new();
    // Whoever waits for a core goes first: commands are decided and written meanwhile.
    state.encode_with_breaks(&mut state_bytes, &mut std::thread::yield_now);
    into.put(MAGIC)?;
    into.put(&SNAPSHOT_VERSION.to_le_bytes())?;
    into.put(genesis.ledger_id.as_bytes())?;
    into.put(genesis.hash().as_bytes())?;
    into.put(&check.head().seq.to_le_bytes())?;
    into.put(check.head().hash.as_bytes())?;
    into.put(&check.newest_recorded_at().get().to_le_bytes())?;
    // As `State::hash`, of the bytes that are there anyway.
    let mut state_hash = digest::STATE.hasher();
    for piece in state_bytes.chunks(PIECE_BYTES) {
        state_hash.update(piece);
        std::thread::yield_now();
    }
    into.put(state_hash.finalize().as_bytes())?;
    let common_floor = ids.common_floor().map_or(NO_FLOOR, UnixMicros::get);
    into.put(&common_floor.to_le_bytes())?;
    into.put(&(state_bytes.len() as u64).to_le_bytes())?;
    state_bytes.chunks(PIECE_BYTES).try_for_each(|piece| into.put(piece))?;
    let heads = check.stream_heads().ordered();
    into.put(&(heads.len() as u64).to_le_bytes())?;
    for (stream, seq) in heads {
        into.put(stream.as_bytes())?;
        into.put(&seq.get().to_le_bytes())?;
    }
    into.put(&(ids.applied_count() as u64).to_le_bytes())?;
    ids.try_for_each_applied(|scope, id, Applied { hash, first, size }| {
        into.put(id.as_bytes())?;
        into.put_scope(scope)?;
        into.put(hash.as_bytes())?;
        into.put(&first.get().to_le_bytes())?;
        into.put(&[*size])
    })?;
    let floors = ids.floors();
    into.put(&(floors.len() as u64).to_le_bytes())?;
    for (scope, floor) in floors {
        into.put_scope(scope)?;
        into.put(&floor.get().to_le_bytes())?;
    }
    into.seal()
}

/// Decodes a snapshot of a ledger, and holds it to the checksum and the state's hash in it.
pub(crate) fn decode(bytes: &[u8], genesis: &Genesis) -> Result<Recovery, SnapshotError> {
    let (header, mut cursor) = Header::read(bytes, genesis)?;
    let length = cursor.u64()?;
    let state = State::decode(*genesis, cursor.bytes(length)?)
        .map_err(|error| damaged(error.to_string()))?;
    if state.hash() != header.state_hash {
        return Err(damaged("its state has another hash than it says"));
    }
    let heads = cursor.list(Cursor::stream_head)?;
    let applied = cursor.list(Cursor::applied_id)?;
    let floors = match header.version {
        SNAPSHOT_VERSION_MIN => Vec::new(),
        _ => cursor.list(Cursor::floor)?,
    };
    if !cursor.0.is_empty() {
        return Err(damaged(format!("{} bytes are left over", cursor.0.len())));
    }
    let users = state.users.ordered().into_iter();
    let season_counts = users.map(|(user_id, user)| (user_id, user.season_count));
    let heads = StreamHeads::new(heads.into_iter(), season_counts);
    let check = ChainCheck::resume(header.head, header.recorded_at, heads);
    let ids = CommandIds::new(header.common_floor, floors, applied);
    Ok(Recovery { fold: Fold { check, state }, ids })
}
