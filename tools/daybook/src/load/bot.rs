//! A bot: whose turn it is to do what, and what its answers say.

use std::time::{Duration, Instant};

use daybook_api::BotSession;
use daybook_schema::CommandId;
use serde_json::{Value, json};

const DAYS: u8 = 28;
/// Bets of a season may come so soon after one another, and a little later.
const BETS_APART: Duration = Duration::from_millis(150);
const POTS: [&str; 4] = ["water", "sun", "pest", "growth"];

/// What a bot does next.
#[derive(Clone, Debug)]
enum Turn {
    /// Asks for the commitment of its next season.
    Commitment,
    /// Starts a season with it.
    Start { commitment: String },
    /// Bets on a day.
    Bet { season: String, day: u8 },
    /// Ends the day.
    Advance { season: String, day: u8 },
    /// Gives up a season that an earlier run left in play.
    Abandon { season: String },
}

/// What a bot asks.
pub(super) struct Request {
    pub(super) path: String,
    /// A GET without it.
    pub(super) body: Option<Value>,
    /// The same for each sending of a command.
    pub(super) key: Option<CommandId>,
}

/// A bot with a session.
pub(super) struct Bot {
    pub(super) cookie: String,
    turn: Turn,
    /// Of the command that is to be sent, until it is answered.
    key: Option<CommandId>,
    /// When its next request may come.
    pub(super) ready_at: Instant,
}

impl Bot {
    pub(super) fn new(session: &BotSession) -> Self {
        let cookie = format!("session={}", session.session);
        Self { cookie, turn: Turn::Commitment, key: None, ready_at: Instant::now() }
    }

    /// Its next request; the same one until it is answered.
    pub(super) fn request(&mut self) -> Request {
        let (path, body) = match &self.turn {
            Turn::Commitment => ("/api/fairness/next".to_owned(), None),
            Turn::Start { commitment } => {
                let body = json!({ "commitment": commitment, "clientSeed": "5a".repeat(32) });
                ("/api/seasons".to_owned(), Some(body))
            }
            Turn::Bet { season, day } => {
                let bets = POTS.map(|pot| json!({ "potId": pot, "betType": "call", "amount": 1 }));
                let body = json!({ "bets": bets, "expectedDay": day });
                (format!("/api/seasons/{season}/bets"), Some(body))
            }
            Turn::Advance { season, day } => {
                (format!("/api/seasons/{season}/advance"), Some(json!({ "expectedDay": day })))
            }
            Turn::Abandon { season } => (format!("/api/seasons/{season}/abandon"), Some(json!({}))),
        };
        let key = body.is_some().then(|| *self.key.get_or_insert_with(CommandId::random));
        Request { path, body, key }
    }

    /// It was answered well. What the answer lacks ends the season for it.
    pub(super) fn answered(&mut self, body: &Value) {
        self.key = None;
        self.turn = match &self.turn {
            Turn::Commitment => match body.get("commitment").and_then(Value::as_str) {
                Some(commitment) => Turn::Start { commitment: commitment.to_owned() },
                None => Turn::Commitment,
            },
            Turn::Start { .. } => match body.pointer("/season/id").and_then(Value::as_str) {
                Some(season) => Turn::Bet { season: season.to_owned(), day: 1 },
                None => Turn::Commitment,
            },
            Turn::Bet { season, day } => {
                self.ready_at = Instant::now() + BETS_APART;
                Turn::Advance { season: season.clone(), day: *day }
            }
            Turn::Advance { day: DAYS, .. } | Turn::Abandon { .. } => Turn::Commitment,
            Turn::Advance { season, day } => Turn::Bet { season: season.clone(), day: day + 1 },
        };
    }

    /// It was refused for the moment: the same command again, a little later.
    pub(super) fn refused(&mut self, wait: Duration) {
        self.ready_at = Instant::now() + wait;
    }

    /// Its command is refused for good: it begins anew, and gives up a season that is in its way.
    pub(super) fn given_up(&mut self, refusal: &Value) {
        let in_play = refusal.pointer("/details/0/seasonId").and_then(Value::as_str);
        let is_in_play = refusal.get("error").is_some_and(|code| code == "SEASON_IN_PROGRESS");
        self.key = None;
        (self.turn, self.ready_at) = match in_play.filter(|_| is_in_play) {
            Some(season) => (Turn::Abandon { season: season.to_owned() }, Instant::now()),
            None => (Turn::Commitment, Instant::now() + Duration::from_secs(1)),
        };
    }
}
