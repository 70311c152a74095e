//! The tables of an export and their columns. Columns are only ever added, at the end.

use daybook_schema::{EventKind, StreamKind};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// A whole number.
    Integer,
    /// Yes or no.
    Flag,
    /// A name, an id, or a hash in hex. May be missing.
    Text,
    /// Bytes; in hex where the file is text.
    Bytes,
    /// A UTC time, in microseconds.
    Time,
    /// A UTC day.
    Day,
}

/// Where a column's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// What every event has.
    Event(Common),
    /// A field of the payload, as its JSON has it: `potLevels.water`.
    Payload(&'static str),
    /// The type of the bet that is resolved.
    BetType,
    /// The weather of the day on which it is.
    Weather,
    /// Whether the bet was won.
    Won,
}

/// What every event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Common {
    Seq,
    RecordedAt,
    UtcDay,
    Stream,
    StreamPrev,
    Kind,
    Version,
    CommandId,
    Place,
    Size,
    Payload,
    Hash,
    UserId,
    SeasonId,
    LedgerId,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) holds: Type,
    pub(crate) from: From,
}

/// A table: the events as they are stored, or those of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TableName {
    /// Every event, with its payload as bytes and its hash.
    Events,
    /// The events of a kind, with a column for each field.
    OfKind(EventKind),
}

impl TableName {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Events).chain(EventKind::ALL.iter().copied().map(Self::OfKind))
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::OfKind(kind) => kind.as_str(),
        }
    }
}

const fn common(name: &'static str, holds: Type, of: Common) -> Column {
    Column { name, holds, from: From::Event(of) }
}

const SEQ: Column = common("seq", Type::Integer, Common::Seq);
const RECORDED_AT: Column = common("recorded_at", Type::Time, Common::RecordedAt);
const UTC_DAY: Column = common("utc_day", Type::Day, Common::UtcDay);

const EVENTS: [Column; 12] = [
    SEQ,
    RECORDED_AT,
    UTC_DAY,
    common("stream", Type::Text, Common::Stream),
    common("stream_prev", Type::Integer, Common::StreamPrev),
    common("kind", Type::Text, Common::Kind),
    common("version", Type::Integer, Common::Version),
    common("command_id", Type::Text, Common::CommandId),
    common("place", Type::Integer, Common::Place),
    common("size", Type::Integer, Common::Size),
    common("payload", Type::Bytes, Common::Payload),
    common("hash", Type::Text, Common::Hash),
];

const fn integer(name: &'static str, field: &'static str) -> Column {
    Column { name, holds: Type::Integer, from: From::Payload(field) }
}

const fn text(name: &'static str, field: &'static str) -> Column {
    Column { name, holds: Type::Text, from: From::Payload(field) }
}

const fn flag(name: &'static str, field: &'static str) -> Column {
    Column { name, holds: Type::Flag, from: From::Payload(field) }
}

const DAY_NUMBER: Column = integer("day_number", "dayNumber");
const AMOUNT: Column = integer("amount", "amount");
const COINS: Column = integer("coins", "coins");
const POT_ID: Column = text("pot_id", "potId");
const SIMULIN_ID: Column = text("simulin_id", "simulinId");
const KEY_ID: Column = text("key_id", "keyId");
const SEASON_NUMBER: Column = integer("season_number", "seasonNumber");
const SEASON_SECRET: Column = text("season_secret", "seasonSecret");

/// The columns of a kind's own fields.
fn fields_of(kind: EventKind) -> Vec<Column> {
    match kind {
        EventKind::KeyRotated => vec![KEY_ID, flag("compromised", "compromised")],
        EventKind::LedgerRestored => vec![
            integer("epoch_number", "epoch.number"),
            text("epoch_nonce", "epoch.nonce"),
            text("lost_heads", "lostHeads"),
        ],
        EventKind::UserRegistered | EventKind::UserErased => Vec::new(),
        EventKind::SessionStarted => vec![integer("session_number", "sessionNumber")],
        EventKind::SessionEnded => {
            vec![integer("session_number", "sessionNumber"), text("reason", "reason")]
        }
        EventKind::CommitmentPublished => {
            vec![SEASON_NUMBER, KEY_ID, text("commitment", "commitment")]
        }
        EventKind::SimulinAdopted => vec![
            SIMULIN_ID,
            integer("adoption_number", "adoptionNumber"),
            text("species", "species"),
            integer("curiosity", "personality.curiosity"),
            integer("courage", "personality.courage"),
            integer("warmth", "personality.warmth"),
        ],
        EventKind::SimulinPathChosen => vec![SIMULIN_ID, text("path", "path")],
        EventKind::SimulinRetired => vec![SIMULIN_ID],
        EventKind::SimulinXpGained => {
            vec![SIMULIN_ID, integer("gained", "gained"), integer("bond_xp", "bondXp")]
        }
        EventKind::SimulinLevelReached => vec![SIMULIN_ID, integer("bond_level", "bondLevel")],
        of_a_season => fields_of_season(of_a_season),
    }
}

