//! What a `DATABASE_URL` names.

use std::path::PathBuf;

/// What a `DATABASE_URL` cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// A database that is reached over the network.
    #[error(
        "`{url}` is a libSQL server's: Daybook keeps game.db in a file beside the ledger and writes rows and \
         position in one transaction there; name a file, and send copies of it on (docs/PROJECTIONS.md)"
    )]
    Remote {
        /// What was given.
        url: String,
    },
    /// Another scheme, or parameters.
    #[error("`{url}` names no SQLite file; write ./game.db, file:game.db or sqlite://game.db")]
    Unknown {
        /// What was given.
        url: String,
    },
}

/// The file that a `DATABASE_URL` names: `./x.db`, `file:x.db` and `sqlite://x.db` mean the same.
///
/// # Errors
/// [`DatabaseUrlError`] when it names something else.
pub fn path_of_url(url: &str) -> Result<PathBuf, DatabaseUrlError> {
    let unknown = || DatabaseUrlError::Unknown { url: url.to_owned() };
    let file = ["sqlite://", "sqlite:", "file://", "file:"]
        .iter()
        .find_map(|prefix| url.strip_prefix(prefix))
        .unwrap_or(url);
    if file.contains("://") {
        let is_libsql = ["libsql://", "http://", "https://", "ws://", "wss://"]
            .iter()
            .any(|prefix| url.starts_with(prefix));
        let remote = DatabaseUrlError::Remote { url: url.to_owned() };
        return Err(if is_libsql { remote } else { unknown() });
    }
    // `file://HOST/…` names another machine's.
    let has_host = url.starts_with("file://") && !file.starts_with('/');
    if file.is_empty() || has_host || file.contains('?') || file == ":memory:" {
        return Err(unknown());
    }
    Ok(PathBuf::from(file))
}
