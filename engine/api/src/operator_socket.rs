//! The Unix socket by which the operator's commands reach a running service.

use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::operator::Task;
use crate::service::{Service, in_full};

/// A task may name a million users.
const TASK_BYTES_MAX: usize = 64 << 20;
/// Tasks that are under way when it stops have so long for their answers. One that was sent by
/// halves holds nothing up.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// What it is called in the data directory.
const SOCKET: &str = "operator.sock";
/// Where tasks are sent to.
pub const TASK_PATH: &str = "/task";

/// The longest path that the system takes for a socket, less some room.
const PATH_BYTES_MAX: usize = 100;

/// The path of a data directory's socket, short enough for the system.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    /// Through this the path leads, where it would be too long.
    _directory: Option<std::fs::File>,
}

impl SocketPath {
    /// Of a data directory.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        let path = data_dir.join(SOCKET);
        let is_long = path.as_os_str().len() > PATH_BYTES_MAX;
        match is_long.then(|| std::fs::File::open(data_dir)) {
            Some(Ok(directory)) => {
                let through = format!("/proc/self/fd/{}", directory.as_raw_fd());
                Self { path: Path::new(&through).join(SOCKET), _directory: Some(directory) }
            }
            _ => Self { path, _directory: None },
        }
    }

    /// As the system takes it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A socket that is listened at.
#[derive(Debug)]
pub struct OperatorSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl OperatorSocket {
    /// Listens in a data directory, whose writer's lock this process has: a socket that lies there
    /// is that of a process that was killed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn bind(data_dir: &Path) -> std::io::Result<Self> {
        let path = data_dir.join(SOCKET);
        let reached = SocketPath::of(data_dir);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(reached.path())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Does what it is asked for until it is told to stop.
    pub async fn run(self, service: Service, mut stop: watch::Receiver<bool>) {
        let router = Router::new().route(TASK_PATH, post(operate));
        let router = router.layer(DefaultBodyLimit::max(TASK_BYTES_MAX)).with_state(service);
        let mut stop_accepting = stop.clone();
        let served = axum::serve(self.listener, router).with_graceful_shutdown(async move {
            drop(stop_accepting.wait_for(|is_stopped| *is_stopped).await);
        });
        let is_late = async {
            drop(stop.wait_for(|is_stopped| *is_stopped).await);
            tokio::time::sleep(ANSWERED_WITHIN).await;
        };
        tokio::select! {
            served = served => if let Err(error) = served {
                tracing::warn!(%error, "the operator's socket is closed");
            },
            () = is_late => tracing::warn!("a task of the operator's was not answered in time"),
        }
        drop(std::fs::remove_file(&self.path));
    }
}

async fn operate(State(service): State<Service>, Json(task): Json<Task>) -> Response {
    match in_full(async move { service.operate(task).await }).await {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => error.into_response(),
    }
}
