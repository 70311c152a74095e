//! `daybook user`.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use daybook_api::{BOTS_AT_ONCE_MAX, ListedToken, Settings, Task, TaskAnswer};
use daybook_schema::UnixMicros;

use crate::Outcome;
use crate::arguments::user::{UserArguments, UserCommand, UserCommonArguments};
use crate::operate::{operate, operator};
use crate::output::{grouped, note, progress_bar, shown_time, table, write_json, write_line};

/// The longest password that stdin may hold, in bytes.
const PASSWORD_BYTES_MAX: u64 = 1_024;

pub(crate) fn run(arguments: &UserArguments) -> Result<Outcome> {
    if let UserCommand::Bots { count, sessions, common } = &arguments.command {
        return make_bots(*count, sessions, common);
    }
    let (task, common, settings) = task(&arguments.command)?;
    let answer = operate(common, settings, task)?;
    report(&arguments.command, common, &answer)?;
    Ok(Outcome::Holds)
}

/// What is asked for.
fn task(command: &UserCommand) -> Result<(Task, &UserCommonArguments, Settings)> {
    let settings = Settings::default();
    Ok(match command {
        UserCommand::Create { email, display_name, role, common } => {
            let name = email.split('@').next().unwrap_or_default();
            let display_name = display_name.clone().unwrap_or_else(|| name.to_owned());
            let (email, password) = (email.clone(), password()?);
            (Task::Create { email, display_name, role: *role, password }, common, settings)
        }
        UserCommand::Role { user, role, common } => {
            (Task::SetRole { user: user.clone(), role: *role }, common, settings)
        }
        UserCommand::ResetPassword { named, public_url } => {
            let public_url = public_url.clone().unwrap_or(settings.public_url);
            let settings = Settings { public_url, ..Settings::default() };
            (Task::ResetPassword { user: named.user.clone() }, &named.common, settings)
        }
        UserCommand::Show(named) => {
            (Task::Show { user: named.user.clone() }, &named.common, settings)
        }
        UserCommand::Passwd(named) => {
            let (user, password) = (named.user.clone(), password()?);
            (Task::SetPassword { user, password }, &named.common, settings)
        }
        UserCommand::Export(named) => {
            let user = named.user.clone();
            (Task::Export { user, telemetry_before: None }, &named.common, settings)
        }
        UserCommand::Lock(named) => {
            (Task::Lock { user: named.user.clone() }, &named.common, settings)
        }
        UserCommand::Unlock(named) => {
            (Task::Unlock { user: named.user.clone() }, &named.common, settings)
        }
        UserCommand::Token { name, scope, users, common } => {
            let (name, users) = (name.clone(), users.as_deref().map(users_of).transpose()?);
            let task = match (scope.is_empty(), users) {
                (true, None) => {
                    bail!("a token needs --scope, or --users to let one play for more users")
                }
                (true, Some(users)) => Task::BindToken { name, users },
                (false, users) => {
                    let (scopes, users) = (scope.clone(), users.unwrap_or_default());
                    Task::MakeToken { name, scopes, users, by: operator() }
                }
            };
            (task, common, settings)
        }
        UserCommand::Tokens(common) => (Task::ListTokens, common, settings),
        // Made some at a time.
        UserCommand::Bots { count, common, .. } => (Task::Bots { count: *count }, common, settings),
        UserCommand::RevokeToken { name, common } => {
            (Task::RevokeToken { name: name.clone(), by: operator() }, common, settings)
        }
        UserCommand::Erase(named) => {
            (Task::Erase { user: named.user.clone() }, &named.common, settings)
        }
    })
}

/// Makes bots, and writes their sessions: the file is its owner's alone.
fn make_bots(count: u32, sessions: &Path, common: &UserCommonArguments) -> Result<Outcome> {
    let unwritten = || format!("`{}` cannot be written", sessions.display());
    let mut options = std::fs::File::options();
    let file = options.write(true).create_new(true).mode(0o600).open(sessions);
    let mut file = std::io::BufWriter::new(file.with_context(unwritten)?);
    let bar = progress_bar(count.into(), "bots");
    let mut left = count;
    while left > 0 {
        let some = left.min(BOTS_AT_ONCE_MAX);
        let answer = operate(common, Settings::default(), Task::Bots { count: some })?;
        for bot in answer.bots.unwrap_or_default() {
            serde_json::to_writer(&mut file, &bot)?;
            file.write_all(b"\n").with_context(unwritten)?;
        }
        left -= some;
        bar.inc(some.into());
    }
    file.flush().with_context(unwritten)?;
    bar.finish_and_clear();
    write_line(&format!("{count} bots; their sessions are in `{}`", sessions.display()))?;
    Ok(Outcome::Holds)
}

/// The users that a file names, one on each line.
fn users_of(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("`{}` cannot be read", file.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

/// The first line of stdin: never an argument, which other users of the machine could see.
fn password() -> Result<String> {
    let mut text = String::new();
    let stdin = std::io::stdin().lock();
    stdin.take(PASSWORD_BYTES_MAX).read_to_string(&mut text).context("stdin cannot be read")?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        bail!("stdin holds no password; give it as its first line");
    }
    Ok(line.to_owned())
}

fn report(command: &UserCommand, common: &UserCommonArguments, answer: &TaskAnswer) -> Result<()> {
    if let Some(export) = &answer.export {
        return write_json(export);
    }
    if common.json.json {
        return write_json(answer);
    }
    if let Some(link) = &answer.link {
        return write_line(link);
    }
    if let Some(token) = &answer.token {
        return write_line(token);
    }
    if let Some(tokens) = &answer.tokens {
        return list(tokens);
    }
    if let UserCommand::Token { .. } = command {
        return write_line(&format!("`{}` may play for them", answer.id));
    }
    if let UserCommand::RevokeToken { .. } = command {
        return write_line(&format!("`{}` is revoked", answer.id));
    }
    let text = |name: &str| {
        let user = answer.user.as_ref();
        user.and_then(|user| user.get(name))
            .and_then(|value| value.as_str())
            .unwrap_or("-")
            .to_owned()
    };
    if matches!(command, UserCommand::Erase(_)) {
        tell_copies(&common.data.data);
        return write_line(&format!("{} is erased", answer.id));
    }
    let locked = if answer.is_locked { ", locked" } else { "" };
    write_line(&format!(
        "{}  {}  {}  {}{locked}",
        answer.id,
        text("email"),
        text("displayName"),
        text("role"),
    ))
}

fn list(tokens: &[ListedToken]) -> Result<()> {
    let rows = tokens.iter().map(|token| {
        let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
        let at = |seconds| shown_time(UnixMicros::from_seconds(seconds));
        vec![
            token.name.clone(),
            scopes.join(", "),
            grouped(i128::from(token.users)),
            at(token.created_at),
            token.created_by.clone(),
            token.revoked_at.map_or("-".to_owned(), at),
        ]
    });
    let head = ["name", "scopes", "users", "made", "by", "revoked"];
    write_line(&table(&head, rows).to_string())
}

/// Copies that were made before may still hold what was erased: they are their owner's to remove.
fn tell_copies(data: &Path) {
    let holds = |name: &str| {
        [
            "accounts.db.rescued-",
            "game.db.damaged-",
            "game.db.given-over-",
            "telemetry.db.set-aside-",
            "accounts-",
            "game-",
            "telemetry-",
        ]
        .iter()
        .any(|beginning| name.starts_with(beginning))
    };
    for directory in [data.to_owned(), data.join("backups")] {
        let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if holds(&name) {
                note(&format!("`{}` may still hold what was erased", path.display()));
            }
        }
    }
}
