//! Checks of the application's own: what they are told, the thread they run on, and a ready-made
//! one that runs a program. When they run, and what an exit code means, is the core's.
//!
//! What such a check does is not known, so it must be expected to block: it gets a plain thread,
//! on every adapter. That thread is outside of any runtime, hence its own clock here.

use std::ffi::OsString;
use std::fmt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use event_listener::{Event, Listener};
use origin_core::Address;
use origin_core::job::CheckOutcome;

use crate::hub::lock;

/// A custom check: 0 is healthy, 1 degraded, anything else unhealthy, `None` killed.
pub(crate) type Custom = Arc<dyn Fn(&CheckTarget) -> Option<i32> + Send + Sync>;

/// First wait for a program to end; doubles.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// Longest wait for it: what a killed or ended program is noticed late by.
const LAST_LOOK: Duration = Duration::from_millis(16);
/// What a shell answers for a program it cannot run.
const NOT_RUN: i32 = 127;

/// What a custom check is told about the endpoint it has to check.
#[derive(Clone, Debug)]
pub struct CheckTarget {
    service: Arc<str>,
    address: Address,
    deadline: Instant,
    /// Dead when nobody waits for the result any more; `None` where nobody could stop waiting.
    life: Option<Weak<()>>,
}

impl CheckTarget {
    /// An endpoint of `service` that is to be checked within `limit`: to try a check alone.
    #[must_use]
    pub fn new(service: &str, address: Address, limit: Duration) -> CheckTarget {
        CheckTarget { service: service.into(), address, deadline: end_of(limit), life: None }
    }

    pub(crate) fn of(
        service: Arc<str>,
        address: Address,
        limit: Duration,
        life: Weak<()>,
    ) -> CheckTarget {
        CheckTarget { service, address, deadline: end_of(limit), life: Some(life) }
    }

    /// The name of the service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The address as discovery or the configuration writes it.
    #[must_use]
    pub fn address(&self) -> &str {
        self.address.as_str()
    }

    /// Its host, without the brackets of IPv6; `None` when the address does not name host and
    /// port.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.address.host_and_port().map(|(host, _)| host)
    }

    /// Its port, also where it is the default of the scheme; `None` as for [`CheckTarget::host`].
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.address.host_and_port().map(|(_, port)| port)
    }

    /// How much time is left. Zero when it is over, and as soon as nobody waits for the result
    /// any more because the client was dropped: then the check should end. One that goes on has
    /// failed all the same, and keeps its thread.
    #[must_use]
    pub fn left(&self) -> Duration {
        if self.life.as_ref().is_some_and(|life| life.strong_count() == 0) {
            return Duration::ZERO;
        }
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// A limit beyond what a clock can hold is as good as a day, and no check is given so long.
fn end_of(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit).unwrap_or_else(|| now + Duration::from_secs(86_400))
}

/// A check that runs a program, without a shell: exit code 0 is healthy, 1 degraded, any other
/// unhealthy (the convention of Consul and Nagios). It finds `ORIGIN_SERVICE`, `ORIGIN_ADDRESS`
/// and, where the address names them, `ORIGIN_HOST` and `ORIGIN_PORT` in its environment; there
/// is nothing on its standard input, and its output is discarded. It is killed at the end of its
/// time and when the client is dropped, which does not reach programs that it has started itself.
/// One that cannot be run counts as 127, as in a shell.
///
/// ```
/// # #[cfg(unix)] {
/// use std::time::Duration;
/// use origin_driver::core::Address;
/// use origin_driver::{CheckTarget, command_check};
///
/// let check = command_check("sh", ["-c", "test $ORIGIN_PORT -eq 5432 || exit 2"]);
/// let of = |address| {
///     let address = Address::parse(address).unwrap();
///     check(&CheckTarget::new("database", address, Duration::from_secs(5)))
/// };
/// assert_eq!((of("db-1:5432"), of("db-1:80")), (Some(0), Some(2)));
/// # }
/// ```
pub fn command_check(
    program: impl Into<OsString>,
    args: impl IntoIterator<Item: Into<OsString>>,
) -> impl Fn(&CheckTarget) -> Option<i32> + Send + Sync + 'static {
    let program: OsString = program.into();
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    move |target| run(Command::new(&program).args(&args), target)
}

