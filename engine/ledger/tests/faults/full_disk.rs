//! Guards: a disk that is found full makes the ledger read-only, and play goes on when there is
//! room.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use daybook_ledger::{Ledger, NewLedger, Options, Reader, Submission, SubmitError};
use daybook_schema::{Command, UserId, limits};
use daybook_simulator::{Keyring, SeasonKey};

const DIRECTORY: &str = "FAULTS_FULL_DISK";

fn register(ledger: &Ledger) -> Result<u64, SubmitError> {
    let command = Command::RegisterUser { user_id: UserId::random() };
    ledger.submit(Submission::new(command))?.wait().map(|accepted| accepted.head.seq)
}

/// The child: not a test of its own. It plays on a small disk of its own, which it fills and
/// clears.
#[test]
fn child_on_a_small_disk() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let key = SeasonKey::new([0x11; 32]);
    let key_id = key.key_id();
    let options = Options::new(&directory, Keyring::new([key])).create(NewLedger::random());
    let ledger = Ledger::open(options).unwrap();
    let rotate = Submission::new(Command::RotateKey { key_id, compromised: false });
    ledger.submit(rotate).unwrap().wait().unwrap();
    let before = register(&ledger).unwrap();

    fill(&directory.join("filler"));
    // The answer to a command that is refused for want of room, again and again.
    for _ in 0..3 {
        let error = register(&ledger).unwrap_err();
        let full = matches!(error, SubmitError::ReadOnly { free_bytes } if free_bytes < limits::DISK_FREE_BYTES_MIN);
        assert!(full, "{error}");
    }
    // Reading goes on.
    assert_eq!(ledger.query(|state| state.users.len()).unwrap().wait().unwrap(), 1);
    assert_eq!(Reader::open(&directory).unwrap().head().unwrap().seq, before);
    // So does writing, when there is room, without a restart.
    std::fs::remove_file(directory.join("filler")).unwrap();
    assert_eq!(register(&ledger).unwrap(), before + 2);
    println!("\nPLAYED ON");
}

/// Writes until there is no room at all.
fn fill(path: &Path) {
    let mut filler = std::fs::File::create(path).unwrap();
    while filler.write_all(&[0; 1 << 20]).is_ok() {}
}

#[test]
fn a_full_disk_makes_the_ledger_read_only_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let size = limits::DISK_FREE_BYTES_MIN + 32 * 1024 * 1024;
    let mount = format!("mount -t tmpfs -o size={size} tmpfs \"$0\" && exec \"$@\"");
    // A mount that only the child sees; who is not root gets one of a user namespace.
    let is_root = rustix::process::geteuid().is_root();
    let mut child = Process::new("unshare")
        .args(if is_root { &["-m"][..] } else { &["-rm"][..] })
        .args(["sh", "-c", &mount])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "full_disk::child_on_a_small_disk", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare of util-linux");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.map(Result::unwrap).collect();
    let played_on = lines.iter().any(|line| line == "PLAYED ON");
    assert!(played_on, "on a tmpfs in a mount namespace of its own: {lines:?}");
    drop(child.wait());
}
