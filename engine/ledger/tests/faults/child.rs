//! A real process that plays while its calls are watched, and the record that is kept outside of
//! it.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use daybook_ledger::{
    Head, Ledger, NewLedger, Options, Pending, Reader, Submission, SubmitError, Verdict,
    VerifyOptions, keys, make_snapshot, verify,
};
use daybook_schema::{Command, CommandId, Seq, UserId};
use daybook_simulator::SeasonKey;

use crate::shim;

/// Tells the child where it plays.
const ROOT: &str = "SHIM_ROOT";
/// Tells the child how many commands may wait for their answers.
const IN_FLIGHT: &str = "FAULTS_IN_FLIGHT";
/// Commands of each of the child's two halves.
const COMMANDS: usize = 24;

fn season_key() -> SeasonKey {
    SeasonKey::new([0x11; 32])
}

/// A directory in which a child plays, with its ledger and its keys.
pub struct Scene {
    pub directory: tempfile::TempDir,
    in_flight: usize,
}

/// What a child left.
pub struct Outcome {
    pub calls: Vec<shim::Call>,
    pub printed: String,
}

pub fn data_dir(root: &Path) -> PathBuf {
    root.join("data")
}

pub fn options(root: &Path) -> Options {
    let keys = keys::load(&root.join("keys")).unwrap();
    Options::new(&data_dir(root), keys.season_keys).newest_head(keys.newest_head)
}

impl Scene {
    /// A ledger with a key in force, closed.
    pub fn new(in_flight: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        keys::init(&root.join("keys"), &season_key()).unwrap();
        let ledger = Ledger::open(options(root).create(NewLedger::random())).unwrap();
        let key_id = season_key().key_id();
        let rotate = Command::RotateKey { key_id, compromised: false };
        ledger.submit(Submission::new(rotate)).unwrap().wait().unwrap();
        ledger.close().wait().unwrap();
        Self { directory, in_flight }
    }

    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    fn process_of(&self, child: &str, log: &Path) -> Process {
        let mut process = Process::new(std::env::current_exe().unwrap());
        process
            .args(["--exact", child, "--nocapture"])
            .env("LD_PRELOAD", shim::library())
            .env("SHIM_LOG", log)
            .env(ROOT, self.root())
            .env(IN_FLIGHT, self.in_flight.to_string());
        process
    }

    /// Runs a child that makes a ledger to its end.
    pub fn make_ledger(&self) -> Outcome {
        let log = tempfile::NamedTempFile::new().unwrap();
        let process = self.process_of("child::child_that_makes_a_ledger", log.path());
        Self::run(process, &log)
    }

    /// Runs a child to its end, with more settings of the shim's.
    pub fn play(&self, settings: &[(&str, &str)]) -> Outcome {
        self.play_child("child::child_that_is_watched", settings)
    }

    /// The same of a child that plays in another way.
    pub fn play_child(&self, child: &str, settings: &[(&str, &str)]) -> Outcome {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut process = self.process_of(child, log.path());
        process.envs(settings.iter().copied());
        Self::run(process, &log)
    }

    fn run(mut process: Process, log: &tempfile::NamedTempFile) -> Outcome {
        let output = process.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "the child ended: {printed}{told}");
        Outcome { calls: shim::read_log(log.path()), printed }
    }
}

/// What a child acknowledged, by the id of the command.
pub fn acknowledged(printed: &str) -> BTreeMap<CommandId, Head> {
    let done = printed.lines().filter_map(|line| line.strip_prefix("DONE "));
    done.map(|line| {
        let (id, head) = line.split_once(' ').unwrap();
        (id.parse().unwrap(), head.parse().unwrap())
    })
    .collect()
}

/// The ids of the commands that a child sent.
pub fn sent(printed: &str) -> Vec<CommandId> {
    let sent = printed.lines().filter_map(|line| line.strip_prefix("SENT "));
    sent.map(|id| id.parse().unwrap()).collect()
}

/// Where a child plays; none in a process that is no child.
pub fn watched_root() -> Option<PathBuf> {
    std::env::var_os(ROOT).map(PathBuf::from)
}

/// A command under a new id.
pub fn new_submission() -> Submission {
    submission(CommandId::random())
}

