//! The same rows in C-like calls: what SQLite itself can take, without rusqlite's copies of what is
//! bound.

use std::ffi::CString;
use std::path::Path;
use std::ptr;
use std::time::Instant;

use anyhow::{Result, ensure};
use libsqlite3_sys as sqlite;

use crate::LENGTH;
use crate::commands::{Commands, Event};

const SET_UP: &str = "
PRAGMA page_size=16384; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
PRAGMA wal_autocheckpoint=8192;
CREATE TABLE events (seq INTEGER PRIMARY KEY, recorded_at INTEGER NOT NULL,
   stream BLOB NOT NULL, stream_prev INTEGER NOT NULL, kind INTEGER NOT NULL,
   version INTEGER NOT NULL, command BLOB NOT NULL, payload BLOB NOT NULL,
   hash BLOB NOT NULL) STRICT;";

/// A connection and its insert. What is bound is not copied: it outlives each step.
struct Insert {
    database: *mut sqlite::sqlite3,
    statement: *mut sqlite::sqlite3_stmt,
}

impl Insert {
    fn open(dir: &Path) -> Result<Self> {
        let path = CString::new(dir.join("c.db").to_string_lossy().into_owned())?;
        let sql = c"INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let mut insert = Self { database: ptr::null_mut(), statement: ptr::null_mut() };
        let flags = sqlite::SQLITE_OPEN_READWRITE
            | sqlite::SQLITE_OPEN_CREATE
            | sqlite::SQLITE_OPEN_NOMUTEX;
        // SAFETY: the path and the SQL are C strings that outlive the calls, and both pointers are
        // ours to be written.
        unsafe {
            let opened = sqlite::sqlite3_open_v2(
                path.as_ptr(),
                &raw mut insert.database,
                flags,
                ptr::null(),
            );
            ensure!(opened == sqlite::SQLITE_OK, "open: {opened}");
            insert.run(SET_UP)?;
            let prepared = sqlite::sqlite3_prepare_v2(
                insert.database,
                sql.as_ptr(),
                -1,
                &raw mut insert.statement,
                ptr::null_mut(),
            );
            ensure!(prepared == sqlite::SQLITE_OK, "prepare: {prepared}");
        }
        Ok(insert)
    }

    fn run(&self, sql: &str) -> Result<()> {
        let c_sql = CString::new(sql)?;
        // SAFETY: the connection is open, and the SQL outlives the call.
        let done = unsafe {
            sqlite::sqlite3_exec(
                self.database,
                c_sql.as_ptr(),
                None,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        ensure!(done == sqlite::SQLITE_OK, "{sql}: {done}");
        Ok(())
    }

    fn row(&self, seq: i64, event: &Event) -> Result<()> {
        let header = &event.stored.header;
        let (command, length) = header.command.to_bytes();
        // SAFETY: the statement is prepared; what is bound lives until it was stepped, and is bound
        // anew before the next step.
        unsafe {
            let number = |place, value| sqlite::sqlite3_bind_int64(self.statement, place, value);
            let blob = |place, bytes: &[u8]| {
                let length = bytes.len() as i32;
                let bytes = bytes.as_ptr().cast();
                sqlite::sqlite3_bind_blob(
                    self.statement,
                    place,
                    bytes,
                    length,
                    sqlite::SQLITE_STATIC(),
                )
            };
            number(1, seq);
            number(2, header.recorded_at.get());
            blob(3, header.stream.as_bytes());
            number(4, seq - 1);
            number(5, header.kind.into());
            number(6, header.version.into());
            blob(7, &command[..length]);
            blob(8, &event.payload);
            blob(9, event.stored.hash.as_bytes());
            let stepped = sqlite::sqlite3_step(self.statement);
            ensure!(stepped == sqlite::SQLITE_DONE, "step: {stepped}");
            sqlite::sqlite3_reset(self.statement);
        }
        Ok(())
    }
}

impl Drop for Insert {
    fn drop(&mut self) {
        // SAFETY: both were made by SQLite, or are null, which it takes; nothing uses them after.
        unsafe {
            sqlite::sqlite3_finalize(self.statement);
            sqlite::sqlite3_close(self.database);
        }
    }
}

/// A transaction for all that wait.
pub fn run(dir: &Path, commands: &Commands, waiting: usize) -> Result<f64> {
    let insert = Insert::open(dir)?;
    let (mut seq, began) = (0_i64, Instant::now());
    for chunk in commands.all.chunks(waiting) {
        if began.elapsed() >= LENGTH {
            break;
        }
        insert.run("BEGIN IMMEDIATE")?;
        for event in chunk.iter().flat_map(|command| &command.events) {
            seq += 1;
            insert.row(seq, event)?;
        }
        insert.run("COMMIT")?;
    }
    Ok(seq as f64 / began.elapsed().as_secs_f64())
}
