//! An export: the ledger's events into files, a million seqs at a time.

use std::fs::File;
use std::path::PathBuf;

use daybook_ledger::{ReadError, Reader};
use daybook_schema::Seq;

use crate::columns::{TableName, columns_of};
use crate::directory::{DirectoryLock, foreign_files};
use crate::error::ExportError;
use crate::files::{FileError, Format, TableFile};
use crate::manifest::{
    FileEntry, LOCK, MANIFEST, MANIFEST_PART, Manifest, ManifestError, Selection,
};
use crate::shape::{faults, first_of, last_of, path_of};
use crate::tables::{Files, Source, tables_of};

/// Seqs of one file of each table.
const SEQS_PER_FILE: u64 = 1 << 20;
/// A file that is being written has this after its name.
const PART: &str = "part";

/// What is exported, and where to.
#[derive(Clone, Debug)]
pub struct Export {
    /// The directory: empty, or one in which the same export was begun.
    pub directory: PathBuf,
    /// How the files are written.
    pub format: Format,
    /// Which events.
    pub selection: Selection,
}

impl Export {
    /// Writes what is not written yet, up to the newest event there is by now. Where it was killed
    /// it goes on with the files that were not whole. `passed` is told how many events were passed.
    ///
    /// # Errors
    /// [`ExportError`]; what was whole stays.
    pub fn run(
        &self,
        reader: &Reader,
        passed: &mut dyn FnMut(u64),
    ) -> Result<Manifest, ExportError> {
        // Nothing is left in a directory that is refused, not even a lock.
        if self.directory.exists() && !self.directory.join(MANIFEST).exists() {
            self.refuse_foreign(reader)?;
        }
        let lock = DirectoryLock::take(&self.directory)?;
        let (mut manifest, until) = match self.begin(reader) {
            Ok(begun) => begun,
            Err(error) => {
                lock.undo();
                return Err(error);
            }
        };
        let mut source = Source::new(reader, &self.selection, passed);
        let mut next = manifest.until.seq + 1;
        while next <= until {
            let last = ((next - 1) / SEQS_PER_FILE + 1) * SEQS_PER_FILE;
            let range = (seq(next)?, seq(last.min(until))?);
            self.write(&mut source, range, &mut manifest)?;
            manifest.until = reader.event(range.1)?.head();
            manifest.write(&self.directory)?;
            next = range.1.get() + 1;
        }
        Ok(manifest)
    }

    /// What was written before, and up to which seq there is something to write.
    fn begin(&self, reader: &Reader) -> Result<(Manifest, u64), ExportError> {
        let manifest = self.manifest(reader)?;
        let until = last_of(&self.selection, reader)?;
        match manifest.files.is_empty() && manifest.until.seq + 1 > until {
            true => Err(self.nothing_yet(reader)),
            false => Ok((manifest, until)),
        }
    }

    /// Refuses a directory with something in it that is not what a kill of this export left: files of
    /// its tables with their first name, whole or in part.
    fn refuse_foreign(&self, reader: &Reader) -> Result<(), ExportError> {
        let from = Seq::new(first_of(&self.selection, reader)?).unwrap_or(Seq::MAX);
        match self.foreign(from) {
            Ok(None) => Ok(()),
            Ok(Some(path)) => Err(ExportError::NotEmpty { path }),
            Err(source) => Err(ExportError::Io { path: self.directory.clone(), source }),
        }
    }

