//! PostgreSQL: a table of events with our columns, unique by stream and version.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::types::Type;
use postgres::{Client, NoTls};

use crate::LENGTH;
use crate::commands::{Command, Commands};

const TABLE: &str = "
DROP TABLE IF EXISTS events;
CREATE TABLE events (seq bigint PRIMARY KEY, recorded_at bigint NOT NULL, stream bytea NOT NULL,
  stream_version bigint NOT NULL, kind smallint NOT NULL, version smallint NOT NULL,
  command bytea NOT NULL, payload bytea NOT NULL, hash bytea NOT NULL,
  UNIQUE (stream, stream_version));";

/// One waiting is a prepared insert of the command's rows; more are copied together, a transaction
/// for all that wait: what its documentation recommends for many rows.
pub fn run(_dir: &Path, commands: &Commands, waiting: usize) -> Result<f64> {
    let url =
        std::env::var("DAYBOOK_PEERS_POSTGRES").context("DAYBOOK_PEERS_POSTGRES: no server")?;
    let mut client = Client::connect(&url, NoTls)?;
    client.batch_execute(TABLE)?;
    let insert = client.prepare(
        "INSERT INTO events SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], \
         $4::bigint[], $5::smallint[], $6::smallint[], $7::bytea[], $8::bytea[], $9::bytea[])",
    )?;
    let (mut seq, began) = (0_i64, Instant::now());
    for chunk in commands.all.chunks(waiting) {
        if began.elapsed() >= LENGTH {
            break;
        }
        let rows = Rows::of(chunk, &mut seq);
        if waiting == 1 {
            client.execute(
                &insert,
                &[
                    &rows.seq,
                    &rows.at,
                    &rows.stream,
                    &rows.stream_version,
                    &rows.kind,
                    &rows.version,
                    &rows.command,
                    &rows.payload,
                    &rows.hash,
                ],
            )?;
        } else {
            copy(&mut client, &rows)?;
        }
    }
    Ok(seq as f64 / began.elapsed().as_secs_f64())
}

#[derive(Default)]
struct Rows {
    seq: Vec<i64>,
    at: Vec<i64>,
    stream: Vec<Vec<u8>>,
    stream_version: Vec<i64>,
    kind: Vec<i16>,
    version: Vec<i16>,
    command: Vec<Vec<u8>>,
    payload: Vec<Vec<u8>>,
    hash: Vec<Vec<u8>>,
}

impl Rows {
    fn of(commands: &[Command], seq: &mut i64) -> Self {
        let mut rows = Self::default();
        for command in commands {
            for (place, event) in (0..).zip(&command.events) {
                *seq += 1;
                let header = &event.stored.header;
                let (bytes, length) = header.command.to_bytes();
                rows.seq.push(*seq);
                rows.at.push(header.recorded_at.get());
                rows.stream.push(header.stream.as_bytes().to_vec());
                rows.stream_version.push(command.version as i64 + place);
                rows.kind.push(header.kind as i16);
                rows.version.push(header.version as i16);
                rows.command.push(bytes[..length].to_vec());
                rows.payload.push(event.payload.clone());
                rows.hash.push(event.stored.hash.as_bytes().to_vec());
            }
        }
        rows
    }
}

fn copy(client: &mut Client, rows: &Rows) -> Result<()> {
    const TYPES: [Type; 9] = [
        Type::INT8,
        Type::INT8,
        Type::BYTEA,
        Type::INT8,
        Type::INT2,
        Type::INT2,
        Type::BYTEA,
        Type::BYTEA,
        Type::BYTEA,
    ];
    let mut transaction = client.transaction()?;
    let sink = transaction.copy_in("COPY events FROM STDIN (FORMAT binary)")?;
    let mut writer = BinaryCopyInWriter::new(sink, &TYPES);
    for index in 0..rows.seq.len() {
        writer.write(&[
            &rows.seq[index],
            &rows.at[index],
            &rows.stream[index],
            &rows.stream_version[index],
            &rows.kind[index],
            &rows.version[index],
            &rows.command[index],
            &rows.payload[index],
            &rows.hash[index],
        ])?;
    }
    writer.finish()?;
    transaction.commit()?;
    Ok(())
}
