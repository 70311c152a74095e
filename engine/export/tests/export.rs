//! Guards: an export has what the ledger has, goes on where it ended or was killed, and what is
//! altered in it is told.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected must stop")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use daybook_bots::{Play, Simulated};
use daybook_export::{
    Export, ExportError, Format, MANIFEST, Manifest, ManifestError, Selection, check, going_on,
};
use daybook_ledger::{Ledger, Reader, Submission};
use daybook_schema::{Command, EventKind, Seq, UserId};
use serde_json::Value;

const FORMATS: [Format; 3] = [Format::Parquet, Format::Csv, Format::Jsonl];

struct Table {
    directory: tempfile::TempDir,
    reader: Reader,
}

impl Table {
    fn new(seed: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Play { players: 12, days: 9, seed }.into_new_ledger(directory.path()).unwrap();
        let reader = Reader::open(directory.path()).unwrap();
        Self { directory, reader }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn export(&self, name: &str, format: Format, selection: Selection) -> Export {
        Export { directory: self.path(name), format, selection }
    }

    fn run(&self, export: &Export) -> Result<Manifest, ExportError> {
        export.run(&self.reader, &mut |_| {})
    }

    fn differences(&self, name: &str) -> Vec<String> {
        check(&self.path(name), &self.reader, &mut |_| {}).unwrap().differences
    }
}

fn all() -> Selection {
    Selection {
        from: Seq::MIN,
        until: None,
        from_time: None,
        until_time: None,
        kinds: Vec::new(),
        season: None,
        user: None,
    }
}

/// The lines of all files of a table, in order.
fn lines(directory: &Path, table: &str) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(directory.join(table))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    files.sort();
    let texts = files.iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts
        .flat_map(|text| {
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
        })
        .collect()
}

#[test]
fn every_event_is_there_with_all_its_fields() {
    let table = Table::new(1);
    let manifest = table.run(&table.export("all", Format::Jsonl, all())).unwrap();
    let events: Vec<_> = table.reader.events_from(Seq::MIN).map(Result::unwrap).collect();
    assert_eq!(manifest.until, events.last().unwrap().head());
    let rows = lines(&table.path("all"), "events");
    assert_eq!(rows.len(), events.len());
    let mut of_kinds: BTreeMap<EventKind, std::vec::IntoIter<Value>> = EventKind::ALL
        .iter()
        .map(|kind| (*kind, lines(&table.path("all"), kind.as_str()).into_iter()))
        .collect();
    for (stored, row) in events.iter().zip(rows) {
        assert_eq!(row["hash"], stored.hash.to_string());
        assert_eq!(row["seq"], stored.header.seq.get());
        let typed = of_kinds.get_mut(&stored.event.kind()).unwrap().next().unwrap();
        assert_eq!(typed["seq"], row["seq"]);
        // Each field of the payload stands in a column, whatever that is called.
        let payload = serde_json::to_value(&stored.event).unwrap();
        let values: Vec<&Value> = typed.as_object().unwrap().values().collect();
        for value in leaves(&payload) {
            let text = Value::from(value.to_string());
            let is_there = values.contains(&&value) || values.contains(&&text);
            assert!(is_there || value.is_null(), "{} lacks {value} of {payload}", typed["seq"]);
        }
        let columns = typed.as_object().unwrap();
        if stored.event.kind() == EventKind::BetResolved {
            assert!(columns["bet_type"].is_string() && columns["weather"].is_string());
        }
        if columns.contains_key("season_id") {
            assert!(columns["user_id"].as_str().unwrap().starts_with("usr_"));
        }
    }
    assert!(of_kinds.values_mut().all(|rest| rest.next().is_none()));
}

/// The plain values of a JSON object; a list is one.
fn leaves(json: &Value) -> Vec<Value> {
    match json {
        Value::Object(fields) => fields.values().flat_map(leaves).collect(),
        other => vec![other.clone()],
    }
}

