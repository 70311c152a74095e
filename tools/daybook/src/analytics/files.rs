//! The files that answer.

use std::path::Path;

use anyhow::{Context, Result, bail};
use daybook_projections::sqlx;
use daybook_projections::{Look, look};

/// A file as it is at one moment, for all that is read of it.
pub(super) async fn moment_of(path: &Path) -> Result<Look> {
    let mut looked = look(path).await.with_context(|| unread(path))?;
    let begun = sqlx::query("BEGIN").execute(&mut looked.connection).await;
    begun.with_context(|| unread(path))?;
    Ok(looked)
}

pub(super) fn must_exist(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    bail!(
        "there is no `{}`; name its directory with --data, or make one with `daybook demo` or `daybook serve`",
        path.display()
    );
}

pub(super) fn unread(path: &Path) -> String {
    format!("`{}` cannot be read", path.display())
}
