//! The wish to end, from outside: commands that go on until somebody ends them look at it, tidy up
//! and end by themselves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

static CAME: OnceLock<Arc<AtomicBool>> = OnceLock::new();
const LOOK: Duration = Duration::from_millis(50);

/// From now on SIGINT, SIGTERM and SIGHUP are a wish. A second one ends the process at once, as it
/// would have without this.
pub(crate) fn heed() {
    CAME.get_or_init(|| {
        let came = Arc::new(AtomicBool::new(false));
        for signal in SIGNALS {
            // Where it cannot be heeded the process ends as it always did.
            let twice = signal_hook::flag::register_conditional_default(*signal, came.clone());
            let _ = twice.and_then(|_| signal_hook::flag::register(*signal, came.clone()));
        }
        came
    });
}

#[cfg(unix)]
const SIGNALS: &[i32] =
    &[signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: &[i32] = &[signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];

/// Whether one has come.
pub(crate) fn came() -> bool {
    CAME.get().is_some_and(|came| came.load(Ordering::Relaxed))
}

/// Waits so long, or until one comes; whether it has.
pub(crate) fn came_within(span: Duration) -> bool {
    let began = Instant::now();
    loop {
        let left = span.saturating_sub(began.elapsed());
        if came() || left.is_zero() {
            return came();
        }
        thread::sleep(left.min(LOOK));
    }
}
