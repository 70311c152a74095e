//! The file of `serve`'s configuration: TOML, whose keys are the names of the options. What it says
//! takes the place of the defaults, so that variables and flags come before it. `user`, `pause`,
//! `resume`, `backup`, `restore` and `verify` take from it what they have too.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Error};
use toml::{Table, Value};

/// What it is called in the data directory.
const FILE: &str = "daybook.toml";
/// What is said on the command line alone.
const NOT_IN_A_FILE: [&str; 4] = ["config", "check_config", "help", "version"];
/// What is meant for one start: left on, it would hold for every later loss too.
const FOR_ONE_START: [&str; 5] =
    ["accept_loss", "accept_clock", "known_head", "new_accounts", "instead_of"];
/// How alike two names are that may be meant for one another.
const ALIKE_MIN: f64 = 0.75;

/// The file that counts: the one that is named, or the data directory's own.
pub(super) fn of(named: Option<&Path>, data: &Path) -> Option<PathBuf> {
    let usual = || Some(data.join(FILE)).filter(|path| path.exists());
    named.map(Path::to_owned).or_else(usual)
}

fn refused(mut command: Command, path: &Path, what: &str) -> Error {
    command.error(ErrorKind::InvalidValue, format!("in `{}`: {what}", path.display()))
}

/// An error that the file caused, for the command line alone had none.
pub(super) fn blamed(command: Command, error: &Error, path: &Path) -> Error {
    let text = error.render().to_string();
    let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    refused(command, path, what)
}

/// The command with the file's values for defaults.
pub(super) fn with_file(command: Command, path: &Path) -> Result<Command, Error> {
    let refused = |what: &str| refused(command.clone(), path, what);
    let text = std::fs::read_to_string(path).map_err(|error| refused(&error.to_string()))?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line =
            error.span().map_or(0, |span| text.split_at(span.start).0.matches('\n').count() + 1);
        refused(&format!("line {line}: {}", error.message()))
    })?;
    let known = known_names(&command);
    let mut defaults = Vec::new();
    for (key, value) in table {
        let id = key.replace('-', "_");
        if !known.contains(&id) {
            return Err(refused(&unknown(&key, &known)));
        }
        if FOR_ONE_START.contains(&id.as_str()) {
            return Err(refused(&format!("`{key}` is for one start: say it on the command line")));
        }
        if defaults.iter().any(|(other, _)| *other == id) {
            return Err(refused(&format!("`{key}` stands there twice")));
        }
        if value.is_array() && !takes_several(&command, &id) {
            return Err(refused(&format!("`{key}` takes one value, not a list")));
        }
        let values = texts(value).ok_or_else(|| {
            refused(&format!("`{key}` must be a text, a number, true or false, or a list of these"))
        })?;
        if !values.is_empty() {
            defaults.push((id, values));
        }
    }
    let with_defaults = |mut command: Command| {
        for (id, values) in &defaults {
            if command.get_arguments().any(|argument| argument.get_id().as_str() == id) {
                command = command.mut_arg(id, |argument| argument.default_values(values.clone()));
            }
        }
        command
    };
    let command = ["serve", "pause", "resume", "backup", "restore", "verify"]
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, with_defaults));
    Ok(command.mut_subcommand("user", |user| user.mut_subcommands(with_defaults)))
}

/// Each option of `serve`, what it comes to, and where that is from.
pub(super) fn shown(command: &Command, matches: &ArgMatches, file: Option<&Path>) -> Vec<String> {
    let options = command.find_subcommand("serve").into_iter().flat_map(Command::get_arguments);
    let Some(("serve", matches)) = matches.subcommand() else { return Vec::new() };
    let line = |argument: &Arg| {
        let id = argument.get_id().as_str();
        if NOT_IN_A_FILE.contains(&id) {
            return None;
        }
        let values = matches.get_raw(id).into_iter().flatten();
        let values: Vec<_> = values.map(|value| value.to_string_lossy().into_owned()).collect();
        let value = match values.is_empty() {
            true => "-".to_owned(),
            false if argument.is_hide_env_values_set() => "…".to_owned(),
            false => values.join(", "),
        };
        let default = || argument.get_default_values().iter().map(|value| value.to_string_lossy());
        let from = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => "flag",
            Some(ValueSource::EnvVariable) => "variable",
            // A flag that nobody set.
            Some(_) if matches!(argument.get_action(), ArgAction::SetTrue) && value == "false" => {
                "default"
            }
            Some(_) if !default().eq(values.iter().map(String::as_str)) && file.is_some() => "file",
            _ => "default",
        };
        Some(format!("{:26} {value}  ({from})", id.replace('_', "-")))
    };
    options.filter_map(line).collect()
}

fn known_names(command: &Command) -> Vec<String> {
    let serve = command.find_subcommand("serve");
    let names = serve.into_iter().flat_map(Command::get_arguments);
    let names = names.map(|argument| argument.get_id().to_string());
    names.filter(|name| !NOT_IN_A_FILE.contains(&name.as_str())).collect()
}

/// Whether an option may be given more than once.
fn takes_several(command: &Command, id: &str) -> bool {
    let serve = command.find_subcommand("serve");
    let mut arguments = serve.into_iter().flat_map(Command::get_arguments);
    let found = arguments.find(|argument| argument.get_id().as_str() == id);
    found.is_some_and(|argument| matches!(argument.get_action(), ArgAction::Append))
}

/// Says which name may have been meant.
fn unknown(key: &str, known: &[String]) -> String {
    let alike = |name: &String| strsim::jaro_winkler(&key.replace('-', "_"), name);
    let nearest = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    match nearest.filter(|name| alike(name) >= ALIKE_MIN) {
        Some(name) => {
            let name = name.replace('_', "-");
            format!("there is no setting `{key}`, did you mean `{name}`")
        }
        None => format!("there is no setting `{key}`; `daybook serve --help` lists all"),
    }
}

fn texts(value: Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => {
            values.into_iter().map(|value| text(&value)).collect::<Option<Vec<_>>>()
        }
        other => text(&other).map(|text| vec![text]),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}
