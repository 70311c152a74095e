//! A real nats-server beside a bench.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};

/// A nats-server that syncs every message.
pub struct NatsServer {
    child: Child,
    /// Where it listens.
    pub url: String,
}

impl NatsServer {
    pub fn start(dir: &Path) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/nats-server");
        let found = Command::new(script).output()?;
        ensure!(found.status.success(), "tools/nats-server installs one");
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let store = dir.join("nats");
        let configuration = dir.join("nats.conf");
        std::fs::write(
            &configuration,
            format!(
                "listen: 127.0.0.1:{port}\njetstream {{ store_dir: {store:?}, sync_interval: always, max_file_store: 100G }}\n"
            ),
        )?;
        let child = Command::new(String::from_utf8(found.stdout)?.trim())
            .arg("--config")
            .arg(configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { child, url: format!("nats://127.0.0.1:{port}") })
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
