//! The arguments of `user`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use daybook_api::{PublicUrl, Scope};
use daybook_schema::Role;

use super::read_models::GameDatabaseArgument;
use super::shared::{DataArguments, JsonArgument, KeysDirArgument};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  daybook user create ada@farm.example --role admin < password.txt
  daybook user reset-password ada@farm.example
  daybook user lock usr_0193a0b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b

A user is named by address or id. Where a service runs in the data directory, it does the task.")]
pub(crate) struct UserArguments {
    #[command(subcommand)]
    pub(crate) command: UserCommand,
}

impl UserArguments {
    /// Where the data and the keys are.
    pub(crate) const fn common(&self) -> &UserCommonArguments {
        match &self.command {
            UserCommand::Create { common, .. }
            | UserCommand::Role { common, .. }
            | UserCommand::Token { common, .. }
            | UserCommand::Bots { common, .. }
            | UserCommand::RevokeToken { common, .. }
            | UserCommand::Tokens(common) => common,
            UserCommand::ResetPassword { named, .. }
            | UserCommand::Show(named)
            | UserCommand::Passwd(named)
            | UserCommand::Export(named)
            | UserCommand::Lock(named)
            | UserCommand::Unlock(named)
            | UserCommand::Erase(named) => &named.common,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make an account; its password is read from stdin
    #[command(
        after_help = "Examples:\n  daybook user create ada@farm.example --role admin < password.txt"
    )]
    Create {
        /// The address
        email: String,
        /// What others see [default: the beginning of the address]
        #[arg(long, env = "DAYBOOK_DISPLAY_NAME", value_name = "NAME")]
        display_name: Option<String>,
        /// player, moderator or admin
        #[arg(long, env = "DAYBOOK_ROLE", default_value = "player")]
        role: Role,
        #[command(flatten)]
        common: UserCommonArguments,
    },
    /// Show an account
    #[command(after_help = "Examples:\n  daybook user show ada@farm.example")]
    Show(NamedUserArguments),
    /// Set what a user may do; whoever is logged in has the new role at once
    #[command(after_help = "Examples:\n  daybook user role ada@farm.example moderator")]
    Role {
        /// The user
        user: String,
        /// player, moderator or admin
        role: Role,
        #[command(flatten)]
        common: UserCommonArguments,
    },
    /// Print a link to set a new password: for one use, and an hour
    #[command(after_help = "Examples:\n  daybook user reset-password ada@farm.example")]
    ResetPassword {
        #[command(flatten)]
        named: NamedUserArguments,
        /// Where browsers reach the service, where none runs that knows it
        #[arg(long, env = "DAYBOOK_PUBLIC_URL", value_name = "URL")]
        public_url: Option<PublicUrl>,
    },
    /// Set a password, read from stdin, and end all sessions
    #[command(after_help = "Examples:\n  daybook user passwd ada@farm.example < password.txt")]
    Passwd(NamedUserArguments),
    /// Print all that is held on a user, as JSON
    #[command(after_help = "Examples:\n  daybook user export ada@farm.example > ada.json")]
    Export(NamedUserArguments),
    /// Lock an account and end its sessions
    #[command(after_help = "Examples:\n  daybook user lock ada@farm.example")]
    Lock(NamedUserArguments),
    /// Lift a lock, and what failed logins led to
    #[command(after_help = "Examples:\n  daybook user unlock ada@farm.example")]
    Unlock(NamedUserArguments),
    /// Make a token by which another backend asks; with --users alone, let one play for more users
    #[command(after_help = "\
Examples:
  daybook user token shop --scope play --users users.txt
  daybook user token shop --users more.txt
  daybook user token reports --scope analytics --scope read-events

It is printed once. The file has an address or id on each line. A token with the scope `play` may
register users too, and play for these.")]
    Token {
        /// What it is called
        name: String,
        /// What it may do: play, read-events, analytics; may be given more than once
        #[arg(long, env = "DAYBOOK_SCOPE", value_name = "SCOPE", value_delimiter = ',')]
        scope: Vec<Scope>,
        /// For whom it may play
        #[arg(long, env = "DAYBOOK_USERS", value_name = "FILE")]
        users: Option<PathBuf>,
        #[command(flatten)]
        common: UserCommonArguments,
    },
    /// Make accounts of bots for `daybook load`, with sessions and no password
    #[command(after_help = "Examples:\n  daybook user bots 1000 --sessions bots.jsonl")]
    Bots {
        /// How many
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        count: u32,
        /// Where their sessions are written, one JSON object a line; who has the file can play as they
        #[arg(long, env = "DAYBOOK_SESSIONS", value_name = "FILE")]
        sessions: PathBuf,
        #[command(flatten)]
        common: UserCommonArguments,
    },
    /// List the tokens of other backends
    #[command(after_help = "Examples:\n  daybook user tokens --json")]
    Tokens(UserCommonArguments),
    /// Revoke a token, at once and for ever
    #[command(after_help = "Examples:\n  daybook user revoke-token shop")]
    RevokeToken {
        /// What it is called
        name: String,
        #[command(flatten)]
        common: UserCommonArguments,
    },
    /// Erase a user for ever: the season in play ends, all personal data goes
    #[command(after_help = "Examples:\n  daybook user erase ada@farm.example")]
    Erase(NamedUserArguments),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct NamedUserArguments {
    /// The user
    pub(crate) user: String,
    #[command(flatten)]
    pub(crate) common: UserCommonArguments,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct UserCommonArguments {
    /// The service's file with settings, in TOML [default: daybook.toml in the data directory, if it
    /// is there]
    #[arg(long, env = "DAYBOOK_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataArguments,
    #[command(flatten)]
    pub(crate) keys: KeysDirArgument,
    #[command(flatten)]
    pub(crate) database: GameDatabaseArgument,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}
