//! Guards: a process that is killed under load loses nothing that it acknowledged, and applies
//! nothing twice.
//!
//! A child process registers users with many commands in flight and tells what it sent and what was
//! acknowledged; this process keeps that record, kills the child with SIGKILL, opens the ledger and
//! holds it to the record.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command as Process, Stdio};

use daybook_ledger::{
    Head, Ledger, NewLedger, Options, Reader, Submission, SubmitError, Verdict, VerifyOptions,
    verify,
};
use daybook_schema::{Command, CommandId, Seq, UserId};
use daybook_simulator::Keyring;

use crate::fixture::{repeats, season_key};

/// Tells the child where its ledger lies.
const DIRECTORY: &str = "DAYBOOK_CRASH_TEST_DIRECTORY";
const KILLS: u64 = 20;
const IN_FLIGHT: usize = 64;

fn open(directory: &Path) -> Ledger {
    let keys = Keyring::new([season_key()]);
    let ledger = Ledger::open(Options::new(directory, keys).create(NewLedger::random())).unwrap();
    let key_id = season_key().key_id();
    let rotate = Submission::new(Command::RotateKey { key_id, compromised: false });
    // Refused from the second start on: the key is in force.
    let _ = ledger.submit(rotate).unwrap().wait();
    ledger
}

/// The command of an id: whoever knows the id can send it again.
fn submission(id: CommandId) -> Submission {
    let user_id = UserId::from_bytes(*id.as_bytes());
    Submission::new(Command::RegisterUser { user_id }).with_id(id)
}

fn new_id() -> CommandId {
    CommandId::from_bytes(*UserId::random().as_bytes()).unwrap()
}

/// The child: not a test of its own, it runs until it is killed.
#[test]
fn child_that_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let ledger = open(Path::new(&directory));
    let mut stdout = std::io::stdout().lock();
    let mut in_flight = VecDeque::new();
    loop {
        let id = new_id();
        writeln!(stdout, "\nSENT {id}").unwrap();
        in_flight.push_back((id, ledger.submit(submission(id)).unwrap()));
        if in_flight.len() >= IN_FLIGHT {
            let (id, pending) = in_flight.pop_front().unwrap();
            writeln!(stdout, "\nDONE {id} {}", pending.wait().unwrap().head).unwrap();
        }
    }
}

/// What the child told before it was killed.
#[derive(Default)]
struct Record {
    sent: BTreeSet<CommandId>,
    acknowledged: BTreeMap<CommandId, Head>,
}

impl Record {
    fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["SENT", id] => drop(self.sent.insert(id.parse().unwrap())),
            ["DONE", id, head] => {
                self.acknowledged.insert(id.parse().unwrap(), head.parse().unwrap());
            }
            _ => {}
        }
    }
}

/// Runs a child and kills it after so many acknowledgements.
fn run_and_kill(directory: &Path, acknowledgements: u64, record: &mut Record) {
    let mut child = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_that_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
    let mut seen = 0;
    while seen < acknowledgements {
        let line = lines.next().expect("the child runs until it is killed").unwrap();
        let line = String::from_utf8(line).unwrap();
        seen += u64::from(line.starts_with("DONE"));
        record.note(&line);
    }
    child.kill().unwrap();
    // What was still in the pipe counts too; the last line may be cut.
    let rest: Vec<String> = lines.map(|line| String::from_utf8(line.unwrap()).unwrap()).collect();
    rest.iter().take(rest.len().saturating_sub(1)).for_each(|line| record.note(line));
    child.wait().unwrap();
}

#[test]
fn a_killed_process_loses_nothing_acknowledged_and_applies_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let mut record = Record::default();
    for kill in 0..repeats(KILLS) {
        let unanswered: BTreeSet<CommandId> = record.sent.clone();
        run_and_kill(directory.path(), 1 + kill * 37 % 400, &mut record);
        let ledger = open(directory.path());
        let reader = Reader::open(directory.path()).unwrap();
        for (id, head) in &record.acknowledged {
            let stored = reader.event(Seq::new(head.seq).unwrap()).unwrap();
            assert_eq!((stored.hash, stored.header.stream.as_bytes()), (head.hash, id.as_bytes()));
        }
        // Every command of this round, acknowledged or not, is sent again: it gets the answer that
        // it had, or is applied now, or is certainly not.
        for id in record.sent.difference(&unanswered) {
            match ledger.submit(submission(*id)).unwrap().wait() {
                Ok(accepted) => {
                    let known = record.acknowledged.insert(*id, accepted.head);
                    assert!(known.is_none_or(|known| known == accepted.head), "the same answer");
                }
                Err(SubmitError::Expired { .. }) => {}
                Err(error) => panic!("{id}: {error}"),
            }
        }
        ledger.close().wait().unwrap();
    }
    let mut ids = BTreeSet::new();
    for event in Reader::open(directory.path()).unwrap().events_from(Seq::MIN) {
        if let Some(mark) = event.unwrap().header.command.mark {
            assert!(ids.insert(mark.id), "{} was applied twice", mark.id);
        }
    }
    assert!(record.acknowledged.keys().all(|id| ids.contains(id)));
    let options = VerifyOptions {
        full: true,
        heads: record.acknowledged.into_values().map(Into::into).collect(),
        ..VerifyOptions::default()
    };
    let report = verify(directory.path(), &options, &mut |_, _| {}).unwrap();
    assert_eq!(report.verdict, Verdict::Intact, "{}", report.detail);
}