#[test]
fn an_export_goes_on_and_gives_the_same_as_one_in_one_go() {
    let table = Table::new(2);
    let head = table.reader.head().unwrap().seq;
    for format in FORMATS {
        let part = |name: &str, until: u64| {
            let until = Some(Seq::new(until).unwrap());
            table.export(name, format, Selection { until, ..all() })
        };
        // In two directories: the newer half goes on from the older's manifest.
        let (older, newer) = (format!("older-{format}"), format!("newer-{format}"));
        let first = table.run(&part(&older, head / 2)).unwrap();
        assert_eq!(first.until.seq, head / 2);
        let since = going_on(&first, &table.reader).unwrap();
        let second = table.run(&table.export(&newer, format, since)).unwrap();
        assert_eq!((second.after, second.until.seq), (first.until, head));
        let counted = first.rows["events"] + second.rows["events"];
        assert_eq!(counted, head);
        for name in [&older, &newer] {
            assert_eq!(table.differences(name), [""; 0], "{name}");
        }
        // Once more there is nothing to do.
        let files = second.files.len();
        let again = going_on(&first, &table.reader).unwrap();
        assert_eq!(table.run(&table.export(&newer, format, again)).unwrap().files.len(), files);
    }
    let both: Vec<Value> = ["older-jsonl", "newer-jsonl"]
        .iter()
        .flat_map(|name| lines(&table.path(name), "bet_resolved"))
        .collect();
    table.run(&table.export("whole", Format::Jsonl, all())).unwrap();
    assert_eq!(both, lines(&table.path("whole"), "bet_resolved"), "bets placed before the cut too");
}

/// Guards: seqs without an event that is asked for are passed like others.
#[test]
fn an_export_of_what_is_rare_goes_on_too() {
    let directory = tempfile::tempdir().unwrap();
    let simulated = Simulated::from_seed(10);
    let key_id = simulated.first_key.key_id();
    let ledger = Ledger::open(simulated.options(directory.path())).unwrap();
    let submit = |command| ledger.submit(Submission::new(command)).unwrap().wait().unwrap();
    submit(Command::RotateKey { key_id, compromised: false });
    let reader = Reader::open(directory.path()).unwrap();
    let export = Export {
        directory: directory.path().join("rare"),
        format: Format::Csv,
        selection: Selection { kinds: vec![EventKind::KeyRotated], ..all() },
    };
    for registered in 0..4 {
        let manifest = export.run(&reader, &mut |_| {}).unwrap();
        assert_eq!(manifest.until, reader.head().unwrap(), "{registered}");
        assert_eq!(manifest.rows["key_rotated"], 1);
        let checked = check(&export.directory, &reader, &mut |_| {}).unwrap();
        assert_eq!(checked.differences, [""; 0], "{registered}");
        submit(Command::RegisterUser { user_id: UserId::random() });
    }
}

#[test]
fn what_a_kill_left_is_made_anew() {
    let table = Table::new(3);
    for format in FORMATS {
        let name = format!("killed-{format}");
        let export = table.export(&name, format, all());
        let whole = table.run(&export).unwrap();
        // Killed before the manifest was there: files are whole, half or not there.
        std::fs::remove_file(table.path(&name).join(MANIFEST)).unwrap();
        let file = table.path(&name).join(&whole.files[0].path);
        std::fs::write(file.with_extension(format!("{format}.part")), "half").unwrap();
        std::fs::write(&file, "half of another").unwrap();
        std::fs::write(table.path(&name).join("manifest.json.part"), "{").unwrap();
        let again = table.run(&export).unwrap();
        assert_eq!(again, whole);
        assert_eq!(table.differences(&name), [""; 0]);
        assert!(!file.with_extension(format!("{format}.part")).exists());
    }
}

