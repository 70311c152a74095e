//! Holds an export to its manifest, and both to the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use daybook_ledger::Reader;
use daybook_schema::Seq;

use crate::columns::{TableName, columns_of};
use crate::export::ExportError;
use crate::files::{Ended, FileError, Format, TableFile};
use crate::manifest::{FileEntry, LOCK, MANIFEST, Manifest, ManifestError};
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

/// What lies beside the files of the manifest: a tool could read it with them.
fn foreign_files(directory: &Path, manifest: &Manifest) -> Vec<String> {
    let known: BTreeSet<&str> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let tables: BTreeSet<&str> = manifest.rows.keys().map(String::as_str).collect();
    let names = |directory: &Path| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let mut foreign = Vec::new();
    for name in names(directory) {
        if !tables.contains(name.as_str()) {
            foreign.push(name);
            continue;
        }
        let of_table = names(&directory.join(&name)).map(|file| format!("{name}/{file}"));
        foreign.extend(of_table.filter(|path| !known.contains(path.as_str())));
    }
    // What a kill left is no file of a table yet.
    foreign.retain(|name| name != MANIFEST && name != LOCK && !name.ends_with(".part"));
    foreign.sort();
    foreign.into_iter().map(|name| format!("{name}: is no file of this export")).collect()
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
        let of = |table: TableName| self.entries.iter().find(|entry| entry.table == table.as_str());
        let mut differences = Vec::new();
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
            match open(table) {
                Ok(file) => drop(files.insert(table, file)),
                Err(error) => differences.push(format!("{}: {}", table.as_str(), in_full(&error))),
            }
        }
        if !differences.is_empty() {
            return Ok(differences);
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

fn in_full(error: &FileError) -> String {
    format!("{error}: {}", error.source)
}
