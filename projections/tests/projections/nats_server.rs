//! A real nats-server on a free port, with JetStream in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use daybook_projections::NatsSettings;

pub struct NatsServer {
    directory: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl NatsServer {
    pub fn start() -> Self {
        Self::with("")
    }

    /// A server with more in its configuration.
    pub fn with(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let store = directory.path().join("store");
        let configuration = format!(
            "listen: 127.0.0.1:{port}\njetstream {{ store_dir: {store:?}, sync_interval: always, max_file_store: 100G }}\n{more}\n"
        );
        std::fs::write(directory.path().join("nats.conf"), configuration).unwrap();
        let mut server = Self { directory, port, child: None };
        server.begin();
        server
    }

    fn binary() -> PathBuf {
        let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let script = above.find_map(|directory| {
            let script = directory.join("tools/nats-server");
            script.exists().then_some(script)
        });
        let output = Command::new(script.unwrap()).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "tools/nats-server installs one");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    }

    /// Starts it, again after [`Self::kill`].
    pub fn begin(&mut self) {
        let log = std::fs::File::create(self.directory.path().join("nats.log")).unwrap();
        let child = Command::new(Self::binary())
            .arg("--config")
            .arg(self.directory.path().join("nats.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let address = ("127.0.0.1", self.port);
        while std::net::TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as a power cut of its process would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn settings(&self) -> NatsSettings {
        let mut settings = NatsSettings::new(&self.url());
        settings.request_timeout = Duration::from_secs(1);
        settings
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}
