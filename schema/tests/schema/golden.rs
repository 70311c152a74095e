//! Guards: every kind and version that was ever written decodes for ever, and encodes to the very
//! bytes in its golden file. A file that is missing is written; one that is there never changes.

use std::path::{Path, PathBuf};

use daybook_schema::codec::{PayloadProblem, Versioned, decode_exact, encode};
use daybook_schema::{Event, EventKind};
use serde::{Deserialize, Serialize};

use crate::samples::every_kind;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Vector {
    kind: u16,
    version: u16,
    payload_hex: String,
    json: serde_json::Value,
}

#[test]
fn every_kind_has_a_golden_vector_that_still_holds() {
    let samples = every_kind();
    let kinds: Vec<EventKind> = samples.iter().map(Event::kind).collect();
    assert_eq!(kinds, EventKind::ALL, "one sample of every kind");
    for event in samples {
        let mut payload = Vec::new();
        event.encode(&mut payload);
        let vector = Vector {
            kind: event.kind().number().into(),
            version: event.version(),
            payload_hex: hex(&payload),
            json: serde_json::to_value(&event).unwrap(),
        };
        let name = format!("{}.v{}.json", event.kind(), event.version());
        let path = folder().join(name);
        write_missing(&path, &vector);
        let stored: Vector =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(stored, vector, "{}", path.display());
    }
}

#[test]
fn every_golden_file_decodes_to_its_json() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let vector: Vector = serde_json::from_str(&text).unwrap();
        if vector.kind == LANTERN {
            continue;
        }
        let payload = unhex(&vector.payload_hex);
        let event = Event::decode(vector.kind, vector.version, &payload)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(serde_json::to_value(&event).unwrap(), vector.json, "{}", path.display());
        let mut encoded = Vec::new();
        event.encode(&mut encoded);
        assert_eq!((event.version(), encoded), (vector.version, payload), "{}", path.display());
        count += 1;
    }
    assert!(count >= EventKind::ALL.len());
}

/// Writes a golden file that is missing; where nobody would commit it, that is a failure.
fn write_missing(path: &Path, vector: &Vector) {
    if !path.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing", path.display());
        std::fs::write(path, serde_json::to_string_pretty(vector).unwrap() + "\n").unwrap();
    }
}

/// The number of a kind that is not in the table: it shows how a payload grows.
const LANTERN: u16 = 65_000;

#[derive(bincode::Encode, bincode::Decode, PartialEq, Debug)]
struct LanternLitV1 {
    brightness: u8,
}

#[derive(bincode::Encode, bincode::Decode, Serialize, PartialEq, Debug)]
struct LanternLit {
    brightness: u16,
    colour: Option<u8>,
}

impl Versioned for LanternLit {
    const VERSION: u16 = 2;

    fn decode_version(version: u16, bytes: &[u8]) -> Result<Self, PayloadProblem> {
        match version {
            1 => decode_exact::<LanternLitV1>(bytes)
                .map(|old| Self { brightness: u16::from(old.brightness) * 100, colour: None }),
            2 => decode_exact(bytes),
            _ => Err(PayloadProblem::UnknownVersion { newest: Self::VERSION }),
        }
    }
}

/// An old version, in a golden file since it was written, is lifted in memory.
#[test]
fn an_old_version_is_lifted_by_its_upcaster() {
    let path = folder().join("test_lantern_lit.v1.json");
    let mut written = Vec::new();
    encode(&LanternLitV1 { brightness: 7 }, &mut written);
    let json = serde_json::json!({"brightness": 700, "colour": null});
    let payload_hex = hex(&written);
    write_missing(&path, &Vector { kind: LANTERN, version: 1, payload_hex, json });
    let vector: Vector = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let payload = unhex(&vector.payload_hex);
    let lifted = LanternLit::decode_version(vector.version, &payload).unwrap();
    assert_eq!(serde_json::to_value(&lifted).unwrap(), vector.json);
    assert!(LanternLit::decode_version(2, &payload).is_err(), "it is not of version 2");
    let newest = PayloadProblem::UnknownVersion { newest: 2 };
    assert_eq!(LanternLit::decode_version(3, &payload), Err(newest));
    // Strictness holds for old versions too.
    assert_eq!(LanternLit::decode_version(1, &[7, 0]), Err(PayloadProblem::Trailing { left: 1 }));
}
