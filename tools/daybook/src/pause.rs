//! `daybook pause` and `daybook resume`.

use anyhow::Result;
use daybook_api::{Settings, Task};

use crate::Outcome;
use crate::arguments::pause::{PauseArguments, ResumeArguments};
use crate::operate::{operate, operator};
use crate::output::{write_json, write_line};

pub(crate) fn pause(arguments: &PauseArguments) -> Result<Outcome> {
    let (user, reason) = (arguments.user.clone(), arguments.reason.clone());
    let task = Task::Pause { user, reason, by: operator() };
    let answer = operate(&arguments.common, Settings::default(), task)?;
    if arguments.common.json.json {
        write_json(&answer)?;
    } else {
        write_line(&format!("play of {} is paused: {}", answer.id, arguments.reason))?;
    }
    Ok(Outcome::Holds)
}

pub(crate) fn resume(arguments: &ResumeArguments) -> Result<Outcome> {
    let task = Task::Resume { user: arguments.user.clone(), by: operator() };
    let answer = operate(&arguments.common, Settings::default(), task)?;
    if arguments.common.json.json {
        write_json(&answer)?;
    } else {
        write_line(&format!("play of {} goes on", answer.id))?;
    }
    Ok(Outcome::Holds)
}
