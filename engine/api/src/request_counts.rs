//! How many requests were answered, by route and status.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::Method;
use dashmap::DashMap;

/// Requests by method, route and status: as many as there are routes and codes, whatever clients
/// send.
#[derive(Debug, Default)]
pub(crate) struct RequestCounts(DashMap<(&'static str, String, u16), AtomicU64>);

/// A method of a route; those that no route has are one.
fn named(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

impl RequestCounts {
    /// Counts one. The route is its pattern, `none` where there is none.
    pub(crate) fn count(&self, method: &Method, route: &str, status: u16) {
        let key = (named(method), route.to_owned(), status);
        if let Some(count) = self.0.get(&key) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.0.entry(key).or_default().fetch_add(1, Ordering::Relaxed);
    }

    /// All counts.
    pub(crate) fn all(&self) -> Vec<(&'static str, String, u16, u64)> {
        let counts = self.0.iter().map(|entry| {
            let (method, route, status) = entry.key();
            (*method, route.clone(), *status, entry.value().load(Ordering::Relaxed))
        });
        let mut counts: Vec<_> = counts.collect();
        counts.sort_unstable();
        counts
    }
}
