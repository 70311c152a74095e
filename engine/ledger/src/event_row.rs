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

impl<'row> RowView<'row> {
    /// Reads a row of [`COLUMNS`].
    pub(crate) fn read(
        row: &'row rusqlite::Row<'_>,
    ) -> rusqlite::Result<Result<Self, UnreadableRow>> {
        let stored_seq: i64 = row.get(0)?;
        let reader = ColumnReader { row, seq: stored_seq };
        Ok(reader.read())
    }
}

struct ColumnReader<'row, 'statement> {
    row: &'row rusqlite::Row<'statement>,
    seq: i64,
}

impl<'row> ColumnReader<'row, '_> {
    fn read(&self) -> Result<RowView<'row>, UnreadableRow> {
        let seq = u64::try_from(self.seq).ok().and_then(|seq| Seq::new(seq).ok());
        let seq = seq.ok_or_else(|| self.refuse("seq", "must be 1 or more"))?;
        let stream_prev = self.integer(3, "stream_prev")?;
        let command = CommandPart::from_bytes(self.blob(6, "command")?)
            .map_err(|error| self.refuse("command", &error.to_string()))?;
        let header = EventHeader {
            seq,
            recorded_at: UnixMicros::new(self.integer(1, "recorded_at")?),
            stream: StreamId::from_bytes(self.fixed(2, "stream")?),
            stream_prev: match stream_prev {
                0 => None,
                prev => Some(self.unsigned(prev, "stream_prev").and_then(|prev: u64| {
                    Seq::new(prev).map_err(|error| self.refuse("stream_prev", &error.to_string()))
                })?),
            },
            kind: self.unsigned(self.integer(4, "kind")?, "kind")?,
            version: self.unsigned(self.integer(5, "version")?, "version")?,
            command,
        };
        let payload = self.blob(7, "payload")?;
        Ok(RowView { header, payload, hash: EventHash::new(self.fixed(8, "hash")?) })
    }

    fn refuse(&self, column: &'static str, problem: &str) -> UnreadableRow {
        UnreadableRow { seq: self.seq, column, problem: problem.to_owned() }
    }

    fn value(&self, index: usize, column: &'static str) -> Result<ValueRef<'row>, UnreadableRow> {
        self.row.get_ref(index).map_err(|error| self.refuse(column, &error.to_string()))
    }

    fn integer(&self, index: usize, column: &'static str) -> Result<i64, UnreadableRow> {
        match self.value(index, column)? {
            ValueRef::Integer(value) => Ok(value),
            other => Err(self.refuse(column, &format!("a {} is no integer", other.data_type()))),
        }
    }

    fn unsigned<T: TryFrom<i64>>(
        &self,
        value: i64,
        column: &'static str,
    ) -> Result<T, UnreadableRow> {
        T::try_from(value).map_err(|_| self.refuse(column, &format!("`{value}` is out of range")))
    }

    fn blob(&self, index: usize, column: &'static str) -> Result<&'row [u8], UnreadableRow> {
        match self.value(index, column)? {
            ValueRef::Blob(bytes) => Ok(bytes),
            other => Err(self.refuse(column, &format!("a {} is no blob", other.data_type()))),
        }
    }

    fn fixed<const N: usize>(
        &self,
        index: usize,
        column: &'static str,
    ) -> Result<[u8; N], UnreadableRow> {
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