#[test]
fn a_selection_has_its_own_and_nothing_else() {
    let table = Table::new(4);
    let events: Vec<_> = table.reader.events_from(Seq::MIN).map(Result::unwrap).collect();
    let user =
        events.iter().find(|stored| stored.event.kind() == EventKind::SeasonCompleted).and_then(
            |stored| table.reader.stream_from_head(stored.header.seq).unwrap().into_iter().next(),
        );
    let Some(daybook_schema::Event::SeasonStarted(started)) = user.map(|stored| stored.event)
    else {
        panic!("a season that began")
    };
    let kinds = vec![EventKind::BetPlaced, EventKind::SessionStarted];
    let selection = Selection { kinds, user: Some(started.user_id), ..all() };
    table.run(&table.export("hers", Format::Jsonl, selection)).unwrap();
    let hers = lines(&table.path("hers"), "events");
    assert!(hers.len() > 20);
    let is_hers = |row: &Value| row["user_id"] == started.user_id.to_string();
    assert!(lines(&table.path("hers"), "bet_placed").iter().all(is_hers));
    assert!(hers.iter().all(|row| row["kind"] == "bet_placed" || row["kind"] == "session_started"));
    assert!(!table.path("hers").join("bet_resolved").exists());
    assert_eq!(table.differences("hers"), [""; 0]);
    // A time, and an hour in which nothing was.
    let middle = events[events.len() / 2].header.recorded_at;
    let later = Selection { from_time: Some(middle), ..all() };
    let manifest = table.run(&table.export("later", Format::Csv, later)).unwrap();
    let expected = events.iter().filter(|stored| stored.header.recorded_at >= middle).count();
    assert_eq!(manifest.rows["events"], expected as u64);
    let before = Selection { until_time: Some(events[0].header.recorded_at), ..all() };
    let nothing = table.run(&table.export("nothing", Format::Csv, before));
    assert!(matches!(nothing, Err(ExportError::NothingYet { .. })), "{nothing:?}");
}

#[test]
fn what_is_altered_lost_or_added_is_told() {
    let table = Table::new(5);
    for format in FORMATS {
        let name = format!("altered-{format}");
        let manifest = table.run(&table.export(&name, format, all())).unwrap();
        let directory = table.path(&name);
        let file = directory.join(&manifest.files[0].path);
        let bytes = std::fs::read(&file).unwrap();
        let mut altered = bytes.clone();
        altered[bytes.len() / 2] ^= 1;
        std::fs::write(&file, &altered).unwrap();
        assert!(table.differences(&name)[0].contains("BLAKE3"), "{name}");
        std::fs::write(&file, &bytes[1..]).unwrap();
        assert!(table.differences(&name)[0].contains("bytes"));
        std::fs::remove_file(&file).unwrap();
        assert!(table.differences(&name)[0].contains("cannot be read"));
        std::fs::write(&file, &bytes).unwrap();
        let more = file.with_file_name(format!("more.{format}"));
        std::fs::copy(&file, &more).unwrap();
        assert!(table.differences(&name)[0].contains("no file of this export"));
        std::fs::remove_file(more).unwrap();
        assert_eq!(table.differences(&name), [""; 0]);
        // Rows of another ledger, with a manifest that tells their hashes.
        let other = Table::new(6);
        let forged = other.run(&other.export(&name, format, all())).unwrap();
        let (own, foreign) = (&manifest.files[0], &forged.files[0]);
        std::fs::copy(other.path(&name).join(&foreign.path), &file).unwrap();
        let told = std::fs::read_to_string(directory.join(MANIFEST)).unwrap();
        let told = told.replace(&own.blake3, &foreign.blake3).replace(
            &format!("\"bytes\": {}", own.bytes),
            &format!("\"bytes\": {}", foreign.bytes),
        );
        std::fs::write(directory.join(MANIFEST), told).unwrap();
        let differences = table.differences(&name);
        assert!(differences[0].contains("the ledger's events"), "{differences:?}");
    }
}

/// The manifest of a directory, changed.
fn forge(directory: &Path, change: impl FnOnce(&mut Value)) {
    let path = directory.join(MANIFEST);
    let mut told: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut told);
    std::fs::write(&path, serde_json::to_vec(&told).unwrap()).unwrap();
}

