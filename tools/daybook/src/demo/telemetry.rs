//! What the bots' clients tell of themselves, into `telemetry.db`.

use std::path::Path;

use anyhow::{Context, Result};
use daybook_api::{ClientEvent, Telemetry, TelemetrySettings};
use daybook_bots::Told;
use daybook_monitor::Monitor;
use daybook_schema::UserId;
use daybook_schema::limits::TELEMETRY_EVENTS_PER_BATCH_MAX;
use daybook_schema::telemetry::{EventContext, Platform};
use tokio::runtime::Runtime;

/// Events that are kept before play waits for them to be stored: some 200 MB.
const KEPT_MAX: usize = 1_000_000;

/// Events on their way.
pub(super) struct TelemetryFile<'a> {
    runtime: &'a Runtime,
    telemetry: Telemetry,
    kept: Vec<Told>,
    events: u64,
    failed: Option<anyhow::Error>,
}

impl<'a> TelemetryFile<'a> {
    pub(super) fn open(runtime: &'a Runtime, data: &Path) -> Result<Self> {
        let path = data.join("telemetry.db");
        let settings = TelemetrySettings::keeping_all();
        let monitor = Monitor::default();
        let telemetry = runtime.block_on(Telemetry::open(&path, settings, &monitor))?;
        Ok(Self { runtime, telemetry, kept: Vec::new(), events: 0, failed: None })
    }

    /// Takes an event.
    pub(super) fn tell(&mut self, told: Told) {
        self.kept.push(told);
        if self.kept.len() >= KEPT_MAX {
            self.store();
        }
    }

    fn store(&mut self) {
        let mut kept = std::mem::take(&mut self.kept).into_iter();
        while self.failed.is_none() {
            let events: Vec<ClientEvent> =
                kept.by_ref().take(TELEMETRY_EVENTS_PER_BATCH_MAX).map(event).collect();
            if events.is_empty() {
                return;
            }
            self.events += events.len() as u64;
            let stored = self.runtime.block_on(self.telemetry.store_made(events));
            self.failed = stored.err().map(anyhow::Error::from);
        }
    }

    /// Stores the rest, takes out what erased users told, and closes the file; tells how many
    /// events came.
    pub(super) fn finish(mut self, erased: &[UserId]) -> Result<u64> {
        self.store();
        let erasing = async {
            for user_id in erased {
                while !self.telemetry.erase(*user_id).await? {}
            }
            Ok::<_, anyhow::Error>(())
        };
        let erased = match self.failed.take() {
            None => self.runtime.block_on(erasing),
            Some(failed) => Err(failed),
        };
        self.runtime.block_on(self.telemetry.close());
        erased.context("telemetry.db could not be written")?;
        Ok(self.events)
    }
}

/// An event of a client that looks like a browser's.
fn event(told: Told) -> ClientEvent {
    let Told { event_id, at, session_id, sequence, user_id, event } = told;
    ClientEvent {
        event_id: event_id.to_string(),
        timestamp_ms: at.get().div_euclid(1_000),
        session_id: session_id.to_string(),
        user_id: Some(user_id),
        event,
        context: EventContext {
            app_version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: Platform::Web,
            screen_width: 1_920.into(),
            screen_height: 1_080.into(),
            locale: "en".to_owned(),
            timezone: "UTC".to_owned(),
            connection_type: None,
        },
        sequence,
    }
}
