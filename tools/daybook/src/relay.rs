//! `daybook relay`.

use anyhow::Result;
use daybook_ledger::keys;
use daybook_projections::Relay;
use tokio::sync::watch;

use crate::Outcome;
use crate::arguments::read_models::RelayArguments;
use crate::output::note;

pub(crate) fn run(arguments: &RelayArguments) -> Result<Outcome> {
    let data = &arguments.data.data;
    let keys = keys::load(&arguments.keys.directory(data))?;
    let settings = arguments.settings.settings(&arguments.nats)?;
    // A ledger that is not there is told at once, not waited for.
    let ledger_id = daybook_ledger::Reader::open(data)?.genesis().ledger_id;
    note(&format!("relaying {ledger_id} to {} as `{}`", arguments.nats, settings.stream));
    let relay = Relay::new(data, keys.signer, keys.verifying_key, settings);
    crate::runtime()?.block_on(async {
        let stop = stop_on_signal()?;
        relay.run(stop).await?;
        anyhow::Ok(Outcome::Holds)
    })
}

/// Turns true on SIGTERM and ^C.
pub(crate) fn stop_on_signal() -> Result<watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
        // Kept, so that whoever waits for it does not take its end for a stop.
        std::future::pending::<()>().await;
    });
    Ok(stopped)
}
