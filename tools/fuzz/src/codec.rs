//! Payloads: two bytes of kind, two of version, then the payload.

use std::path::Path;

use daybook_schema::Event;

pub fn corpus() -> Vec<Vec<u8>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema/golden");
    let mut paths: Vec<_> =
        std::fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths
        .iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let vector: serde_json::Value = serde_json::from_str(&text).unwrap();
            let hex = vector["payload_hex"].as_str()?;
            let number = |name: &str| u16::try_from(vector[name].as_u64().unwrap()).unwrap();
            let mut input = number("kind").to_le_bytes().to_vec();
            input.extend(number("version").to_le_bytes());
            let digits = (0..hex.len()).step_by(2);
            input.extend(digits.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()));
            Some(input)
        })
        .collect()
}

pub fn run(input: &[u8]) {
    let Some((head, payload)) = input.split_first_chunk::<4>() else { return };
    let kind = u16::from_le_bytes([head[0], head[1]]);
    let version = u16::from_le_bytes([head[2], head[3]]);
    let Ok(event) = Event::decode(kind, version, payload) else { return };
    let mut again = Vec::new();
    event.encode(&mut again);
    assert_eq!(u16::from(event.kind().number()), kind);
    if version == event.version() {
        assert_eq!(again, payload, "what decodes encodes to the same bytes");
    }
    // What is shown of it is JSON.
    let text = serde_json::to_string(&event).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
}
