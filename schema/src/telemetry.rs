//! The telemetry catalogue: what a game's clients tell of themselves, apart from the ledger.
//!
//! It may be lost, forged or blocked, so nothing of the game rests on it. Names and properties are
//! the seed's; sets are closed only where the seed closes them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
pub use serde_json::Number;

use crate::limits::{
    TELEMETRY_MESSAGE_BYTES_MAX, TELEMETRY_STACK_BYTES_MAX, TELEMETRY_TEXT_BYTES_MAX,
};

/// What a property's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyKind {
    /// A text of so many bytes of UTF-8 at most.
    Text {
        /// Its bytes at most.
        bytes_max: usize,
    },
    /// A number as JSON has it.
    Number,
    /// True or false.
    Flag,
    /// One of these names.
    OneOf(&'static [&'static str]),
}

/// A property of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its name.
    pub name: &'static str,
    /// What its value may be.
    pub kind: PropertyKind,
    /// Whether every event of the type has it.
    pub is_required: bool,
}

/// A type of event: its name and its properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventShape {
    /// The name in `event_type`.
    pub name: &'static str,
    /// What it tells, for people.
    pub description: &'static str,
    /// All of its properties.
    pub properties: &'static [Property],
}

/// A text that is often one of the program's own.
pub type Text = Cow<'static, str>;

const TEXT: PropertyKind = PropertyKind::Text { bytes_max: TELEMETRY_TEXT_BYTES_MAX };
const MESSAGE: PropertyKind = PropertyKind::Text { bytes_max: TELEMETRY_MESSAGE_BYTES_MAX };
const STACK: PropertyKind = PropertyKind::Text { bytes_max: TELEMETRY_STACK_BYTES_MAX };
const NUMBER: PropertyKind = PropertyKind::Number;
const FLAG: PropertyKind = PropertyKind::Flag;
const TUTORIAL_ACTION: PropertyKind = PropertyKind::OneOf(&["shown", "completed", "skipped"]);

/// The events and, from the same lines, their shapes.
macro_rules! catalogue {
    ($(
        #[doc = $description:literal]
        $variant:ident $name:literal
            { $($required:ident: $required_type:ty = $required_kind:ident),* }
            $(optional { $($optional:ident: $optional_type:ty = $optional_kind:ident),* })?,
    )+) => {
        /// An event of the catalogue, with its properties.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "eventType", content = "properties", deny_unknown_fields)]
        #[expect(missing_docs, reason = "the properties are the seed's, and say what they are")]
        pub enum GameTelemetryEvent {
            $(
                #[doc = $description]
                #[serde(rename = $name)]
                $variant {
                    $($required: $required_type,)*
                    $($(
                        #[serde(default, skip_serializing_if = "Option::is_none")]
                        $optional: Option<$optional_type>,
                    )*)?
                },
            )+
        }

        impl GameTelemetryEvent {
            /// The name of its type.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $name,)+
                }
            }
        }

        /// Every type of event, in the seed's order.
        pub const CATALOGUE: &[EventShape] = &[$(
            EventShape {
                name: $name,
                description: $description,
                properties: &[
                    $(Property {
                        name: stringify!($required),
                        kind: $required_kind,
                        is_required: true,
                    },)*
                    $($(Property {
                        name: stringify!($optional),
                        kind: $optional_kind,
                        is_required: false,
                    },)*)?
                ],
            },
        )+];
    };
}

catalogue! {
    /// A client began to run.
    SessionStart "session_start" {} optional { referrer: Text = TEXT },
    /// A client ended.
    SessionEnd "session_end" { duration_ms: Number = NUMBER, days_played: Number = NUMBER },
    /// A season was started.
    SeasonStart "season_start" { season_number: Number = NUMBER },
    /// A season was played to its end.
    SeasonComplete "season_complete"
        { season_number: Number = NUMBER, final_score: Number = NUMBER, days_played: Number = NUMBER },
    /// A day of a season began.
    DayStart "day_start" { day_number: Number = NUMBER, phase: Text = TEXT },
    /// A day of a season was resolved.
    DayComplete "day_complete" { day_number: Number = NUMBER, triggers_earned: Number = NUMBER },
    /// A bet was placed.
    BetPlaced "bet_placed" { pot_id: Text = TEXT, bet_type: Text = TEXT, amount: Number = NUMBER },
    /// A bet was resolved.
    BetResolved "bet_resolved" { pot_id: Text = TEXT, won: bool = FLAG, payout: Number = NUMBER },
    /// A trigger was earned.
    TriggerEarned "trigger_earned" { trigger_type: Text = TEXT, day_number: Number = NUMBER },
    /// A week's hand was evaluated.
    ComboEvaluated "combo_evaluated" { hand_type: Text = TEXT, multiplier: Number = NUMBER },
    /// A companion's bond grew.
    SimulinBond "simulin_bond" { simulin_id: Text = TEXT, new_level: Number = NUMBER },
    /// A step of the tutorial was shown, completed or skipped.
    TutorialStep "tutorial_step" { step_id: Text = TEXT, action: TutorialAction = TUTORIAL_ACTION },
    /// Something went wrong.
    Error "error" { error_code: Text = TEXT, message: Text = MESSAGE } optional { stack: Text = STACK },
    /// Something took longer than it may.
    Performance "performance" { metric: Text = TEXT, value: Number = NUMBER, unit: Text = TEXT },
}

/// What became of a step of the tutorial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TutorialAction {
    /// The player saw it.
    Shown,
    /// The player did it.
    Completed,
    /// The player passed over it.
    Skipped,
}

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// A browser.
    Web,
    /// An app on iOS.
    Ios,
    /// An app on Android.
    Android,
    /// The service itself; refused from outside.
    Server,
}

impl Platform {
    /// Those that clients may have.
    pub const OF_CLIENTS: &'static [&'static str] = &["web", "ios", "android"];
}

/// What is known of the client that an event came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EventContext {
    /// The game's version.
    pub app_version: String,
    /// Where it runs.
    pub platform: Platform,
    /// In pixels.
    pub screen_width: Number,
    /// In pixels.
    pub screen_height: Number,
    /// Such as `en-GB`.
    pub locale: String,
    /// Such as `Europe/Berlin`.
    pub timezone: String,
    /// Such as `4g`, as browsers say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_type: Option<String>,
}
