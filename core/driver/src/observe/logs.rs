//! Notices as lines of a log: one structured event each, once for the whole client, in order, and
//! outside of every lock of a machine. Whoever made a machine speak writes the lines; if somebody
//! is at it already, he goes on with these, so that nobody waits for a log and a subscriber that
//! calls this client again does not wait for himself.

use std::sync::{Mutex, TryLockError};

use origin_core::Time;
use origin_core::notice::limit::{Limiter, Suppressed};
use origin_core::notice::{Facts, Level, Plain, Subject};
use tracing::level_filters::LevelFilter;

use super::feed::{Cursor, Heard};
use crate::hub::Hub;
use crate::runtime::Runtime;

/// Rounds of one who writes, when more is said meanwhile; the rest is for the next one.
const ROUNDS: u8 = 8;

/// How far the log is.
#[derive(Default)]
pub(crate) struct Voice(Mutex<State>);

#[derive(Default)]
struct State {
    cursor: Cursor,
    limiter: Limiter,
}

impl Voice {
    /// The client ends: says what was left out.
    pub(crate) fn finish(&mut self) {
        let state = self.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.limiter.finish().iter().for_each(left_out);
    }
}

impl<R: Runtime> Hub<R> {
    /// Writes what was said since the last time. To be called without any lock.
    #[inline]
    pub(crate) fn speak(&self) {
        if self.bell.is_rung() {
            self.write();
        }
    }

    #[cold]
    fn write(&self) {
        for _ in 0..ROUNDS {
            let mut state = match self.voice.0.try_lock() {
                Ok(state) => state,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            if !self.bell.answer() {
                return;
            }
            let State { cursor, limiter } = &mut *state;
            let heard = self.hear(cursor);
            let (now, limit) = (self.runtime.now(), self.config().log.limit());
            for heard in heard {
                limiter.due(now).iter().for_each(left_out);
                if let Heard::Notice(notice) = &heard {
                    let kind = (notice.event.log_name(), notice.service.clone());
                    let skip = !is_on(notice.event.level())
                        || notice.event.is_repeating() && !limiter.admit(now, kind, &limit);
                    if skip {
                        continue;
                    }
                }
                say(&heard);
            }
        }
    }

    /// Writes what a window has left out, once it is over. The background's, which looks now and
    /// then anyway.
    pub(crate) fn speak_late(&self, now: Time) {
        self.speak();
        if let Ok(mut state) = self.voice.0.try_lock() {
            state.limiter.due(now).iter().for_each(left_out);
        }
    }
}

/// The static look: whether anybody wants lines of this level.
fn is_on(level: Level) -> bool {
    LevelFilter::current()
        >= match level {
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
        }
}

#[derive(Default)]
struct Line<'a> {
    event: &'a str,
    service: Option<String>,
    facts: Facts<'a>,
    suppressed: Option<u64>,
    text: String,
}

fn plain(text: &str) -> String {
    Plain(text).to_string()
}

fn say(heard: &Heard) {
    let text = Plain(heard).to_string();
    match heard {
        Heard::Notice(notice) => {
            let event = &notice.event;
            let line = Line {
                event: event.log_name(),
                service: notice.about().map(plain),
                facts: event.facts(),
                suppressed: None,
                text,
            };
            write(event.subject(), event.level(), &line);
        }
        Heard::Missed { service, count } => {
            let service = service.as_deref().map(plain);
            let suppressed = Some(*count);
            let line = Line { event: "missed", service, suppressed, text, ..Line::default() };
            write(Subject::Client, Level::Warn, &line);
        }
    }
}

fn left_out(suppressed: &Suppressed) {
    let Suppressed { kind: (event, service), count } = suppressed;
    let of = service.as_ref().map_or(String::new(), |service| format!("{service}: "));
    let line = Line {
        event: "suppressed",
        service: service.as_deref().map(plain),
        facts: Facts { reason: Some((*event).to_owned()), ..Facts::default() },
        suppressed: Some(*count),
        text: Plain(format_args!("{of}{count} more {event} suppressed")).to_string(),
    };
    write(Subject::Client, Level::Info, &line);
}

/// Target and level of a line are static in `tracing`, so each pair has a place of its own.
fn write(subject: Subject, level: Level, line: &Line<'_>) {
    let component = (subject == Subject::Discovery).then_some("service_discovery");
    let service = line.service.as_deref();
    // The name that contract 004 has for it.
    let service_name = service.filter(|_| component.is_some());
    let id = line.facts.service_id.map(plain);
    let (cluster, endpoint) = (line.facts.cluster.map(plain), line.facts.endpoint.map(plain));
    let reason = line.facts.reason.as_deref().map(plain);
    let error = line.facts.error.as_deref().map(plain);
    macro_rules! at {
        ($target:literal, $level:ident) => {
            tracing::event!(
                target: $target,
                tracing::Level::$level,
                component,
                event = line.event,
                service,
                service_name,
                service_id = id.as_deref(),
                cluster = cluster.as_deref(),
                endpoint = endpoint.as_deref(),
                reason = reason.as_deref(),
                error = error.as_deref(),
                suppressed = line.suppressed.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
                "{}",
                line.text
            )
        };
    }
    macro_rules! on {
        ($target:literal) => {
            match level {
                Level::Error => at!($target, ERROR),
                Level::Warn => at!($target, WARN),
                Level::Info => at!($target, INFO),
                Level::Debug => at!($target, DEBUG),
            }
        };
    }
    // As `Subject::target` has them.
    match subject {
        Subject::Discovery => on!("origin::discovery"),
        Subject::Service => on!("origin::service"),
        Subject::Credentials => on!("origin::credentials"),
        Subject::Client => on!("origin::client"),
    }
}