#[test]
fn a_forged_manifest_is_told_and_not_gone_on_from() {
    let table = Table::new(9);
    let export = table.export("out", Format::Parquet, all());
    table.run(&export).unwrap();
    let directory = table.path("out");
    let genuine = std::fs::read(directory.join(MANIFEST)).unwrap();
    let genesis = table.reader.genesis_head().to_string();
    type Forgery<'a> = (&'a str, Box<dyn Fn(&mut Value) + 'a>);
    let again = |told: &mut Value| {
        let mut second = told["files"][1].clone();
        second["path"] = "bet_placed/9.parquet".into();
        told["files"].as_array_mut().unwrap().push(second);
    };
    let forgeries: Vec<Forgery<'_>> = vec![
        ("a second file of a table", Box::new(again)),
        ("a device", Box::new(|told| told["files"][0]["path"] = "/dev/zero".into())),
        ("elsewhere", Box::new(|told| told["files"][0]["path"] = "../ledger.db".into())),
        ("an unknown table", Box::new(|told| told["files"][0]["table"] = "nosuch".into())),
        ("fewer rows", Box::new(|told| told["rows"]["bet_placed"] = 5.into())),
        ("more rows than fit", Box::new(|told| told["rows"]["events"] = u64::MAX.into())),
        ("another game", Box::new(|told| told["game"] = "poker".into())),
        ("no demo", Box::new(|told| told["is_demo"] = false.into())),
        ("another choice", Box::new(|told| told["selection"]["from"] = 5.into())),
        ("an end before", Box::new(|told| told["selection"]["until"] = 5.into())),
        ("nothing", Box::new(|told| told["files"] = Value::Array(Vec::new()))),
        (
            "nothing, to the genesis",
            Box::new(|told| {
                (told["files"], told["until"]) = (Value::Array(Vec::new()), genesis.clone().into());
                told["rows"] = serde_json::json!({});
            }),
        ),
        (
            "a table less",
            Box::new(|told| {
                told["files"].as_array_mut().unwrap().retain(|it| it["table"] != "jackpot_paid");
                told["rows"].as_object_mut().unwrap().remove("jackpot_paid");
            }),
        ),
    ];
    for (what, change) in forgeries {
        forge(&directory, change);
        assert!(!table.differences("out").is_empty(), "{what}");
        let again = table.run(&export);
        assert!(again.is_err(), "{what}: {again:?}");
        std::fs::write(directory.join(MANIFEST), &genuine).unwrap();
    }
    assert_eq!(table.differences("out"), [""; 0]);
    // Files that are no Parquet, with hashes that are right.
    let file = directory.join("bet_placed/00000000000000000001.parquet");
    std::fs::write(&file, "junk").unwrap();
    forge(&directory, |told| {
        for entry in told["files"].as_array_mut().unwrap() {
            if entry["table"] == "bet_placed" {
                entry["bytes"] = 4.into();
                entry["blake3"] = blake3::hash(b"junk").to_hex().to_string().into();
            }
        }
    });
    assert!(table.differences("out")[0].contains("bet_placed"));
    // A footer that tells other statistics: a tool that believes it leaves rows out.
    std::fs::remove_dir_all(&directory).unwrap();
    table.run(&export).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let in_footer = bytes.len() - 200;
    bytes[in_footer] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    forge(&directory, |told| {
        for entry in told["files"].as_array_mut().unwrap() {
            if entry["table"] == "bet_placed" {
                entry["blake3"] = blake3::hash(&bytes).to_hex().to_string().into();
            }
        }
    });
    assert!(table.differences("out")[0].contains("is not what this version writes"));
    // A table's folder with something in it is no place for another export.
    std::fs::create_dir_all(table.path("taken/bet_placed")).unwrap();
    std::fs::write(table.path("taken/bet_placed/mine.parquet"), "mine").unwrap();
    let taken = table.run(&table.export("taken", Format::Parquet, all()));
    assert!(matches!(taken, Err(ExportError::NotEmpty { .. })), "{taken:?}");
}

#[test]
fn an_export_of_something_else_is_refused() {
    let (table, other) = (Table::new(7), Table::new(8));
    let manifest = table.run(&table.export("out", Format::Csv, all())).unwrap();
    let otherwise = table.run(&table.export("out", Format::Jsonl, all())).unwrap_err();
    assert!(otherwise.to_string().contains("another format: csv, now jsonl"), "{otherwise}");
    let export = Export { directory: table.path("out"), format: Format::Csv, selection: all() };
    let refused = export.run(&other.reader, &mut |_| {}).unwrap_err();
    assert!(matches!(refused, ExportError::Manifest(ManifestError::AnotherLedger { .. })));
    let found = check(&table.path("out"), &other.reader, &mut |_| {}).unwrap();
    assert_eq!(found.differences.len(), 1);
    // The same ledger with another past.
    let mut forged = manifest;
    forged.until.seq -= 1;
    assert!(matches!(going_on(&forged, &table.reader), Err(ManifestError::AnotherPast { .. })));
    // One at a time.
    let lock = std::fs::File::create(table.path("out/manifest.json.lock")).unwrap();
    lock.lock().unwrap();
    let second = table.run(&table.export("out", Format::Csv, all()));
    assert!(matches!(second, Err(ExportError::InUse { .. })), "{second:?}");
    drop(lock);
    let full = tempfile::tempdir().unwrap();
    std::fs::write(full.path().join("thesis.txt"), "mine").unwrap();
    let into_full =
        Export { directory: full.path().to_owned(), format: Format::Csv, selection: all() };
    let refused = into_full.run(&table.reader, &mut |_| {}).unwrap_err();
    assert!(matches!(refused, ExportError::NotEmpty { .. }));
    assert_eq!(std::fs::read_dir(full.path()).unwrap().count(), 1);
}

