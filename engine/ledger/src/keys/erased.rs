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

/// What a whole line has: `usr_` and a UUID.
const ID_CHARACTERS: usize = 40;

/// The users that were erased, as far as the directory remembers.
///
/// # Errors
/// What the file system says, or that a line is no user's id. One that is shorter is passed over: an
/// interrupted write may have left it.
pub fn erased_users(directory: &Path) -> std::io::Result<Vec<UserId>> {
    match std::fs::read_to_string(directory.join(ERASED_FILE)) {
        Ok(text) => {
            let whole = text.lines().enumerate().filter(|(_, line)| line.len() >= ID_CHARACTERS);
            whole.map(|(index, line)| line.parse().map_err(|_| damaged(index + 1, line))).collect()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// An id that was altered is no reason to bring its user back.
fn damaged(line: usize, text: &str) -> std::io::Error {
    let what = format!("line {line} of `{ERASED_FILE}` is no user's id: {text:?}; put it right");
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_is_passed_over_and_one_that_was_altered_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = [UserId::random(), UserId::random()];
        remember_erased(directory.path(), first).unwrap();
        let path = directory.path().join(ERASED_FILE);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"usr_0193a0b0-1c2d").unwrap();
        remember_erased(directory.path(), second).unwrap();
        assert_eq!(erased_users(directory.path()).unwrap(), [first, second]);
        let altered = std::fs::read_to_string(&path).unwrap().replacen("usr_0", "usr_O", 1);
        std::fs::write(&path, altered).unwrap();
        let error = erased_users(directory.path()).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
