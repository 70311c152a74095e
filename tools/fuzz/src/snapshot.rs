//! A snapshot's file: one byte that says whether the checksum is made anew, then the file.

use daybook_ledger::{Ledger, Options, Submission, ledger_path, snapshots_path};
use daybook_schema::{Command, UserId, digest};
use daybook_simulator::Keyring;

pub fn corpus() -> Vec<Vec<u8>> {
    let directory = std::fs::read_dir(crate::fixture("snapshots")).unwrap();
    let files = directory.map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files.flat_map(|file| [0, 1].map(|sealed| [&[sealed], file.as_slice()].concat())).collect()
}

pub fn run(input: &[u8]) {
    let Some((&sealed, file)) = input.split_first() else { return };
    let mut file = file.to_vec();
    let is_sealed = sealed % 2 == 1 && file.len() > 32;
    if is_sealed {
        file.truncate(file.len() - 32);
        let checksum = digest::SNAPSHOT.derive(&[&file]);
        file.extend(checksum);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::copy(crate::fixture("ledger.db"), ledger_path(path)).unwrap();
    std::fs::create_dir(snapshots_path(path)).unwrap();
    let name = format!("{:020}.snapshot", 895);
    std::fs::write(snapshots_path(path).join(name), &file).unwrap();
    // A head of its own that the ledger lacks is refused; all else opens.
    let Ok(ledger) = Ledger::open(Options::new(path, Keyring::default())) else {
        assert!(is_sealed, "a damaged snapshot is ignored");
        return;
    };
    let hash = ledger.query(|state| state.hash()).unwrap().wait().unwrap().to_string();
    let expected = std::fs::read_to_string(crate::fixture("hashes.txt")).unwrap();
    // The state's hash in it is not made anew: what is used is the state that the ledger gives.
    if !is_sealed {
        assert!(expected.contains(&hash), "another state");
    }
    let session = Command::StartSession { user_id: UserId::from_bytes([4; 16]) };
    let _ = ledger.submit(Submission::new(session)).map(daybook_ledger::Pending::wait);
    let _ = ledger.close().wait();
}
