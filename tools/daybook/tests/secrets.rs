//! Guards: no secret lies outside the keys directory: not in the ledger, its log, snapshots, or
//! what is printed, whole or encoded.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected must stop")]

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use daybook_ledger::{Reader, keys, make_snapshot, replay, snapshots_path};
use daybook_simulator::SeasonKeys;

/// Enough for seasons of every age, and for play to go on while it is looked at.
const EVENTS: u64 = 20_000;

/// A secret and what it is, in every form in which it is looked for.
struct Secret {
    what: String,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    fn new(what: String, bytes: &[u8]) -> Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![bytes.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
        // Within other bytes base64 begins at any of three places; what the neighbours change is
        // left out.
        for shift in 0..3 {
            let shifted = [vec![0; shift], bytes.to_vec()].concat();
            for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                forms.push(encoded.as_bytes().iter().copied().skip(4).take(36).collect());
            }
        }
        Self { what, forms }
    }
}

/// The first of the secrets that is in some bytes.
fn found<'a>(secrets: &'a [Secret], content: &[u8]) -> Option<&'a str> {
    // By their first bytes, so that one pass looks for all.
    let mut by_beginning: HashMap<&[u8], Vec<(&[u8], &str)>> = HashMap::new();
    for secret in secrets {
        for form in &secret.forms {
            let beginning = form.get(..8).unwrap();
            by_beginning.entry(beginning).or_default().push((form, &secret.what));
        }
    }
    content.windows(8).enumerate().find_map(|(at, beginning)| {
        let candidates = by_beginning.get(beginning)?;
        let rest = content.get(at..).unwrap();
        candidates.iter().find(|(form, _)| rest.starts_with(form)).map(|(_, what)| *what)
    })
}

/// The secrets of a keys directory, and the day keys of seasons in play that are not yet revealed.
fn secrets(data: &Path, keys_dir: &Path) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for entry in std::fs::read_dir(keys_dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "key") {
            let text = std::fs::read_to_string(&path).unwrap();
            let digits = text.lines().nth(1).unwrap();
            let bytes: Vec<u8> = (0..32)
                .map(|index| u8::from_str_radix(digits.get(2 * index..2 * index + 2).unwrap(), 16))
                .collect::<Result<_, _>>()
                .unwrap();
            secrets.push(Secret::new(path.display().to_string(), &bytes));
        }
    }
    assert_eq!(secrets.len(), 3, "two season keys and a signing key");
    let keyring = keys::load(keys_dir).unwrap().season_keys;
    let state = replay(data, None, |_, _| {}).unwrap().state;
    assert!(state.seasons.len() > 3, "seasons are in play");
    for (season_id, season) in state.seasons.ordered().into_iter().take(20) {
        let request = state.key_request(season);
        for day in [season.day_number.get(), 28] {
            let key = keyring.day_key(&request, day).unwrap();
            secrets.push(Secret::new(format!("key {day} of {season_id}"), key.as_bytes()));
        }
    }
    secrets
}

#[test]
fn no_secret_lies_outside_the_keys_directory() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_daybook"))
        .args(["demo", "--players", "400", "--days", "28", "--data", data.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let head = || Reader::open(data).ok()?.head().ok();
    while head().is_none_or(|head| head.seq < EVENTS) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    demo.kill().unwrap();
    let output = demo.wait_with_output().unwrap();
    let log = std::fs::read(data.join("ledger.db-wal")).unwrap();
    assert!(!log.is_empty(), "the log was not folded in");
    make_snapshot(data).unwrap();
    let mut contents = vec![
        ("stdout".to_owned(), output.stdout),
        ("stderr".to_owned(), output.stderr),
        ("ledger.db-wal".to_owned(), log),
        ("ledger.db".to_owned(), std::fs::read(data.join("ledger.db")).unwrap()),
    ];
    for entry in std::fs::read_dir(snapshots_path(data)).unwrap() {
        let path = entry.unwrap().path();
        contents.push((path.display().to_string(), std::fs::read(path).unwrap()));
    }
    let secrets = secrets(data, &data.join("keys"));
    for (name, content) in &contents {
        assert_eq!(found(&secrets, content), None, "in {name}");
    }
    // What is looked for would be found, in every form.
    for secret in &secrets {
        for form in &secret.forms {
            let content = [b"before".as_slice(), form, b"after"].concat();
            assert!(found(&secrets, &content).is_some(), "{}", secret.what);
        }
    }
}
