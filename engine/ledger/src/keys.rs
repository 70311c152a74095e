//! The keys directory: the operator's season keys and the signing key, one file each.

mod erased;
pub(crate) mod error;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use daybook_schema::KeyId;
use daybook_simulator::{Keyring, SeasonKey};
use ed25519_dalek::{SigningKey, VerifyingKey};
use zeroize::Zeroizing;

pub use self::erased::{erased_users, remember_erased};
pub use self::error::KeysError;
use crate::files::{UNFINISHED, create_directories_of_mode, write_private};
use crate::newest_head::{NewestHead, ledger_named};
use crate::signed_blocks_and_heads::Signer;

const SEASON_KEY_HEADER: &str = "daybook season key v1";
const SIGNING_KEY_HEADER: &str = "daybook signing key v1";
const SIGNING_KEY_FILE: &str = "signing.key";

/// The keys of a directory.
#[derive(Debug)]
pub struct Keys {
    /// The season keys.
    pub season_keys: Keyring,
    /// The public half of the signing key.
    pub verifying_key: VerifyingKey,
    /// Signs with the signing key.
    pub signer: Signer,
    /// Keeps the newest head of a ledger in the directory.
    pub newest_head: NewestHead,
}

/// A new season key, from the system's randomness.
///
/// # Errors
/// [`KeysError::Random`] when the system gives none.
pub fn random_season_key() -> Result<SeasonKey, KeysError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(KeysError::Random)?;
    Ok(SeasonKey::new(*bytes))
}

/// Makes a keys directory (mode 0700) with a season key and a signing key (mode 0600). What an
/// interrupted call left is completed by the next.
///
/// # Errors
/// As [`prepare`]; else what the file system says.
pub fn init(directory: &Path, season_key: &SeasonKey) -> Result<(), KeysError> {
    prepare(directory)?;
    add_season_key(directory, season_key)?;
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(KeysError::Random)?;
    // The signing key comes last: with it the directory is complete.
    write_key(&directory.join(SIGNING_KEY_FILE), SIGNING_KEY_HEADER, &seed)
}

/// Makes a keys directory without keys, or makes sure that one is there that [`init`] can fill.
///
/// # Errors
/// [`KeysError::Exists`] when the directory holds a signing key or anything that is not a key's;
/// [`KeysError::TooOpen`] when others may look into it; else what the file system says.
pub fn prepare(directory: &Path) -> Result<(), KeysError> {
    let io_error = |source| KeysError::Io { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return create_directories_of_mode(directory, 0o700).map_err(io_error);
        }
        Err(error) => return Err(io_error(error)),
    };
    for entry in entries {
        let name = entry.map_err(io_error)?.file_name().to_string_lossy().into_owned();
        if !is_key_file(&name) || name == SIGNING_KEY_FILE {
            return Err(KeysError::Exists { path: directory.to_owned() });
        }
    }
    check_mode(directory, 0o700)
}

/// Whether a directory is one of its own that holds nothing but keys, or is not there at all: one
/// that [`remove`] would remove whole.
#[must_use]
pub fn holds_only_keys(directory: &Path) -> bool {
    let Ok(found) = std::fs::symlink_metadata(directory) else { return true };
    let Ok(mut entries) = std::fs::read_dir(directory) else { return false };
    found.is_dir()
        && entries
            .all(|entry| entry.is_ok_and(|entry| is_key_file(&entry.file_name().to_string_lossy())))
}

/// Removes the keys of a directory and, if nothing else is in it, the directory.
///
/// # Errors
/// What the file system says.
pub fn remove(directory: &Path) -> Result<(), KeysError> {
    let io_error = |source| KeysError::Io { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(error)),
    };
    for entry in entries {
        let path = entry.map_err(io_error)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_key_file(&name) {
            std::fs::remove_file(&path).map_err(io_error)?;
        }
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => Err(io_error(error)),
        _ => Ok(()),
    }
}

