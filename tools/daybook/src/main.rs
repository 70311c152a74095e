//! The `daybook` command: a thin user of the libraries.
//!
//! Results go to stdout, everything else to stderr. Exit status: 0 done, and what was checked
//! holds; 1 the check found something wrong; 2 the command could not be carried out.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod analytics;
mod arguments;
mod backup;
mod demo;
mod export;
mod hints;
mod keys;
mod load;
mod migrate;
mod odds;
mod operate;
mod output;
mod pause;
mod projections;
mod relay;
mod replay;
mod report;
mod season_page;
mod serve;
mod stats;
mod tail;
mod user;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::arguments::serve::LogFormat;
use crate::arguments::{Arguments, Command};

/// Lines of a service's log that wait to be written.
const LOG_LINES_WAITING_MAX: usize = 16_384;

/// What a command that could be carried out says of what it checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Done; what was checked holds.
    Holds,
    /// Done; something is wrong.
    DoesNotHold,
}

fn main() -> ExitCode {
    let arguments = match Arguments::from_command_line() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let _log = log(&arguments);
    match run(arguments) {
        Ok(Outcome::Holds) => ExitCode::SUCCESS,
        Ok(Outcome::DoesNotHold) => ExitCode::from(1),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be done where stderr is closed too.
            let hint = hints::hint(&error).map_or(String::new(), |hint| format!("; {hint}"));
            let _ = writeln!(std::io::stderr(), "daybook: {}{hint}", in_one_line(&error));
            ExitCode::from(2)
        }
    }
}

/// Logs go to stderr: as text without times, or of a service with times, or as one JSON object a
/// line. A service is not held up by whoever reads them: what it cannot write is dropped. The guard
/// writes the last lines when it is dropped.
fn log(arguments: &Arguments) -> Option<WorkerGuard> {
    // What the NATS client says at each try, we say once.
    let told = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("async_nats", LevelFilter::OFF)
        // What is slow the monitor tells, without its SQL.
        .with_target("sqlx", LevelFilter::ERROR);
    let registry = tracing_subscriber::registry().with(told);
    // A log that cannot be written is no reason to stop.
    let layer = tracing_subscriber::fmt::layer().log_internal_errors(false);
    let Command::Serve(serve) = &arguments.command else {
        let layer = layer.with_writer(std::io::stderr).without_time().with_target(false);
        registry.with(layer).init();
        return None;
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LOG_LINES_WAITING_MAX)
        .finish(std::io::stderr());
    let layer = layer.with_writer(writer);
    match serve.log_format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
        LogFormat::Text => registry.with(layer.with_target(false)).init(),
    }
    Some(guard)
}

/// The causes after one another, whatever line breaks they have; what one repeats of its cause is
/// said once.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if !line.ends_with(&text) {
            line.push_str(if line.is_empty() { "" } else { ": " });
            line.push_str(&text);
        }
    }
    line
}

/// Prints help as it is, and what is wrong with the command line in one line.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nothing is left to be done where stdout is closed.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".to_owned(),
        _ => error.render().to_string(),
    };
    // The paragraph that says what is wrong; usage and a hint at the help follow it.
    let ends = |line: &str| line.starts_with("Usage:") || line.starts_with("For more information");
    let wrong: Vec<&str> = text.lines().take_while(|line| !ends(line)).collect();
    let wrong = wrong.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    let wrong = wrong.trim_start_matches("error: ").trim_end_matches('.');
    let _ = writeln!(std::io::stderr(), "daybook: {wrong}; `daybook --help` tells more");
    ExitCode::from(2)
}

fn run(arguments: Arguments) -> Result<Outcome> {
    match arguments.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Serve(arguments) => serve::run(*arguments),
        Command::User(arguments) => user::run(&arguments),
        Command::Load(arguments) => load::run(&arguments),
        Command::Stats(arguments) => stats::run(&arguments),
        Command::Pause(arguments) => pause::pause(&arguments),
        Command::Resume(arguments) => pause::resume(&arguments),
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Restore(arguments) => backup::run_restore(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Tail(arguments) => tail::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Odds(arguments) => odds::run(&arguments),
        Command::Keys(arguments) => keys::run(&arguments),
        Command::Relay(arguments) => relay::run(&arguments),
        Command::Projections(arguments) => projections::run(&arguments),
        Command::Migrate(arguments) => migrate::run(&arguments),
        Command::Analytics(arguments) => analytics::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Completions { shell } => arguments::completions(shell),
    }
}

/// Files that a runtime may open for itself.
const FILES_OF_A_RUNTIME: usize = 16;

/// Runs what waits for databases and servers.
fn runtime() -> Result<tokio::runtime::Runtime> {
    // Where it cannot open what it needs it panics.
    (0..FILES_OF_A_RUNTIME)
        .map(|_| std::fs::File::open("/dev/null"))
        .collect::<std::io::Result<Vec<_>>>()?;
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Whoever reads our output has seen enough: no error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    // What a service did not answer is no output that somebody saw enough of.
    if error.chain().any(|cause| cause.is::<reqwest::Error>()) {
        return false;
    }
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
