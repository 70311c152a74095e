//! Holds an export to its manifest, and both to the ledger.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use daybook_ledger::Reader;
use daybook_schema::Seq;

use crate::columns::{TableName, columns_of};
use crate::directory::{DirectoryLock, foreign_files};
use crate::error::ExportError;
use crate::files::{Format, TableFile};
use crate::manifest::{FileEntry, MANIFEST, Manifest, ManifestError};
use crate::shape::faults;
use crate::tables::{Files, Source};

/// What was found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What the export says of itself.
    pub manifest: Manifest,
    /// What differs, each with its file; none where all holds.
    pub differences: Vec<String>,
}

/// Holds an export to the ledger: that each file is the one that was written, and that its rows are
/// the ledger's. `passed` is told how many events were passed.
///
/// # Errors
/// [`ExportError`] where it cannot be told.
pub fn check(
    directory: &Path,
    reader: &Reader,
    passed: &mut dyn FnMut(u64),
) -> Result<Checked, ExportError> {
    // Files get their names before the manifest names them.
    let _lock = DirectoryLock::shared(directory)?;
    let manifest = Manifest::read(&directory.join(MANIFEST))?;
    let mut differences = Vec::new();
    match manifest.hold_to(reader) {
        Ok(()) => {}
        Err(error @ (ManifestError::AnotherLedger { .. } | ManifestError::AnotherPast { .. })) => {
            let differences = vec![error.to_string()];
            return Ok(Checked { manifest, differences });
        }
        Err(error) => return Err(error.into()),
    }
    differences.extend(faults(&manifest, reader)?);
    // Files are looked for where an export puts them, and nowhere else.
    if !differences.is_empty() {
        return Ok(Checked { manifest, differences });
    }
    let foreign = foreign_files(directory, &manifest).into_iter();
    differences.extend(foreign.map(|name| {
        format!("{name}: is no file of this export; where one was cut off, the same command again goes on")
    }));
    let mut ranges: BTreeMap<(Seq, Seq), Vec<&FileEntry>> = BTreeMap::new();
    let mut is_whole = true;
    for entry in &manifest.files {
        ranges.entry((entry.covers_from, entry.covers_until)).or_default().push(entry);
        if let Some(difference) = altered(directory, entry) {
            differences.push(difference);
            is_whole = false;
        }
    }
    // Rows of a file that is not the one that was written are not worth a look.
    if is_whole {
        let mut source = Source::new(reader, &manifest.selection, passed);
        for (range, entries) in ranges {
            let of_range = OfRange { directory, format: manifest.format, range, entries };
            differences.extend(of_range.differences(&mut source)?);
        }
    }
    Ok(Checked { manifest, differences })
}

/// Whether a file is there as it was written.
fn altered(directory: &Path, entry: &FileEntry) -> Option<String> {
    let path = directory.join(&entry.path);
    // What is no file could be read without end.
    match std::fs::symlink_metadata(&path) {
        Err(error) => return Some(format!("{}: cannot be read: {error}", entry.path)),
        Ok(found) if !found.is_file() => return Some(format!("{}: is no file", entry.path)),
        Ok(found) if found.len() != entry.bytes => {
            let (bytes, had) = (found.len(), entry.bytes);
            return Some(format!("{}: has {bytes} bytes, and had {had}", entry.path));
        }
        Ok(_) => {}
    }
    let mut hasher = blake3::Hasher::new();
    let hashed = File::open(&path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
    match hashed {
        Err(error) => Some(format!("{}: cannot be read: {error}", entry.path)),
        Ok(_) if hasher.finalize().to_hex().as_str() != entry.blake3 => {
            Some(format!("{}: was altered, its BLAKE3 is another", entry.path))
        }
        Ok(_) => None,
    }
}

/// The files of a range of seqs.
struct OfRange<'a> {
    directory: &'a Path,
    format: Format,
    range: (Seq, Seq),
    entries: Vec<&'a FileEntry>,
}

impl OfRange<'_> {
    /// Makes the files once more, and compares what they hash to: footers and statistics, by which
    /// tools leave parts out, are held to the ledger too.
    fn differences(&self, source: &mut Source<'_>) -> Result<Vec<String>, ExportError> {
        let of = |table: TableName| self.entries.iter().find(|entry| entry.table == table.as_str());
        let open = |table: TableName| {
            let path = self.directory.join(table.as_str());
            TableFile::hashed(path, self.format, columns_of(table))
        };
        let mut files = Files::new();
        for table in TableName::all().filter(|table| of(*table).is_some()) {
            files.insert(table, open(table)?);
        }
        source.fill(self.range, &mut files, open)?;
        let mut differences = Vec::new();
        for (table, file) in files {
            let told = (file.rows, file.first, file.last);
            let sealed = file.end()?;
            let Some(entry) = of(table) else {
                differences.push(format!("{}: a file of it is missing", table.as_str()));
                continue;
            };
            let differs = if sealed.blake3.to_hex().as_str() != entry.blake3 {
                "is not what this version writes of the ledger's events"
            } else if told != (entry.rows, entry.first, entry.last) {
                "the manifest tells other rows of it"
            } else {
                continue;
            };
            differences.push(format!("{}: {differs}", entry.path));
        }
        Ok(differences)
    }
}