/// The id that a season key's file is named by.
fn season_key_named(file_name: &str) -> Option<KeyId> {
    file_name.strip_prefix("season-")?.strip_suffix(".key")?.parse().ok()
}

/// Whether a file of this name is a key or a newest head, or what an interrupted write left of one.
fn is_key_file(file_name: &str) -> bool {
    let name = file_name.strip_suffix(UNFINISHED).unwrap_or(file_name);
    [SIGNING_KEY_FILE, erased::ERASED_FILE].contains(&name)
        || season_key_named(name).is_some()
        || ledger_named(name).is_some()
}

/// Adds a season key to a keys directory; synced before it returns.
///
/// # Errors
/// What the file system says.
pub fn add_season_key(directory: &Path, key: &SeasonKey) -> Result<(), KeysError> {
    let path = directory.join(format!("season-{}.key", key.key_id()));
    write_key(&path, SEASON_KEY_HEADER, key.expose())
}

fn write_key(path: &Path, header: &str, bytes: &[u8; 32]) -> Result<(), KeysError> {
    let mut text = Zeroizing::new(format!("{header}\n"));
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text.push('\n');
    if path.exists() {
        let source = std::io::ErrorKind::AlreadyExists.into();
        return Err(KeysError::Io { path: path.to_owned(), source });
    }
    let io_error = |source| KeysError::Io { path: path.to_owned(), source };
    write_private(path, text.as_bytes()).map_err(io_error)
}

/// Reads the keys of a directory.
///
/// # Errors
/// [`KeysError`] when there is none, when others may read it, or when a file is not a key.
pub fn load(directory: &Path) -> Result<Keys, KeysError> {
    let io_error = |source| KeysError::Io { path: directory.to_owned(), source };
    match std::fs::metadata(directory.join(SIGNING_KEY_FILE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(KeysError::Missing { path: directory.to_owned() });
        }
        Err(error) => return Err(io_error(error)),
        Ok(_) => check_mode(directory, 0o700)?,
    }
    let mut season_keys = Keyring::default();
    for entry in std::fs::read_dir(directory).map_err(io_error)? {
        let path = entry.map_err(io_error)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(named) = season_key_named(&name) else { continue };
        let key = SeasonKey::new(*read_key(&path, SEASON_KEY_HEADER)?);
        if named != key.key_id() {
            let problem = format!("it holds key {}", key.key_id());
            return Err(KeysError::NotAKey { path, problem });
        }
        season_keys.insert(key);
    }
    let seed = read_key(&directory.join(SIGNING_KEY_FILE), SIGNING_KEY_HEADER)?;
    let signer = Signer::new(SigningKey::from_bytes(&seed));
    let newest_head = NewestHead::new(directory, signer.clone());
    Ok(Keys { season_keys, verifying_key: signer.verifying_key(), signer, newest_head })
}

fn read_key(path: &Path, header: &str) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    check_mode(path, 0o600)?;
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|source| KeysError::Io { path: path.to_owned(), source })?;
    let problem =
        |problem: &str| KeysError::NotAKey { path: path.to_owned(), problem: problem.to_owned() };
    let mut lines = text.lines();
    if lines.next() != Some(header) {
        return Err(problem(&format!("its first line is not `{header}`")));
    }
    let digits = lines.next().ok_or_else(|| problem("its second line is missing"))?;
    // The parsed type is a public hash's, whose bytes are copied out at once.
    let parsed: daybook_schema::DayKey =
        digits.parse().map_err(|_| problem("its second line is not 64 hex digits"))?;
    Ok(Zeroizing::new(*parsed.as_bytes()))
}

fn check_mode(path: &Path, expected: u32) -> Result<(), KeysError> {
    let found = std::fs::metadata(path)
        .map_err(|source| KeysError::Io { path: path.to_owned(), source })?;
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeysError::TooOpen { path: path.to_owned(), mode, expected });
    }
    Ok(())
}