/// The command of an id: whoever knows the id can send it again.
fn submission(id: CommandId) -> Submission {
    let user_id = UserId::from_bytes(*id.as_bytes());
    Submission::new(Command::RegisterUser { user_id }).with_id(id)
}

/// What a loss is called.
const LOST: &str = "an acknowledged event is lost";

/// Holds what lies in a directory to what was acknowledged, sends everything once more, and
/// verifies it.
pub fn expect_nothing_lost(root: &Path, printed: &str) {
    let known = acknowledged(printed);
    // A loss shows at the start, where a signed head outlived its events, or as an event that is
    // missing.
    let ledger = Ledger::open(options(root)).expect(LOST);
    let reader = Reader::open(&data_dir(root)).unwrap();
    for (id, head) in &known {
        let stored = reader.event(Seq::new(head.seq).unwrap());
        let stored = stored.expect(LOST);
        assert_eq!((stored.hash, stored.header.stream.as_bytes()), (head.hash, id.as_bytes()));
    }
    for id in sent(printed) {
        match ledger.submit(submission(id)).unwrap().wait() {
            Ok(accepted) => {
                assert!(
                    known.get(&id).is_none_or(|head| *head == accepted.head),
                    "the same answer"
                );
            }
            Err(error) => assert!(matches!(error, SubmitError::Expired { .. }), "{error}"),
        }
    }
    ledger.close().wait().unwrap();
    let mut users = std::collections::BTreeSet::new();
    for event in reader.events_from(Seq::MIN) {
        let event = event.unwrap();
        if event.header.stream_prev.is_none() {
            assert!(users.insert(event.header.stream), "applied twice");
        }
    }
    let heads = known.into_values().map(Into::into).collect();
    let options = VerifyOptions { full: true, heads, ..VerifyOptions::default() };
    let report = verify(&data_dir(root), &options, &mut |_, _| {}).unwrap();
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.detail);
}

/// The child: not a test of its own. It plays, is closed and opened again so that the log is folded
/// in, makes a snapshot, plays on, and says what it is told.
#[test]
fn child_that_is_watched() {
    let (Some(root), Ok(in_flight)) = (std::env::var_os(ROOT), std::env::var(IN_FLIGHT)) else {
        return;
    };
    let root = PathBuf::from(root);
    let in_flight = in_flight.parse().unwrap();
    println!("\nARM");
    for _ in 0..2 {
        let Ok(ledger) = Ledger::open(options(&root)) else {
            println!("\nREFUSED");
            return;
        };
        let outcome = play(&ledger, in_flight);
        drop(ledger);
        if let Err(error) = outcome {
            println!("\nSTOPPED {error}");
            return;
        }
        if let Err(error) = make_snapshot(&data_dir(&root)) {
            println!("\nNO SNAPSHOT {error}");
        }
    }
    println!("\nFINISHED");
}

/// Where a child makes a ledger whose directories are not there yet.
pub fn new_data_dir(root: &Path) -> PathBuf {
    root.join("deep").join("deeper").join("data")
}

/// The child: not a test of its own. It makes a ledger.
#[test]
fn child_that_makes_a_ledger() {
    let Some(root) = watched_root() else { return };
    let keys = keys::load(&root.join("keys")).unwrap();
    println!("\nARM");
    let options = Options::new(&new_data_dir(&root), keys.season_keys).create(NewLedger::random());
    Ledger::open(options).unwrap().close().wait().unwrap();
    println!("\nFINISHED");
}

fn play(ledger: &Ledger, in_flight: usize) -> Result<(), SubmitError> {
    let mut waiting: VecDeque<(CommandId, Pending<_>)> = VecDeque::new();
    let mut stdout = std::io::stdout().lock();
    for turn in 0..COMMANDS + in_flight {
        if turn < COMMANDS {
            let id = CommandId::random();
            writeln!(stdout, "\nSENT {id}").unwrap();
            waiting.push_back((id, ledger.submit(submission(id))?));
        }
        if waiting.len() >= in_flight || turn >= COMMANDS {
            let Some((id, pending)) = waiting.pop_front() else { break };
            writeln!(stdout, "\nDONE {id} {}", pending.wait()?.head).unwrap();
        }
    }
    Ok(())
}