    /// A directory with such a thing in it.
    fn foreign(&self, from: Seq) -> std::io::Result<Option<PathBuf>> {
        let tables = tables_of(&self.selection);
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == MANIFEST_PART || name == LOCK {
                continue;
            }
            let table = tables.iter().find(|table| name.to_str() == Some(table.as_str()));
            let Some(table) = table.filter(|_| entry.file_type().is_ok_and(|it| it.is_dir()))
            else {
                return Ok(Some(self.directory.clone()));
            };
            let whole = self.directory.join(path_of(*table, from, self.format.ending()));
            let mut part = whole.clone().into_os_string();
            part.push(format!(".{PART}"));
            for file in std::fs::read_dir(entry.path())? {
                let file = file?.path();
                if file != whole && file.as_os_str() != part {
                    return Ok(Some(entry.path()));
                }
            }
        }
        Ok(None)
    }

    fn nothing_yet(&self, reader: &Reader) -> ExportError {
        let head = reader.head().map_or(0, |head| head.seq);
        ExportError::NothingYet { head }
    }

    /// The manifest of what was written before, or a new one.
    fn manifest(&self, reader: &Reader) -> Result<Manifest, ExportError> {
        let path = self.directory.join(MANIFEST);
        if path.exists() {
            let manifest = Manifest::read(&path)?;
            self.hold(&manifest)?;
            manifest.hold_to(reader)?;
            if let Some(detail) = faults(&manifest, reader)?.into_iter().next() {
                return Err(ManifestError::Inconsistent { detail }.into());
            }
            self.hold_files(&manifest)?;
            return Ok(manifest);
        }
        self.refuse_foreign(reader)?;
        let from = first_of(&self.selection, reader)?;
        let after = match Seq::new(from - 1) {
            Ok(before) if before.get() <= reader.head()?.seq => reader.event(before)?.head(),
            Ok(_) => return Err(self.nothing_yet(reader)),
            Err(_) => reader.genesis_head(),
        };
        Ok(Manifest::begin(reader, self.format, self.selection.clone(), after))
    }

    /// Refuses a directory in which a file of the export is missing or has another length, or in
    /// which others lie: tools would read them with the rest.
    fn hold_files(&self, manifest: &Manifest) -> Result<(), ExportError> {
        let refused = |name: &str, problem| {
            Err(ExportError::NotAsWritten { path: self.directory.join(name), problem })
        };
        for entry in &manifest.files {
            let found = std::fs::symlink_metadata(self.directory.join(&entry.path));
            if !found.is_ok_and(|found| found.is_file() && found.len() == entry.bytes) {
                return refused(&entry.path, "is not there as it was written");
            }
        }
        // What a kill left is written once more.
        let next = Seq::new(manifest.until.seq + 1).unwrap_or(Seq::MAX);
        let left: Vec<String> = tables_of(&self.selection)
            .into_iter()
            .map(|table| path_of(table, next, self.format.ending()))
            .collect();
        let foreign = foreign_files(&self.directory, manifest);
        match foreign.iter().find(|name| !left.contains(name)) {
            Some(name) => refused(name, "is no file of this export"),
            None => Ok(()),
        }
    }

    /// Whether a manifest is of this export.
    fn hold(&self, manifest: &Manifest) -> Result<(), ManifestError> {
        let asked = [
            ("format", manifest.format.to_string(), self.format.to_string()),
            ("selection", shown(&manifest.selection), shown(&self.selection)),
        ];
        match asked.into_iter().find(|(_, found, asked)| found != asked) {
            Some((what, found, asked)) => Err(ManifestError::AskedOtherwise { what, found, asked }),
            None => Ok(()),
        }
    }

    /// Writes the files of a range of seqs, and notes them when all are whole.
    fn write(
        &self,
        source: &mut Source<'_>,
        range: (Seq, Seq),
        manifest: &mut Manifest,
    ) -> Result<(), ExportError> {
        let ending = self.format.ending();
        let create = |table: TableName| {
            let directory = self.directory.join(table.as_str());
            let path = self.directory.join(format!("{}.{PART}", path_of(table, range.0, ending)));
            std::fs::create_dir_all(&directory)
                .map_err(|source| FileError::of(&path)(source.into()))?;
            TableFile::create(path, self.format, columns_of(table))
        };
        let mut files = Files::new();
        // Each table has a file, so that every tool finds its columns. Later ranges have one of events
        // though none is asked for there: it tells that they were looked at.
        let tables = match manifest.files.is_empty() {
            true => tables_of(&self.selection),
            false => vec![TableName::Events],
        };
        for table in tables {
            files.insert(table, create(table)?);
        }
        source.fill(range, &mut files, create)?;
        for (table, file) in files {
            let entry = self.seal(table, file, range)?;
            let sum = manifest.rows.entry(entry.table.clone()).or_default();
            *sum = sum.saturating_add(entry.rows);
            manifest.files.push(entry);
        }
        Ok(())
    }

    /// Ends a file and gives it its name.
    fn seal(
        &self,
        table: TableName,
        file: TableFile,
        range: (Seq, Seq),
    ) -> Result<FileEntry, ExportError> {
        let (part, rows, first, last) = (file.path.clone(), file.rows, file.first, file.last);
        let sealed = file.end()?;
        let path = path_of(table, range.0, self.format.ending());
        let whole = self.directory.join(&path);
        let renamed = std::fs::rename(&part, &whole)
            .and_then(|()| File::open(self.directory.join(table.as_str()))?.sync_all());
        renamed.map_err(|source| ExportError::Io { path: whole, source })?;
        Ok(FileEntry {
            path,
            table: table.as_str().to_owned(),
            covers_from: range.0,
            covers_until: range.1,
            rows,
            first,
            last,
            bytes: sealed.bytes,
            blake3: sealed.blake3.to_hex().to_string(),
        })
    }
}

fn seq(number: u64) -> Result<Seq, ReadError> {
    // Every seq up to the ledger's newest is one.
    Seq::new(number).map_err(|error| ReadError::BrokeOff { reason: error.to_string() })
}

fn shown(selection: &Selection) -> String {
    serde_json::to_string(selection).unwrap_or_default()
}

/// The selection that goes on where an export ended.
///
/// # Errors
/// [`ManifestError`] where the ledger does not have its past.
pub fn going_on(manifest: &Manifest, reader: &Reader) -> Result<Selection, ManifestError> {
    manifest.hold_to(reader)?;
    let from = Seq::new(manifest.until.seq + 1).unwrap_or(Seq::MAX);
    Ok(Selection {
        from,
        until: None,
        from_time: None,
        until_time: None,
        ..manifest.selection.clone()
    })
}
