//! Holds an export to its manifest, and both to the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use daybook_ledger::Reader;
use daybook_schema::Seq;

use crate::columns::{TableName, columns_of};
use crate::export::ExportError;
use crate::files::{Ended, Format, TableFile};
use crate::manifest::{FileEntry, MANIFEST, Manifest, ManifestError};
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
    differences.extend(foreign_files(directory, &manifest));
    let mut ranges: BTreeMap<(Seq, Seq), Vec<&FileEntry>> = BTreeMap::new();
    let mut is_whole = true;
    for entry in &manifest.files {
        ranges.entry((entry.covers_from, entry.covers_until)).or_default().push(entry);
        if let Some(difference) = altered(directory, entry) {
            differences.push(difference);
            is_whole = false;
        }
    }
    differences.extend(gaps(&manifest, ranges.keys()));
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
    let mut hasher = blake3::Hasher::new();
    let hashed = File::open(&path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
    match hashed {
        Err(error) => Some(format!("{}: cannot be read: {error}", entry.path)),
        Ok(bytes) if bytes != entry.bytes => {
            Some(format!("{}: has {bytes} bytes, and had {}", entry.path, entry.bytes))
        }
        Ok(_) if hasher.finalize().to_hex().as_str() != entry.blake3 => {
            Some(format!("{}: was altered, its BLAKE3 is another", entry.path))
        }
        Ok(_) => None,
    }
}

/// Files beside those of the manifest that a tool would read with them.
fn foreign_files(directory: &Path, manifest: &Manifest) -> Vec<String> {
    let known: BTreeSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let mut foreign = Vec::new();
    for table in TableName::all() {
        let entries = std::fs::read_dir(directory.join(table.as_str()));
        for entry in entries.into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{}/{name}", table.as_str());
            let is_read = name.ends_with(&format!(".{}", manifest.format.ending()));
            if is_read && !known.contains(path.as_str()) {
                foreign.push(format!("{path}: is no file of this export"));
            }
        }
    }
    foreign.sort();
    foreign
}

/// Seqs that the files do not cover.
fn gaps<'a>(manifest: &Manifest, ranges: impl Iterator<Item = &'a (Seq, Seq)>) -> Option<String> {
    let mut last = manifest.after.seq;
    for (from, until) in ranges {
        if from.get() != last + 1 {
            return Some(format!("no file has the events from {} to {from}", last + 1));
        }
        last = until.get();
    }
    let until = manifest.until.seq;
    (last != until).then(|| format!("no file has the events from {} to {until}", last + 1))
}

/// The files of a range of seqs.
struct OfRange<'a> {
    directory: &'a Path,
    format: Format,
    range: (Seq, Seq),
    entries: Vec<&'a FileEntry>,
}

impl OfRange<'_> {
    /// Makes the rows once more, and compares.
    fn differences(&self, source: &mut Source<'_>) -> Result<Vec<String>, ExportError> {
        // Texts are made once more; a temporary directory removes itself.
        let scratch = tempfile::tempdir()
            .map_err(|source| ExportError::Io { path: std::env::temp_dir(), source })?;
        let mut differences = Vec::new();
        let of = |table: TableName| self.entries.iter().find(|entry| entry.table == table.as_str());
        let open = |table: TableName| match (self.format, of(table)) {
            (Format::Parquet, Some(entry)) => {
                TableFile::compare(self.directory.join(&entry.path), columns_of(table))
            }
            _ => TableFile::create(
                scratch.path().join(table.as_str()),
                self.format,
                columns_of(table),
            ),
        };
        let mut files = Files::new();
        for table in TableName::all().filter(|table| of(*table).is_some()) {
            files.insert(table, open(table)?);
        }
        source.fill(self.range, &mut files, open)?;
        for (table, file) in files {
            let (rows, first, last) = (file.rows, file.first, file.last);
            let ended = file.end()?;
            let Some(entry) = of(table) else {
                differences.push(format!("{}: a file of it is missing", table.as_str()));
                continue;
            };
            let told = (entry.rows, entry.first, entry.last);
            let differs = match ended {
                Ended::Compared(differs) => differs,
                Ended::Written(sealed) => (sealed.blake3.to_hex().as_str() != entry.blake3)
                    .then(|| "does not have the ledger's events".to_owned()),
            };
            let differs = differs.or_else(|| {
                (told != (rows, first, last))
                    .then(|| "the manifest tells other rows of it".to_owned())
            });
            differences.extend(differs.map(|differs| format!("{}: {differs}", entry.path)));
        }
        Ok(differences)
    }
}
