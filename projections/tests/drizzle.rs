//! Guards: the seed's own Drizzle schema and queries, as they stand, work on `game.db`, and
//! drizzle-kit finds nothing to change in it.
//!
//! The tests themselves are in `projections/drizzle`, in TypeScript, run by a real node with the
//! real packages, which npm installs under `target/` the first time.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected must stop")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use daybook_bots::Play;
use daybook_projections::test_kit::{rows_of, same};
use daybook_projections::{
    BoxFuture, DatabaseSettings, Feed, FeedError, FeedSource, GameDatabase, Step, Tail, Worker,
    Workers, all_projections, sqlx,
};
use daybook_schema::{Block, Head};
use sqlx::Connection;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{stdout}\n{stderr}");
    stdout
}

/// Copies the TypeScript beside the packages that it needs.
fn installed(root: &Path) -> PathBuf {
    // Tests run beside each other.
    static INSTALLING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _installing = INSTALLING.lock().unwrap();
    let (source, target) = (root.join("projections/drizzle"), root.join("target/drizzle"));
    std::fs::create_dir_all(target.join("src/db")).unwrap();
    let files = [
        "package.json",
        "package-lock.json",
        ".npmrc",
        "extract.mjs",
        "drizzle.config.ts",
        "kit.test.ts",
        "seed.test.ts",
        "src/db/client.ts",
        "src/db/inverses.ts",
    ];
    let lock = |directory: &Path| std::fs::read(directory.join("package-lock.json")).ok();
    let is_current = target.join("node_modules/.done").exists() && lock(&source) == lock(&target);
    for file in files {
        std::fs::copy(source.join(file), target.join(file)).unwrap();
    }
    if !is_current {
        run(npm(root).arg("ci").current_dir(&target));
        std::fs::write(target.join("node_modules/.done"), "").unwrap();
    }
    target
}

/// A node program, with node on its path.
fn program(root: &Path, name: &str) -> Command {
    let path = program_path(root);
    let directory = path.split(':').next().unwrap_or_default();
    let mut command = Command::new(Path::new(directory).join(name));
    command.env("PATH", path);
    command
}

/// The path, node's directory first.
fn program_path(root: &Path) -> String {
    let directory = run(&mut Command::new(root.join("tools/node")));
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", directory.trim())
}

fn npm(root: &Path) -> Command {
    program(root, "npm")
}

/// A ledger up to an event.
struct UpTo {
    tail: Tail,
    seq: u64,
}

impl Feed for UpTo {
    fn next(
        &mut self,
        after: Head,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Option<Block>, FeedError>> {
        Box::pin(async move {
            let Some(mut block) = self.tail.next(after, timeout).await? else { return Ok(None) };
            block.events.retain(|stored| stored.header.seq.get() <= self.seq);
            Ok(Some(block).filter(|block| !block.events.is_empty()))
        })
    }
}

/// Read models of most of a ledger, so that some seasons are still in play, and a session, which no
/// projection makes; checkpointed, as a copy that is sent on must be.
async fn game_db(data_dir: &Path, seq: u64) -> PathBuf {
    let path = data_dir.join("game.db");
    let database = GameDatabase::open(&path, DatabaseSettings::default()).await.unwrap();
    for projection in all_projections() {
        let feed = Box::new(UpTo { tail: Tail::new(data_dir), seq });
        let mut worker = Worker::new(projection, feed, &database);
        assert_ne!(worker.catch_up().await.unwrap(), Step::Stopped);
    }
    let url = format!("sqlite://{}", path.display());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    for statement in [
        "INSERT INTO sessions (id, user_id, expires_at, created_at, user_agent) \
         SELECT 'session-' || id, id, created_at + 604800, created_at, 'a browser' FROM users LIMIT 3",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    path
}

/// `push --force` with the seed's own configuration, run by habit on a live file, drops every table
/// that the seed does not know: the workers stop, and the next start makes all anew.
#[test]
fn a_forced_push_on_a_live_file_loses_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let directory = tempfile::tempdir().unwrap();
    Play { players: 5, days: 3, seed: 92 }.into_new_ledger(directory.path()).unwrap();
    let path = directory.path().join("game.db");
    let target = installed(&root);
    let seed = root.join("projections/drizzle/seed.txt");
    run(program(&root, "node").arg("extract.mjs").arg(seed).current_dir(&target));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let all = all_projections();
    let own = all.iter().flat_map(|projection| projection.tables().iter().copied());
    let tables: Vec<&str> = own.chain(["users", "projection_positions"]).collect();
    runtime.block_on(async {
        let open = async |path: &Path| {
            GameDatabase::open(path, DatabaseSettings::default()).await.unwrap()
        };
        let source = FeedSource::ledger(directory.path());
        let fresh = directory.path().join("fresh.db");
        Workers::catch_up(&open(&fresh).await, &all, &source).await.unwrap();
        let expected = rows_of(&fresh, &tables).await.unwrap();

        let database = open(&path).await;
        Workers::catch_up(&database, &all, &source).await.unwrap();
        let mut workers = Workers::start(&database, &all, &source);
        let told = tokio::task::spawn_blocking(move || {
            // It drops tables one by one, and may stop at a view of ours: whatever it did, it did.
            Command::new(target.join("node_modules/.bin/drizzle-kit"))
                .args(["push", "--force", "--config", "drizzle.seed.config.ts"])
                .env("PATH", program_path(&root))
                .env("DATABASE_URL", path.display().to_string())
                .current_dir(target)
                .output()
                .unwrap()
        });
        let told = told.await.unwrap();
        let lost = tokio::time::timeout(Duration::from_secs(60), workers.file_lost()).await;
        let lost = lost.unwrap_or_else(|_| panic!("the workers go on; drizzle-kit said {told:?}"));
        assert!(lost.reason.contains("was dropped from outside"), "{lost}");
        workers.stop().await;
        drop(database);

        let path = directory.path().join("game.db");
        let database = open(&path).await;
        assert!(database.set_aside().is_some_and(|aside| aside.path.exists()));
        Workers::catch_up(&database, &all, &source).await.unwrap();
        same("after a forced push", &expected, &rows_of(&path, &tables).await.unwrap()).unwrap();
    });
}

#[test]
fn the_seeds_own_schema_and_queries_work_on_game_db() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let play = Play { players: 8, days: 5, seed: 91 };
    let head = play.into_new_ledger(directory.path()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let game_db = runtime.block_on(game_db(directory.path(), head.seq * 3 / 5));

    let target = installed(&root);
    let seed = root.join("projections/drizzle/seed.txt");
    run(program(&root, "node").arg("extract.mjs").arg(seed).current_dir(&target));
    let url = format!("file:{}", game_db.display());
    let tests = ["--test", "seed.test.ts", "kit.test.ts"];
    let tsx = target.join("node_modules/tsx/dist/cli.mjs");
    let told = run(program(&root, "node")
        .arg(tsx)
        .args(tests)
        .env("TURSO_URL", url)
        .env_remove("DATABASE_URL")
        .current_dir(&target));
    assert!(told.contains("fail 0"), "{told}");
}
