//! A disk beneath a page cache: what a power cut may leave of what was written and not synced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use daybook_simulator::Generator;

use crate::shim::{Call, What};

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

/// A file as the disk and the page cache have it.
#[derive(Clone, Default)]
struct File {
    /// What is certainly on the disk.
    durable: Vec<u8>,
    /// What was done since and is not synced.
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { length: usize },
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::Truncate { length } => content.resize(*length, 0),
        }
    }

    /// What a power cut leaves of it: all, nothing, or some of its sectors.
    fn survive(&self, content: &mut Vec<u8>, chance: &mut Generator) {
        match (chance.below(3), self) {
            (0, _) => {}
            (1, Self::Write { offset, bytes }) => {
                for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                    if chance.below(2) == 0 {
                        let offset = offset + index * SECTOR;
                        Self::Write { offset, bytes: sector.to_vec() }.apply(content);
                    }
                }
            }
            _ => self.apply(content),
        }
    }
}

/// What was done to the names of a directory and is not synced.
#[derive(Clone)]
enum Naming {
    Add(PathBuf, usize),
    Move(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Add(path, file) => drop(names.insert(path.clone(), *file)),
            Self::Move(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Self::Remove(path) => drop(names.remove(path)),
        }
    }
}

/// A disk beneath a page cache.
#[derive(Default)]
pub struct Disk {
    files: Vec<File>,
    /// The names as processes see them.
    names: BTreeMap<PathBuf, usize>,
    /// The names that are certainly on the disk.
    durable_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<Naming>,
}

impl Disk {
    pub fn of(root: &Path) -> Self {
        let mut disk = Self::default();
        disk.add_directory(root);
        disk.durable_names = disk.names.clone();
        disk
    }

    fn add_directory(&mut self, directory: &Path) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.add_directory(&path);
            } else if !path.to_string_lossy().ends_with("-shm") {
                let durable = std::fs::read(&path).unwrap();
                self.names.insert(path, self.files.len());
                self.files.push(File { durable, pending: Vec::new() });
            }
        }
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.pending_names.push(naming);
    }

    /// What a call does to it.
    pub fn take(&mut self, call: &Call) {
        let file = self.names.get(&call.path).copied();
        let change = match &call.what {
            What::Printed { .. } => return,
            What::Create => {
                self.files.push(File::default());
                return self.name(Naming::Add(call.path.clone(), self.files.len() - 1));
            }
            What::Rename { to } => return self.name(Naming::Move(call.path.clone(), to.clone())),
            What::Unlink => return self.name(Naming::Remove(call.path.clone())),
            What::Synced { succeeded } => {
                assert!(succeeded);
                return self.sync(file, &call.path);
            }
            What::Write { offset, bytes } => {
                Change::Write { offset: *offset, bytes: bytes.clone() }
            }
            What::Truncate { length } => Change::Truncate { length: *length },
        };
        if let Some(file) = file {
            self.files[file].pending.push(change);
        }
    }

    fn sync(&mut self, file: Option<usize>, path: &Path) {
        match file {
            Some(file) => {
                let File { durable, pending } = &mut self.files[file];
                pending.drain(..).for_each(|change| change.apply(durable));
            }
            // A directory: its names are on the disk now.
            None => {
                let is_here = |naming: &Naming| match naming {
                    Naming::Add(name, _) | Naming::Move(_, name) | Naming::Remove(name) => {
                        name.parent() == Some(path)
                    }
                };
                let (here, elsewhere): (Vec<_>, Vec<_>) =
                    self.pending_names.drain(..).partition(is_here);
                here.iter().for_each(|naming| naming.apply(&mut self.durable_names));
                self.pending_names = elsewhere;
            }
        }
    }

    /// Writes what a power cut leaves into another root.
    pub fn cut(&self, (from, to): (&Path, &Path), chance: &mut Generator) {
        let mut names = self.durable_names.clone();
        for naming in &self.pending_names {
            if chance.below(2) == 0 {
                naming.apply(&mut names);
            }
        }
        for (path, file) in names {
            let File { mut durable, pending } = self.files[file].clone();
            pending.iter().for_each(|change| change.survive(&mut durable, chance));
            let path = to.join(path.strip_prefix(from).unwrap());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, durable).unwrap();
            make_private(&path);
        }
    }
}

/// Rights are no part of what is simulated: those of keys are put back.
fn make_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    if path.parent().unwrap().ends_with("keys") {
        set(path.parent().unwrap(), 0o700);
        set(path, 0o600);
    }
}

/// A call as if it had been made below another root.
pub fn rebased(call: &Call, (from, to): (&Path, &Path)) -> Call {
    let path = |path: &Path| match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    };
    let what = match &call.what {
        What::Create => What::Create,
        What::Write { offset, bytes } => What::Write { offset: *offset, bytes: bytes.clone() },
        What::Truncate { length } => What::Truncate { length: *length },
        What::Rename { to } => What::Rename { to: path(to) },
        What::Unlink => What::Unlink,
        What::Synced { succeeded } => What::Synced { succeeded: *succeeded },
        What::Printed { text } => What::Printed { text: text.clone() },
    };
    Call { what, path: path(&call.path) }
}

pub fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