// Waiting for a program with a limit is not in the standard library, and this is a thread that
// nobody else needs.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, which may sleep")]
fn run(command: &mut Command, target: &CheckTarget) -> Option<i32> {
    command.env("ORIGIN_SERVICE", target.service()).env("ORIGIN_ADDRESS", target.address());
    // Those of an enclosing check would name another endpoint.
    command.env_remove("ORIGIN_HOST").env_remove("ORIGIN_PORT");
    if let (Some(host), Some(port)) = (target.host(), target.port()) {
        command.env("ORIGIN_HOST", host).env("ORIGIN_PORT", port.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return Some(NOT_RUN) };
    let mut look = FIRST_LOOK;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code(),
            Ok(None) if !target.left().is_zero() => {
                thread::sleep(look.min(target.left()));
                look = (look * 2).min(LAST_LOOK);
            }
            Ok(None) | Err(_) => {
                // Fails when it has ended meanwhile; waited for in any case, or it would stay in
                // the system's table as a zombie.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

/// Where the result of a check on a thread appears.
pub(crate) struct Slip {
    outcome: Mutex<Option<CheckOutcome>>,
    there: Event,
}

impl Slip {
    fn new() -> Arc<Slip> {
        Arc::new(Slip { outcome: Mutex::new(None), there: Event::new() })
    }

    fn write(&self, outcome: CheckOutcome) {
        *lock(&self.outcome) = Some(outcome);
        self.there.notify(usize::MAX);
    }

    /// The result, as soon as it is there.
    #[cfg(feature = "hyper")]
    pub(crate) async fn outcome(&self) -> CheckOutcome {
        loop {
            let there = self.there.listen();
            if let Some(outcome) = lock(&self.outcome).take() {
                return outcome;
            }
            there.await;
        }
    }

    /// The result, if it is there within `limit`.
    pub(crate) fn outcome_within(&self, limit: Duration) -> Option<CheckOutcome> {
        let there = self.there.listen();
        let now = lock(&self.outcome).take();
        now.or_else(|| {
            let _ = there.wait_timeout(limit);
            lock(&self.outcome).take()
        })
    }
}

/// Threads of custom checks of one service. One that hangs cannot be ended from outside, so they
/// are counted until they end by themselves: beyond the bound there is no further check.
#[derive(Default)]
pub(crate) struct Threads(Arc<AtomicU32>);

impl Threads {
    /// Runs `check` on a thread of its own, unless `most` of them are running. Where it cannot be
    /// run, and if it panics, the result is [`CheckOutcome::Dropped`].
    pub(crate) fn start(&self, most: u32, check: Custom, target: CheckTarget) -> Arc<Slip> {
        let slip = Slip::new();
        let mut pen = Pen { slip: slip.clone(), result: None, running: None };
        let free = |running| (running < most).then_some(running + 1);
        if self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).is_ok() {
            pen.running = Some(self.0.clone());
            let thread = thread::Builder::new().name("origin-check".into());
            // If it does not start, the pen is dropped with the rest.
            let _ = thread.spawn(move || {
                // All of it: a closure takes no more than the field it uses.
                let mut pen = pen;
                pen.result = Some(check(&target));
            });
        }
        slip
    }
}

/// Writes the slip when it is dropped, whatever way the thread ends.
struct Pen {
    slip: Arc<Slip>,
    result: Option<Option<i32>>,
    running: Option<Arc<AtomicU32>>,
}

impl Drop for Pen {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.fetch_sub(1, Ordering::Relaxed);
        }
        self.slip.write(self.result.map_or(CheckOutcome::Dropped, CheckOutcome::Ended));
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Threads({})", self.0.load(Ordering::Relaxed))
    }
}
