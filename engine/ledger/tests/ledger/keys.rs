//! Guards: keys are kept to their owner, told apart by name, and never overwritten.

use std::os::unix::fs::PermissionsExt;

use daybook_ledger::keys::{KeysError, add_season_key, init, load, random_season_key, remove};

#[test]
fn keys_are_made_with_modes_of_their_own_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    assert!(matches!(load(&path), Err(KeysError::Missing { .. })));
    let (first, second) = (random_season_key().unwrap(), random_season_key().unwrap());
    init(&path, &first).unwrap();
    add_season_key(&path, &second).unwrap();
    assert!(matches!(init(&path, &first), Err(KeysError::Exists { .. })));
    assert!(add_season_key(&path, &second).is_err(), "a key is never overwritten");
    let keys = load(&path).unwrap();
    assert!([&first, &second].iter().all(|key| keys.season_keys.contains(&key.key_id())));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&path).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn keys_that_others_may_read_or_that_were_swapped_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let key = random_season_key().unwrap();
    init(&path, &key).unwrap();
    let file = path.join(format!("season-{}.key", key.key_id()));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = load(&path).unwrap_err();
    assert!(matches!(error, KeysError::TooOpen { mode: 0o644, .. }), "{error}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&file, path.join("season-0000000000000000.key")).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.contains(&format!("it holds key {}", key.key_id())), "{error}");
}

#[test]
fn a_directory_that_holds_something_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let key = random_season_key().unwrap();
    let foreign = directory.path().join("letters.txt");
    std::fs::write(&foreign, "dear").unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(init(directory.path(), &key), Err(KeysError::Exists { .. })));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    let mode = std::fs::metadata(directory.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);

    let path = directory.path().join("keys");
    init(&path, &key).unwrap();
    std::fs::write(path.join("mine.txt"), "mine").unwrap();
    remove(&path).unwrap();
    let left: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["mine.txt"], "only keys are removed");
}

/// What an interrupted call leaves is completed by the next.
#[test]
fn an_interrupted_init_is_completed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    let key = random_season_key().unwrap();
    init(&path, &key).unwrap();
    std::fs::remove_file(path.join("signing.key")).unwrap();
    std::fs::write(path.join("signing.key.new"), "").unwrap();
    assert!(matches!(load(&path), Err(KeysError::Missing { .. })));
    let other = random_season_key().unwrap();
    init(&path, &other).unwrap();
    let keys = load(&path).unwrap();
    assert!([&key, &other].iter().all(|key| keys.season_keys.contains(&key.key_id())));
}
