//! Guards: nobody is answered what was written to a file that is gone.

use std::time::Duration;

use serde_json::json;

use crate::client::PASSWORD;
use crate::house::House;

/// The addresses in the rescue file beside accounts.db, once there is one.
fn rescued(house: &House) -> Option<Vec<String>> {
    let entries = std::fs::read_dir(house.directory()).unwrap();
    let mut names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let name = names.find(|name| name.contains(".rescued-") && !name.ends_with(".new"))?;
    let database = rusqlite::Connection::open(house.path(&name)).unwrap();
    let mut statement = database.prepare("SELECT email FROM users ORDER BY email").unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    Some(rows.map(Result::unwrap).collect())
}

#[tokio::test]
async fn accounts_that_were_moved_away_are_saved_and_nothing_more_is_acknowledged() {
    for moved in ["accounts.db", "accounts.db-wal"] {
        let house = House::new().await;
        let mut ada = house.client();
        ada.register("ada@farm.example").await.expect(201);
        ada.register("bob@farm.example").await.expect(201);
        std::fs::rename(house.path(moved), house.path("moved")).unwrap();
        house.client().register("eve@farm.example").await.expect(503);
        house.client().log_in("ada@farm.example", PASSWORD).await.expect(503);
        let lost = house.accounts().lost().await;
        assert!(lost.reason.contains(moved), "{lost}");
        assert!(lost.to_string().contains(".rescued-"), "{lost}");
        assert_eq!(rescued(&house).unwrap(), ["ada@farm.example", "bob@farm.example"]);
    }
}

/// Guards: it is seen although nobody writes.
#[tokio::test]
async fn an_idle_service_sees_that_its_accounts_were_replaced() {
    let house = House::new().await;
    house.client().register("ada@farm.example").await.expect(201);
    std::fs::rename(house.path("accounts.db"), house.path("moved")).unwrap();
    std::fs::write(house.path("accounts.db"), b"another file").unwrap();
    let lost =
        tokio::time::timeout(Duration::from_secs(10), house.accounts().lost()).await.unwrap();
    assert!(lost.reason.contains("another file was put in the place"), "{lost}");
    assert_eq!(std::fs::read(house.path("accounts.db")).unwrap(), b"another file");
    assert_eq!(rescued(&house).unwrap(), ["ada@farm.example"]);
    let mut stranger = house.client();
    stranger
        .post("/api/auth/login", json!({ "email": "ada@farm.example", "password": PASSWORD }))
        .await
        .expect(503);
}

/// Guards: nobody else on the machine reads addresses and hashes.
#[tokio::test]
async fn accounts_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::new().await;
    house.client().register("ada@farm.example").await.expect(201);
    for name in ["accounts.db", "accounts.db-wal", "accounts.db-shm"] {
        let mode = std::fs::metadata(house.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}
