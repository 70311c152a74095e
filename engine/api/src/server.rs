//! The listener: connections with limits, a start that answers before it serves, a stop that lets
//! requests finish.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::{IntoResponse, Response};
use dashmap::DashMap;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::client::{Neighbourhood, plain, proxy_at};
use crate::error::{ApiError, Code};
use crate::headers::mark;
use crate::settings::{Connections, TrustedProxy};
use crate::watched::Watched;

const HEADER_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
const STREAMS_PER_CONNECTION_MAX: u32 = 16;
/// When the system has no descriptor left, the next connection is looked at so much later.
const ACCEPTED_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A listener that serves the router once it is there.
pub struct Server {
    listener: TcpListener,
    router: Arc<OnceLock<Router>>,
    connections: Connections,
    proxies: Vec<TrustedProxy>,
    is_demo: bool,
}

/// Gives a server its router: what comes before is answered 503.
#[derive(Clone, Debug)]
pub struct Ready(Arc<OnceLock<Router>>);

impl Ready {
    /// From now on the router answers.
    pub fn serve(&self, router: Router) {
        // A second one is not needed.
        drop(self.0.set(router));
    }
}

/// How many connections each client has.
#[derive(Clone, Default)]
struct Clients(Arc<DashMap<Neighbourhood, usize>>);

/// A connection that is counted as long as it is open.
struct Place {
    clients: Clients,
    client: Neighbourhood,
}

impl Clients {
    fn count(&self, client: Neighbourhood, most: usize) -> Option<Place> {
        let mut open = self.0.entry(client).or_insert(0);
        if *open >= most {
            return None;
        }
        *open += 1;
        Some(Place { clients: self.clone(), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut open) = self.clients.0.get_mut(&self.client) {
            *open -= 1;
        }
        self.clients.0.remove_if(&self.client, |_, open| *open == 0);
    }
}

impl Server {
    /// A server on a listener, and what gives it its router.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        connections: Connections,
        proxies: Vec<TrustedProxy>,
        is_demo: bool,
    ) -> (Self, Ready) {
        let router = Arc::new(OnceLock::new());
        let ready = Ready(Arc::clone(&router));
        (Self { listener, router, connections, proxies, is_demo }, ready)
    }

    /// Serves until it is told to stop. Then nothing more is accepted, requests that are under way
    /// are answered, and what takes longer than it may is cut off.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.connections.most));
        let (clients, mut open) = (Clients::default(), JoinSet::new());
        let mut stopped = pin!(async move { drop(stop.wait_for(|is_stopped| *is_stopped).await) });
        loop {
            // A place first: the system's queue holds those who come meanwhile.
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                () = &mut stopped => break,
            };
            let Ok(place) = place else { break };
            let (stream, peer) = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPTED_AGAIN_AFTER).await;
                        continue;
                    }
                },
                () = &mut stopped => break,
            };
            let client = Neighbourhood::of(plain(peer.ip()));
            // One client cannot hold the places of all.
            let Some(counted) = clients.count(client, self.most_of(peer.ip())) else { continue };
            let (watched, activity) = Watched::new(stream);
            let connection = graceful.watch(self.connection(watched, peer));
            let idle_for = self.connections.request_timeout + self.connections.header_timeout;
            open.spawn(async move {
                // How a client ends its connection is its own matter.
                tokio::select! {
                    _ = connection => {}
                    () = activity.idle(idle_for) => {}
                }
                drop((counted, place));
            });
            // Those that ended leave nothing behind.
            while open.try_join_next().is_some() {}
        }
        drop(self.listener);
        let finished = graceful.shutdown();
        if tokio::time::timeout(self.connections.stop_timeout, finished).await.is_err() {
            tracing::warn!("requests that did not end in time are cut off");
            open.shutdown().await;
        }
    }

    /// Connections that a peer may have; a proxy that is trusted has all.
    fn most_of(&self, peer: IpAddr) -> usize {
        match proxy_at(&self.proxies, plain(peer)) {
            Some(_) => usize::MAX,
            None => self.connections.per_client_max,
        }
    }

    fn connection(
        &self,
        stream: Watched,
        peer: SocketAddr,
    ) -> impl hyper_util::server::graceful::GracefulConnection + Send + 'static {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.connections.header_timeout)
            .max_buf_size(HEADER_BYTES_MAX)
            .max_headers(HEADERS_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(HEADER_BYTES_MAX).unwrap_or(u32::MAX))
            .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX);
        let (router, is_demo) = (Arc::clone(&self.router), self.is_demo);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            answer(router.get().cloned(), request.map(Body::new), peer, is_demo)
        });
        builder.serve_connection(TokioIo::new(stream), service).into_owned()
    }
}

async fn answer(
    router: Option<Router>,
    mut request: Request,
    peer: SocketAddr,
    is_demo: bool,
) -> Result<Response, Infallible> {
    let Some(router) = router else {
        let mut response = starting(&request);
        mark(response.headers_mut(), false, is_demo);
        return Ok(response);
    };
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request).await
}

/// What is answered before the ledger is recovered.
fn starting(request: &Request) -> Response {
    match request.uri().path() {
        "/healthz" => axum::Json(serde_json::json!({ "status": "starting" })).into_response(),
        _ => ApiError::new(Code::Unavailable).saying("The service is starting").into_response(),
    }
}
