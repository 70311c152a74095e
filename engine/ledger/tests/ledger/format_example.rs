//! Guards: the worked example in FORMAT.md is what a real ledger holds, to the byte.

use std::fmt::Write;
use std::path::Path;

use daybook_schema::chain::{CommandPart, EventHeader};
use daybook_schema::commands::client_digest;
use daybook_schema::{
    AdoptionNumber, ClientSeedSource, DayNumber, Game, Genesis, LedgerFormat, LedgerId, Period,
    Pot, SeasonNumber, Seq, StreamId, Trigger, UnixMicros,
};
use daybook_simulator::{SeasonKeyRequest, SeasonKeys, commitment_of, day_seed, previous_key};

use crate::fixture::{Fixture, START, hex, season_key, user};

fn example() -> String {
    let mut fixture = Fixture::new();
    let user_id = fixture.register(1);
    let season_id = fixture.start(user_id);
    fixture.bets(user_id, season_id);
    let identity = fixture.ledger().query(|state| state.identity()).unwrap().wait().unwrap();
    fixture.advance(user_id, season_id, 1);
    fixture.close();

    let keys = daybook_simulator::Keyring::new([season_key()]);
    let request = SeasonKeyRequest {
        key_id: season_key().key_id(),
        identity,
        user_id: user(1),
        season_number: SeasonNumber::MIN,
    };
    let key = |day| keys.day_key(&request, day).unwrap();
    assert_eq!(previous_key(&key(1)), key(0));
    let digest = client_digest(ClientSeedSource::ClientSeed, &[0x33; 32]);
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "{name:<18} {value}").unwrap();
    };
    line("season key", &hex(&[0x11; 32]));
    line("season key id", &season_key().key_id());
    line("clientSeed", &hex(&[0x33; 32]));
    line("client digest", &digest);
    line("k28", &key(28));
    line("k1", &key(1));
    line("k0", &key(0));
    line("commitment", &commitment_of(&key(0)));
    line("day seed 0", &hex(&day_seed(&key(0), &digest, 0)));
    line("day seed 1", &hex(&day_seed(&key(1), &digest, 1)));
    let at = |second: i64| START.plus_micros(second * 1_000_000);
    let day = DayNumber::MIN;
    line("day 1", &identity.day_id(at(3), season_id, day));
    line("bet on water", &identity.bet_id(at(4), season_id, day, Pot::Water));
    line("a first_bloom", &identity.trigger_id(at(5), season_id, day, Trigger::FirstBloom));
    line("an adoption", &identity.simulin_id(at(3), user_id, AdoptionNumber::MIN));
    line("a weekly row", &identity.leaderboard_entry_id(at(5), Period::Weekly, 20_458, user_id));

    let connection = rusqlite::Connection::open(fixture.database()).unwrap();
    let genesis = connection
        .query_row(
            "SELECT hex(ledger_id), format_version, created_at, is_demo, hex(hash), game FROM genesis",
            [],
            |row| {
                let (id, hash): (String, String) = (row.get(0)?, row.get(4)?);
                let (format, at, demo): (i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
                Ok(format!(
                    "ledger_id {} format_version {format} created_at {at} is_demo {demo} game {}\n  hash {}",
                    id.to_lowercase(),
                    row.get::<_, String>(5)?,
                    hash.to_lowercase()
                ))
            },
        )
        .unwrap();
    writeln!(text, "\ngenesis\n  {genesis}").unwrap();
    let mut statement = connection
        .prepare(
            "SELECT seq, recorded_at, stream_prev, kind, version, lower(hex(stream)), \
             lower(hex(command)), lower(hex(payload)), lower(hex(hash)) FROM events ORDER BY seq",
        )
        .unwrap();
    let rows = statement
        .query_map([], |row| {
            let numbers: [i64; 5] = std::array::from_fn(|index| row.get(index).unwrap());
            let blobs: [String; 4] = std::array::from_fn(|index| row.get(index + 5).unwrap());
            Ok((numbers, blobs))
        })
        .unwrap();
    for row in rows {
        let ([seq, at, prev, kind, version], [stream, command, payload, hash]) = row.unwrap();
        writeln!(
            text,
            "seq {seq} recorded_at {at} stream_prev {prev} kind {kind} version {version}\n  \
             stream {stream}\n  command {command}\n  payload {payload}\n  hash {hash}"
        )
        .unwrap();
    }
    text
}

fn format_document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/FORMAT.md");
    std::fs::read_to_string(path).unwrap()
}

/// The bytes that stand in hex after a name.
fn bytes_after(text: &str, name: &str) -> Vec<u8> {
    let hex = text.split_once(&format!("{name} ")).unwrap().1.split_whitespace().next().unwrap();
    let pairs = (0..hex.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Guards: the example of the first format stays what it was, and hashes as it did.
#[test]
fn the_example_of_the_first_format_still_holds() {
    let document = format_document();
    let example =
        document.split_once("\ngenesis\n").unwrap().1.split_once("\ngenesis\n").unwrap().1;
    let example = example.split_once("```").unwrap().0;
    let mut parts = example.split("\nseq ");
    let genesis = Genesis {
        ledger_id: LedgerId::from_bytes([0x22; 16]),
        format: LedgerFormat::V1,
        created_at: START,
        is_demo: true,
        game: Game::FarmingSeason,
    };
    let stored = parts.next().unwrap();
    assert!(stored.contains("format_version 1 created_at 1767571200000000 is_demo 1\n"));
    let mut previous = genesis.hash();
    assert_eq!(previous.as_bytes()[..], bytes_after(stored, "hash"));
    let mut rows = 0;
    for row in parts {
        let row = format!("seq {row}");
        let number = |name: &str| -> u64 {
            let after = row.split_once(&format!("{name} ")).unwrap().1;
            after.split_whitespace().next().unwrap().parse().unwrap()
        };
        // A payload may be empty: then another line follows.
        let payload = match row.split_once("payload ").unwrap().1.starts_with('\n') {
            true => Vec::new(),
            false => bytes_after(&row, "payload"),
        };
        let stream = bytes_after(&row, "stream").try_into().unwrap();
        let header = EventHeader {
            seq: Seq::new(number("seq")).unwrap(),
            recorded_at: UnixMicros::new(number("recorded_at").cast_signed()),
            stream: StreamId::from_bytes(stream),
            stream_prev: Seq::new(number("stream_prev")).ok(),
            kind: number("kind").try_into().unwrap(),
            version: number("version").try_into().unwrap(),
            command: CommandPart::from_bytes(&bytes_after(&row, "command")).unwrap(),
        };
        previous = header.hash(&previous, &payload);
        assert_eq!(previous.as_bytes()[..], bytes_after(&row, "hash"), "{row}");
        rows += 1;
    }
    assert_eq!(rows, 11);
}

#[test]
fn the_example_in_the_format_document_is_a_real_ledger() {
    let document = format_document();
    let example = example();
    for line in example.lines() {
        assert!(document.contains(line.trim()), "FORMAT.md lacks `{line}` of:\n{example}");
    }
}
