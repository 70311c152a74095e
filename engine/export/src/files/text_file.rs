//! JSONL and CSV.

use jiff::civil::Date;
use jiff::{Span, Timestamp};
use serde::Serializer;
use serde_json::Value as Json;
use std::io::Write;

use super::hashed_file::{Failure, HashedFile, Sealed};
use crate::columns::Column;
use crate::rows::Value;

const EPOCH: Date = Date::constant(1970, 1, 1);

/// A time with all its microseconds, so that texts sort as times do.
fn time_text(micros: i64) -> String {
    let time = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MIN);
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

fn day_text(day: i32) -> String {
    EPOCH.checked_add(Span::new().days(day)).unwrap_or(Date::MIN).to_string()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(super) struct JsonlWriting {
    file: HashedFile,
}

impl JsonlWriting {
    pub(super) const fn new(file: HashedFile) -> Self {
        Self { file }
    }

    pub(super) fn write(&mut self, columns: &[Column], rows: &[Vec<Value>]) -> Result<(), Failure> {
        for row in rows {
            let fields = columns.iter().zip(row).map(|(column, value)| {
                let json = match value {
                    Value::Integer(number) => Json::from(*number),
                    Value::Flag(flag) => Json::from(*flag),
                    Value::Text(text) => text.clone().map_or(Json::Null, Json::from),
                    Value::Bytes(bytes) => Json::from(hex(bytes)),
                    Value::Time(micros) => Json::from(time_text(*micros)),
                    Value::Day(day) => Json::from(day_text(*day)),
                };
                (column.name, json)
            });
            serde_json::Serializer::new(&mut self.file).collect_map(fields)?;
            self.file.write_all(b"\n")?;
        }
        Ok(())
    }

    pub(super) fn seal(self) -> Result<Sealed, Failure> {
        Ok(self.file.seal()?)
    }
}

pub(super) struct CsvWriting {
    writer: csv::Writer<HashedFile>,
}

impl CsvWriting {
    pub(super) fn new(file: HashedFile, columns: &[Column]) -> Result<Self, Failure> {
        let mut writer = csv::Writer::from_writer(file);
        writer.write_record(columns.iter().map(|column| column.name))?;
        Ok(Self { writer })
    }

    pub(super) fn write(&mut self, rows: &[Vec<Value>]) -> Result<(), Failure> {
        for row in rows {
            let cells = row.iter().map(|value| match value {
                Value::Integer(number) => number.to_string(),
                Value::Flag(flag) => flag.to_string(),
                Value::Text(text) => text.clone().unwrap_or_default(),
                Value::Bytes(bytes) => hex(bytes),
                Value::Time(micros) => time_text(*micros),
                Value::Day(day) => day_text(*day),
            });
            self.writer.write_record(cells)?;
        }
        Ok(())
    }

    pub(super) fn seal(self) -> Result<Sealed, Failure> {
        Ok(self.writer.into_inner().map_err(csv::IntoInnerError::into_error)?.seal()?)
    }
}