/// The same of kinds in a season's stream.
fn fields_of_season(kind: EventKind) -> Vec<Column> {
    match kind {
        EventKind::SeasonStarted => vec![
            SEASON_NUMBER,
            integer("ruleset", "ruleset"),
            KEY_ID,
            text("commitment", "commitment"),
            integer("commitment_seq", "commitmentSeq"),
            text("commitment_hash", "commitmentHash"),
            text("client_seed_source", "clientSeedSource"),
            text("client_digest", "clientDigest"),
            text("day_key_zero", "dayKeyZero"),
            text("companion_simulin_id", "companion.simulinId"),
            text("companion_species", "companion.species"),
            text("companion_path", "companion.path"),
            COINS,
        ],
        EventKind::SeasonCompleted => {
            vec![integer("final_score", "finalScore"), COINS, SEASON_SECRET]
        }
        EventKind::SeasonAbandoned | EventKind::SeasonExpired => {
            vec![integer("escrow_returned", "escrowReturned"), COINS, SEASON_SECRET]
        }
        EventKind::SuspicionFlagged => vec![DAY_NUMBER, text("code", "code")],
        EventKind::DayOpened => vec![DAY_NUMBER, text("weather", "weather")],
        EventKind::DayResolved => vec![
            DAY_NUMBER,
            text("day_key", "dayKey"),
            integer("level_water", "potLevels.water"),
            integer("level_sun", "potLevels.sun"),
            integer("level_pest", "potLevels.pest"),
            integer("level_growth", "potLevels.growth"),
            text("event_water", "potEvents.water"),
            text("event_sun", "potEvents.sun"),
            text("event_pest", "potEvents.pest"),
            text("event_growth", "potEvents.growth"),
            text("troubles", "troubles"),
            integer("score", "score"),
        ],
        EventKind::StipendGranted => vec![DAY_NUMBER, AMOUNT],
        EventKind::BetPlaced => vec![DAY_NUMBER, POT_ID, text("bet_type", "betType"), AMOUNT],
        EventKind::BetResolved => vec![
            DAY_NUMBER,
            POT_ID,
            Column { name: "bet_type", holds: Type::Text, from: From::BetType },
            Column { name: "weather", holds: Type::Text, from: From::Weather },
            AMOUNT,
            Column { name: "won", holds: Type::Flag, from: From::Won },
            integer("threshold", "threshold"),
            integer("payout", "payout"),
            integer("jackpot_share_millicoins", "jackpotShare"),
        ],
        EventKind::TriggerEarned => vec![DAY_NUMBER, text("trigger_type", "triggerType")],
        EventKind::WeekEvaluated => vec![
            integer("week_number", "weekNumber"),
            text("hand", "hand"),
            integer("multiplier", "multiplier"),
            integer("score", "score"),
        ],
        EventKind::JackpotPaid => vec![integer("week_number", "weekNumber"), AMOUNT],
        _ => Vec::new(),
    }
}

/// The columns of a table, in their order.
pub(crate) fn columns_of(table: TableName) -> Vec<Column> {
    let TableName::OfKind(kind) = table else { return EVENTS.to_vec() };
    let mut columns = vec![SEQ, RECORDED_AT, UTC_DAY];
    match kind.stream() {
        StreamKind::Ledger => columns.push(common("ledger_id", Type::Text, Common::LedgerId)),
        StreamKind::User => columns.push(common("user_id", Type::Text, Common::UserId)),
        StreamKind::Season => columns.extend([
            common("user_id", Type::Text, Common::UserId),
            common("season_id", Type::Text, Common::SeasonId),
        ]),
    }
    columns.extend(fields_of(kind));
    columns
}
