//! An event as a row of a table.

use daybook_schema::event_json::stream_text;
use daybook_schema::{Event, Seq, StoredEvent};
use serde_json::Value as Json;

use crate::columns::{Column, Common, From, Type};
use crate::seasons::Season;

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Integer(i64),
    Flag(bool),
    Text(Option<String>),
    Bytes(Vec<u8>),
    /// Microseconds since 1970.
    Time(i64),
    /// Days since 1970.
    Day(i32),
}

/// A payload's field is not what its column holds: the columns are not those of this version.
#[derive(Debug, thiserror::Error)]
#[error("event {seq} has no {column} of the kind that its column holds")]
pub struct ColumnError {
    /// The event.
    pub seq: Seq,
    /// The column.
    pub column: &'static str,
}

/// An event's values in the order of some columns.
pub(crate) fn row(
    columns: &[Column],
    stored: &StoredEvent,
    season: Option<&Season>,
) -> Result<Vec<Value>, ColumnError> {
    let needs_payload = columns.iter().any(|column| matches!(column.from, From::Payload(_)));
    let payload = match needs_payload {
        true => serde_json::to_value(&stored.event).unwrap_or_default(),
        false => Json::Null,
    };
    let value = |column: &Column| {
        let wrong = || ColumnError { seq: stored.header.seq, column: column.name };
        match column.from {
            From::Event(common) => Ok(of_event(common, stored, season)),
            From::Payload(path) => of_json(column.holds, at(&payload, path)).ok_or_else(wrong),
            From::BetType => {
                let Event::BetResolved(resolved) = &stored.event else { return Err(wrong()) };
                let bet_type = season.and_then(|season| *season.bets.get(resolved.pot_id));
                bet_type.map(|bet_type| text(bet_type.as_str())).ok_or_else(wrong)
            }
            From::Weather => {
                let weather = season.and_then(|season| season.weather);
                weather.map(|weather| text(weather.as_str())).ok_or_else(wrong)
            }
            From::Won => {
                let Event::BetResolved(resolved) = &stored.event else { return Err(wrong()) };
                Ok(Value::Flag(resolved.threshold.is_some()))
            }
        }
    };
    columns.iter().map(value).collect()
}

fn text(text: impl ToString) -> Value {
    Value::Text(Some(text.to_string()))
}

fn of_event(common: Common, stored: &StoredEvent, season: Option<&Season>) -> Value {
    let header = &stored.header;
    let integer = |number: u64| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    match common {
        Common::Seq => integer(header.seq.get()),
        Common::RecordedAt => Value::Time(header.recorded_at.get()),
        Common::UtcDay => {
            Value::Day(i32::try_from(header.recorded_at.utc_day()).unwrap_or(i32::MAX))
        }
        Common::Stream => text(stream_text(stored.event.kind().stream(), header.stream)),
        Common::StreamPrev => integer(header.stream_prev.map_or(0, Seq::get)),
        Common::Kind => text(stored.event.kind()),
        Common::Version => integer(header.version.into()),
        Common::CommandId => Value::Text(header.command.mark.map(|mark| mark.id.to_string())),
        Common::Place => integer(header.command.place.into()),
        Common::Size => integer(header.command.size.into()),
        Common::Payload => {
            let mut bytes = Vec::new();
            stored.event.encode(&mut bytes);
            Value::Bytes(bytes)
        }
        Common::Hash => text(stored.hash),
        Common::UserId => match season {
            Some(season) => text(season.user_id),
            None => text(header.stream.as_user()),
        },
        Common::SeasonId => text(header.stream.as_season()),
        Common::LedgerId => text(header.stream.as_ledger()),
    }
}

/// The field at a path such as `potLevels.water`; null where a part of the way is missing.
fn at<'a>(payload: &'a Json, path: &str) -> &'a Json {
    path.split('.').fold(payload, |json, name| json.get(name).unwrap_or(&Json::Null))
}

fn of_json(holds: Type, json: &Json) -> Option<Value> {
    match (holds, json) {
        (Type::Integer, Json::Number(number)) => number.as_i64().map(Value::Integer),
        // A bet that was lost reached no threshold: 0, so that no tool makes fractions of it.
        (Type::Integer, Json::Null) => Some(Value::Integer(0)),
        (Type::Flag, Json::Bool(flag)) => Some(Value::Flag(*flag)),
        (Type::Text, Json::String(string)) => Some(Value::Text(Some(string.clone()))),
        (Type::Text, Json::Null) => Some(Value::Text(None)),
        (Type::Text, list @ Json::Array(_)) => Some(text(list)),
        _ => None,
    }
}
