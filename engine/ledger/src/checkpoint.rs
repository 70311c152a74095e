//! Checkpoints: folding the write-ahead log into the database.

use daybook_schema::limits;
use rusqlite::Connection;

const RESTART_PAGES: u64 = limits::WAL_BYTES_RESTART / limits::LEDGER_PAGE_BYTES as u64;
const CHECKPOINT_PAGES: u64 = limits::WAL_BYTES_CHECKPOINT / limits::LEDGER_PAGE_BYTES as u64;
/// From here on the log is started anew where little of it is left to be folded in.
const EARLY_PAGES: u64 = RESTART_PAGES / 4 * 3;
/// So many pages or fewer the writer folds in itself: commits wait for that.
const LEFT_PAGES: u64 = 128;
/// Where a reader kept the log from being started anew, it is tried again after so many pages: each
/// try waits for readers.
const RETRY_PAGES: u64 = RESTART_PAGES / 8;

/// What is to be done with the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Nothing,
    /// A checkpoint beside the work.
    Beside,
    /// One that starts the log anew, for which the writer waits.
    Anew,
}

/// When the log is folded in, and when it is started anew.
#[derive(Debug)]
pub(crate) struct Rhythm {
    /// It is started anew from here on, if little is left.
    early_at: u64,
    /// And from here on, whatever is left.
    restart_at: u64,
}

impl Rhythm {
    pub(crate) const fn new() -> Self {
        Self { early_at: EARLY_PAGES, restart_at: RESTART_PAGES }
    }

    /// Whether a reader keeps the log from being started anew, so that it grows beyond its limit.
    pub(crate) const fn is_held(&self) -> bool {
        self.restart_at > RESTART_PAGES
    }

    /// What is to be done. A checkpoint that is under way is not waited for.
    pub(crate) fn wish(&self, pages: &LogPages, is_checkpointing: bool) -> Wish {
        let left = pages.written - pages.checkpointed.min(pages.written);
        let is_early = pages.written >= self.early_at;
        if pages.written >= self.restart_at {
            Wish::Anew
        } else if left >= if is_early { LEFT_PAGES } else { CHECKPOINT_PAGES } {
            Wish::Beside
        } else if is_early && !is_checkpointing {
            Wish::Anew
        } else {
            Wish::Nothing
        }
    }

    /// A reader kept the log of so many pages from being started anew.
    pub(crate) const fn was_held(&mut self, written: u64) {
        self.early_at = written + RETRY_PAGES;
        if written >= self.restart_at {
            self.restart_at = written + RETRY_PAGES;
        }
    }
}

/// Pages of the write-ahead log, and how many of them are in the database already.
pub(crate) struct LogPages {
    pub(crate) written: u64,
    pub(crate) checkpointed: u64,
}

/// Runs a checkpoint; tells whether readers kept it from its end, and what the log holds then.
pub(crate) fn run(connection: &Connection, mode: &str) -> rusqlite::Result<(bool, LogPages)> {
    let mut statement = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    statement.query_row([], |row| {
        let [busy, written, checkpointed]: [i64; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        let pages = |count: i64| u64::try_from(count).unwrap_or(0);
        let log = LogPages { written: pages(written), checkpointed: pages(checkpointed) };
        Ok((busy != 0, log))
    })
}

/// What the log holds, without a checkpoint.
pub(crate) fn pages(connection: &Connection) -> rusqlite::Result<LogPages> {
    run(connection, "NOOP").map(|(_, pages)| pages)
}

/// Folds the whole write-ahead log into the database and empties it; readers may keep it from that,
/// which harms nothing.
pub(crate) fn fold_in_whole(connection: &Connection) -> rusqlite::Result<()> {
    run(connection, "TRUNCATE").map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards: play waits for a reader once every 16 MB, not at every look.
    #[test]
    fn a_log_that_a_reader_holds_is_seldom_tried_again() {
        let mut rhythm = Rhythm::new();
        let mut tries = Vec::new();
        for written in (0..4 * RESTART_PAGES).step_by(16) {
            // The reader holds the newest page: nothing is left to be folded in.
            let pages = LogPages { written, checkpointed: written };
            if rhythm.wish(&pages, false) == Wish::Anew {
                tries.push(written);
                rhythm.was_held(written);
            }
        }
        assert_eq!(tries.first(), Some(&EARLY_PAGES));
        assert!(tries.windows(2).all(|two| two[1] - two[0] >= RETRY_PAGES - 16), "{tries:?}");
        assert!(rhythm.is_held());
    }

    /// Guards: what is left is folded in beside the work first, until the limit is reached.
    #[test]
    fn little_is_left_to_the_writer() {
        let rhythm = Rhythm::new();
        let wish = |written, left, busy| {
            rhythm.wish(&LogPages { written, checkpointed: written - left }, busy)
        };
        assert_eq!(wish(CHECKPOINT_PAGES - 1, CHECKPOINT_PAGES - 1, false), Wish::Nothing);
        assert_eq!(wish(CHECKPOINT_PAGES, CHECKPOINT_PAGES, false), Wish::Beside);
        assert_eq!(wish(EARLY_PAGES - 1, 0, false), Wish::Nothing);
        assert_eq!(wish(EARLY_PAGES, LEFT_PAGES, false), Wish::Beside);
        assert_eq!(wish(EARLY_PAGES, LEFT_PAGES - 1, true), Wish::Nothing);
        assert_eq!(wish(EARLY_PAGES, LEFT_PAGES - 1, false), Wish::Anew);
        assert_eq!(wish(RESTART_PAGES, RESTART_PAGES, true), Wish::Anew);
    }
}
