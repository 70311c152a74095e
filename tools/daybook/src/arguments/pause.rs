//! The arguments of `pause` and `resume`.

use clap::Args;

use super::user::UserCommonArguments;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook pause --reason \"Back at 18:00 UTC: we move to a larger machine\"
  daybook pause --user ada@farm.example --reason \"We look at your last season\"

Players read the reason. Reading goes on, and no season expires until a day after `resume`.")]
pub(crate) struct PauseArguments {
    /// What players are told
    #[arg(long, env = "DAYBOOK_REASON", value_name = "TEXT")]
    pub(crate) reason: String,
    /// Pause one user, by address or id; without it all
    #[arg(long, env = "DAYBOOK_USER", value_name = "USER")]
    pub(crate) user: Option<String>,
    #[command(flatten)]
    pub(crate) common: UserCommonArguments,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook resume
  daybook resume --user ada@farm.example")]
pub(crate) struct ResumeArguments {
    /// The user, by address or id; without it the pause of all ends
    #[arg(long, env = "DAYBOOK_USER", value_name = "USER")]
    pub(crate) user: Option<String>,
    #[command(flatten)]
    pub(crate) common: UserCommonArguments,
}
