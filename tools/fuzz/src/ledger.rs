//! A ledger's file: every reader of it comes to an end, and what is called intact is as it was.

use daybook_ledger::{
    Ledger, Options, Reader, Submission, Verdict, VerifyOptions, ledger_path, replay, verify,
};
use daybook_schema::{Command, EventKind, Seq, UserId};
use daybook_simulator::Keyring;

pub fn corpus() -> Vec<Vec<u8>> {
    vec![std::fs::read(crate::fixture("ledger.db")).unwrap()]
}

/// The events of a file, if all can be read.
fn events(directory: &std::path::Path) -> Option<Vec<daybook_ledger::StoredEvent>> {
    Reader::open(directory).ok()?.events_from(Seq::MIN).collect::<Result<_, _>>().ok()
}

pub fn run(input: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::write(ledger_path(path), input).unwrap();
    if let Ok(reader) = Reader::open(path) {
        let _ = reader.head();
        let _ = reader.events_of_kinds(&[EventKind::BetPlaced], Seq::MIN).count();
        if let Ok(Some(head)) = reader.find_stream_head(UserId::from_bytes([1; 16]).into()) {
            let _ = reader.stream_from_head(head);
        }
    }
    let _ = replay(path, Some(100), |_, _| {});
    let plain = verify(path, &VerifyOptions::default(), &mut |_, _| {});
    let full = VerifyOptions { full: true, ..VerifyOptions::default() };
    let full = verify(path, &full, &mut |_, _| {});
    assert_eq!(plain.is_ok(), full.is_ok());
    if let (Ok(plain), Ok(full)) = (plain, full)
        && full.verdict == Verdict::Intact
    {
        assert_eq!(plain.verdict, Verdict::Intact);
        let expected = events(crate::fixture("").as_path()).unwrap();
        assert_eq!(events(path).unwrap(), expected, "called intact and changed");
    }
    let keys = Keyring::default();
    if let Ok(ledger) = Ledger::open(Options::new(path, keys)) {
        let register = Command::RegisterUser { user_id: UserId::from_bytes([8; 16]) };
        let _ = ledger.submit(Submission::new(register)).map(daybook_ledger::Pending::wait);
        let _ = ledger.close().wait();
    }
}