/// Guards: what was exported is still there when more is written to it, and nothing else is.
#[test]
fn a_directory_that_is_not_as_it_was_left_is_refused() {
    let table = Table::new(11);
    let (out, export) = (table.path("out"), table.export("out", Format::Csv, all()));
    let manifest = table.run(&export).unwrap();
    let file = out.join(&manifest.files[0].path);
    let bytes = std::fs::read(&file).unwrap();
    let refused = |problem: &str| {
        let error = table.run(&export).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    };
    let foreign = file.with_file_name("00000000000000000007.csv");
    std::fs::write(&foreign, &bytes).unwrap();
    refused("is no file of this export");
    std::fs::remove_file(foreign).unwrap();
    std::fs::write(out.join("notes.txt"), "mine").unwrap();
    refused("is no file of this export");
    std::fs::remove_file(out.join("notes.txt")).unwrap();
    std::fs::write(&file, &bytes[1..]).unwrap();
    refused("is not there as it was written");
    std::fs::remove_file(&file).unwrap();
    refused("is not there as it was written");
    std::fs::write(&file, &bytes).unwrap();
    // What a kill left of the next files is written once more.
    let next = format!("{:020}.csv", manifest.until.seq + 1);
    std::fs::write(file.with_file_name(&next), "half").unwrap();
    assert_eq!(table.run(&export).unwrap(), manifest);
}

#[test]
fn a_refused_export_leaves_nothing_and_follows_no_link() {
    let table = Table::new(12);
    let nothing = Selection { from: Seq::new(1_000_000).unwrap(), ..all() };
    let new = table.run(&table.export("new", Format::Csv, nothing));
    assert!(matches!(new, Err(ExportError::NothingYet { .. })), "{new:?}");
    assert!(!table.path("new").exists());
    std::fs::create_dir(table.path("web")).unwrap();
    std::fs::write(table.path("web").join(MANIFEST), r#"{"name": "a page"}"#).unwrap();
    assert!(table.run(&table.export("web", Format::Csv, all())).is_err());
    assert_eq!(std::fs::read_dir(table.path("web")).unwrap().count(), 1);
    // Links: what they lead to is not ours.
    let victim = table.path("victim");
    std::fs::write(&victim, "precious").unwrap();
    for name in ["manifest.json.lock", "manifest.json.part"] {
        let directory = table.path(&format!("link-{name}"));
        std::fs::create_dir(&directory).unwrap();
        std::os::unix::fs::symlink(&victim, directory.join(name)).unwrap();
        let export = Export { directory: directory.clone(), format: Format::Csv, selection: all() };
        let ran = table.run(&export);
        assert_eq!(ran.is_ok(), name.ends_with("part"), "{name}: {ran:?}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        let manifest = directory.join(MANIFEST).symlink_metadata();
        assert!(manifest.is_err() || manifest.is_ok_and(|found| found.is_file()));
    }
    // What is no file is not waited for.
    std::fs::create_dir_all(table.path("odd").join(MANIFEST)).unwrap();
    let odd = check(&table.path("odd"), &table.reader, &mut |_| {}).unwrap_err();
    assert!(odd.to_string().contains("cannot be read"), "{odd}");
    // While an export writes nothing is said of its files.
    table.run(&table.export("busy", Format::Csv, all())).unwrap();
    let lock = std::fs::File::open(table.path("busy/manifest.json.lock")).unwrap();
    lock.lock().unwrap();
    let busy = check(&table.path("busy"), &table.reader, &mut |_| {}).unwrap_err();
    assert!(matches!(busy, ExportError::InUse { .. }), "{busy}");
}
