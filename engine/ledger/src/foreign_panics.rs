//! Foreign code within the engine's threads: a panic of it is told to its caller, and ends nothing.

use std::any::Any;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, catch_unwind};

use daybook_simulator::State;

/// A question sees the state by reference: what it leaves half done is its own.
const fn is_ref_unwind_safe<T: RefUnwindSafe>() {}
const _: () = is_ref_unwind_safe::<State>();

/// Runs foreign code with all that it captured; gives what it panicked with.
pub(crate) fn contain<T>(foreign: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(foreign)).map_err(|payload| {
        let reason = reason(payload.as_ref());
        // What it panicked with is foreign too, and so is its end.
        if let Err(again) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
            std::mem::forget(again);
        }
        reason
    })
}

/// The same where nobody is left to be told but the log.
pub(crate) fn contain_and_log(foreign: impl FnOnce()) {
    if let Err(reason) = contain(foreign) {
        tracing::error!(reason, "a caller's code panicked on a thread of the engine; play goes on");
    }
}

fn reason(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it told no reason".to_owned())
}
