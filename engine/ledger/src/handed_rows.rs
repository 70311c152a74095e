//! Committed rows on their way from the writer to the thread that makes snapshots: what was decided
//! and committed anyway, handed on and not read again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use daybook_schema::{Head, limits};

use crate::event_row::{NewRow, RowView};

/// Rows that were committed together.
pub(crate) struct CommittedRows {
    /// The head before them.
    pub(crate) previous: Head,
    pub(crate) rows: Vec<NewRow>,
    pub(crate) payloads: Vec<u8>,
}

impl CommittedRows {
    /// The rows, as a reader of the file would see them.
    pub(crate) fn views(&self) -> impl Iterator<Item = RowView<'_>> {
        self.rows.iter().map(|row| RowView {
            header: row.header,
            payload: self.payloads.get(row.payload.clone()).unwrap_or_default(),
            hash: row.hash,
        })
    }
}

/// Where rows are handed over.
pub(crate) struct HandOver {
    rows: Sender<CommittedRows>,
    waiting: Arc<AtomicUsize>,
}

/// Where they arrive.
pub(crate) struct Handed {
    rows: Receiver<CommittedRows>,
    waiting: Arc<AtomicUsize>,
}

pub(crate) fn channel() -> (HandOver, Handed) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let hand_over = HandOver { rows: sender, waiting: Arc::clone(&waiting) };
    (hand_over, Handed { rows: receiver, waiting })
}

impl HandOver {
    /// Hands rows over. Where too many wait they are left out: whoever misses them finds them in the
    /// file.
    pub(crate) fn hand(&self, rows: CommittedRows) {
        let count = rows.rows.len();
        if self.waiting.load(Ordering::Relaxed) + count > limits::ROWS_HANDED_MAX {
            return;
        }
        self.waiting.fetch_add(count, Ordering::Relaxed);
        // Whoever takes none any more ended on a broken invariant, and play goes on.
        let _ = self.rows.send(rows);
    }
}

impl Handed {
    /// The next rows, when they come; none when the writer has ended.
    pub(crate) fn next(&self) -> Option<CommittedRows> {
        self.rows.recv().ok().map(|rows| self.taken(rows))
    }

    /// The next rows that are there by now.
    pub(crate) fn next_by_now(&self) -> Option<CommittedRows> {
        self.rows.try_recv().ok().map(|rows| self.taken(rows))
    }

    fn taken(&self, rows: CommittedRows) -> CommittedRows {
        self.waiting.fetch_sub(rows.rows.len(), Ordering::Relaxed);
        rows
    }
}
