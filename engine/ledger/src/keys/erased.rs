//! Whom a keys directory remembers as erased: no restore of the data brings them back, because what
//! is here is not restored with it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use daybook_schema::UserId;

use crate::files::sync_directory;

/// The file, a user's id a line.
pub(super) const ERASED_FILE: &str = "erased";

/// The users that were erased, as far as the directory remembers.
///
/// # Errors
/// What the file system says. A line that is no user's id is passed over: an interrupted write may
/// have left it.
pub fn erased_users(directory: &Path) -> std::io::Result<Vec<UserId>> {
    match std::fs::read_to_string(directory.join(ERASED_FILE)) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Remembers a user as erased; synced before it returns.
///
/// # Errors
/// What the file system says.
pub fn remember_erased(directory: &Path, user_id: UserId) -> std::io::Result<()> {
    if erased_users(directory)?.contains(&user_id) {
        return Ok(());
    }
    let path = directory.join(ERASED_FILE);
    let mut file = File::options().create(true).append(true).mode(0o600).open(path)?;
    // A line that was cut short is ended first.
    file.write_all(format!("\n{user_id}\n").as_bytes())?;
    file.sync_all()?;
    sync_directory(directory)
}
