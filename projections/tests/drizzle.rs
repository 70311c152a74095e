//! Guards: the seed's own Drizzle schema and queries, as they stand, work on `game.db`, and drizzle-kit finds
//! nothing to change in it.
//!
//! The tests themselves are in `projections/drizzle`, in TypeScript, run by a real node with the real
//! packages, which npm installs under `target/` the first time.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected must stop")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use daybook_bots::Play;
use daybook_projections::{
    BoxFuture, DatabaseSettings, Feed, FeedError, GameDatabase, Step, Tail, Worker,
    all_projections, sqlx,
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
    let directory = run(&mut Command::new(root.join("tools/node")));
    let directory = directory.trim();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(Path::new(directory).join(name));
    command.env("PATH", format!("{directory}:{path}"));
    command
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
