//! A row of the events table, read and written.

use daybook_schema::chain::{CommandPart, EventHeader};
use daybook_schema::{EventHash, Seq, StreamId, UnixMicros};
use rusqlite::types::ValueRef;

/// The columns, in the order in which rows are read and written.
pub(crate) const COLUMNS: &str =
    "seq, recorded_at, stream, stream_prev, kind, version, command, payload, hash";

/// A row as it lies in SQLite's page, its payload not yet decoded.
pub(crate) struct RowView<'row> {
    pub(crate) header: EventHeader,
    pub(crate) payload: &'row [u8],
    pub(crate) hash: EventHash,
}

/// A row's columns do not have the types and lengths of FORMAT.md.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of event {seq}: {problem}")]
pub struct UnreadableRow {
    /// The row's seq as stored, which may be any number.
    pub seq: i64,
    /// The column.
    pub column: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// Boxed, so that what is read of a sound row stays small.
pub(crate) type Refused = Box<UnreadableRow>;

impl<'row> RowView<'row> {
    /// Reads a row of [`COLUMNS`] whose seq was read already.
    pub(crate) fn read(row: &'row rusqlite::Row<'_>, stored_seq: i64) -> Result<Self, Refused> {
        let columns = Columns { row, seq: stored_seq };
        let seq = u64::try_from(stored_seq).ok().and_then(|seq| Seq::new(seq).ok());
        let stream_prev = columns.integer(3, "stream_prev")?;
        let header = EventHeader {
            seq: seq.ok_or_else(|| columns.refuse("seq", "must be 1 or more"))?,
            recorded_at: UnixMicros::new(columns.integer(1, "recorded_at")?),
            stream: StreamId::from_bytes(columns.fixed(2, "stream")?),
            stream_prev: match stream_prev {
                0 => None,
                prev => Some(columns.unsigned(prev, "stream_prev").and_then(|prev: u64| {
                    Seq::new(prev)
                        .map_err(|error| columns.refuse("stream_prev", &error.to_string()))
                })?),
            },
            kind: columns.unsigned(columns.integer(4, "kind")?, "kind")?,
            version: columns.unsigned(columns.integer(5, "version")?, "version")?,
            command: CommandPart::from_bytes(columns.blob(6, "command")?)
                .map_err(|error| columns.refuse("command", &error.to_string()))?,
        };
        let payload = columns.blob(7, "payload")?;
        Ok(RowView { header, payload, hash: EventHash::new(columns.fixed(8, "hash")?) })
    }
}

struct Columns<'row, 'statement> {
    row: &'row rusqlite::Row<'statement>,
    seq: i64,
}

impl<'row> Columns<'row, '_> {
    #[cold]
    fn refuse(&self, column: &'static str, problem: &str) -> Refused {
        Box::new(UnreadableRow { seq: self.seq, column, problem: problem.to_owned() })
    }

    #[cold]
    fn is_no(
        &self,
        what: &str,
        column: &'static str,
        found: rusqlite::Result<ValueRef<'_>>,
    ) -> Refused {
        match found {
            Ok(value) => self.refuse(column, &format!("a {} is no {what}", value.data_type())),
            Err(error) => self.refuse(column, &error.to_string()),
        }
    }

    #[inline]
    fn integer(&self, index: usize, column: &'static str) -> Result<i64, Refused> {
        match self.row.get_ref(index) {
            Ok(ValueRef::Integer(value)) => Ok(value),
            other => Err(self.is_no("integer", column, other)),
        }
    }

    #[inline]
    fn unsigned<T: TryFrom<i64>>(&self, value: i64, column: &'static str) -> Result<T, Refused> {
        T::try_from(value).map_err(|_| self.refuse(column, &format!("`{value}` is out of range")))
    }

    #[inline]
    fn blob(&self, index: usize, column: &'static str) -> Result<&'row [u8], Refused> {
        match self.row.get_ref(index) {
            Ok(ValueRef::Blob(bytes)) => Ok(bytes),
            other => Err(self.is_no("blob", column, other)),
        }
    }

    #[inline]
    fn fixed<const N: usize>(
        &self,
        index: usize,
        column: &'static str,
    ) -> Result<[u8; N], Refused> {
        let bytes = self.blob(index, column)?;
        bytes
            .try_into()
            .map_err(|_| self.refuse(column, &format!("{} bytes, expected {N}", bytes.len())))
    }
}

/// A row to be written: its payload lies in the batch's buffer.
#[derive(Clone)]
pub(crate) struct NewRow {
    pub(crate) header: EventHeader,
    pub(crate) payload: std::ops::Range<usize>,
    pub(crate) hash: EventHash,
}

/// The statement that [`insert`] takes.
pub(crate) fn insert_sql() -> String {
    format!("INSERT INTO events ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")
}

/// Inserts a row with a statement over [`COLUMNS`].
pub(crate) fn insert(
    statement: &mut rusqlite::Statement<'_>,
    header: &EventHeader,
    payload: &[u8],
    hash: &EventHash,
) -> rusqlite::Result<()> {
    let (command, command_bytes) = header.command.to_bytes();
    let changed = statement.execute((
        header.seq.get().cast_signed(),
        header.recorded_at.get(),
        header.stream.as_bytes(),
        header.stream_prev.map_or(0, |seq| seq.get().cast_signed()),
        header.kind,
        header.version,
        command.get(..command_bytes).unwrap_or_default(),
        payload,
        hash.as_bytes(),
    ))?;
    // A foreign trigger can make an insert vanish without an error.
    if changed == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(changed)) }
}
