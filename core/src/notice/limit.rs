//! How often one kind of line is written. During an outage every call fails alike: the first lines
//! say what happens, the next thousand only fill the disk. Per kind and service, a window passes so
//! many lines; what is left out is counted, and told in one line when the window is over.
//!
//! Not for changes of state, of which each is written: see [`Event::is_repeating`].
//!
//! [`Event::is_repeating`]: super::Event::is_repeating

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// Kinds of lines watched at the same time. With more, the window that began first ends early.
pub const MOST: usize = 1_024;

/// How many lines pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Lines of one kind in a window; 0 is all.
    pub lines: u32,
    /// How long a window is. It begins with its first line.
    pub window: Duration,
}

impl Default for Settings {
    /// 20 lines in 10 s.
    fn default() -> Self {
        Settings { lines: 20, window: Duration::from_secs(10) }
    }
}

/// What a line is one of.
pub type Kind = (&'static str, Option<Arc<str>>);

/// Lines that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// Of which kind.
    pub kind: Kind,
    /// How many.
    pub count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    ends: Time,
    passed: u32,
    left_out: u64,
}

/// The windows that are open.
///
/// ```
/// use std::time::Duration;
/// use origin_core::Time;
/// use origin_core::notice::limit::{Limiter, Settings};
///
/// let settings = Settings { lines: 2, window: Duration::from_secs(10) };
/// let mut limiter = Limiter::default();
/// let passed = (0..5).filter(|_| limiter.admit(Time::ZERO, ("shed", None), &settings)).count();
/// assert_eq!(passed, 2);
/// // The window is over: three more are told in one line.
/// let later = Time::from_millis(10_000);
/// assert_eq!(limiter.due(later)[0].count, 3);
/// assert!(limiter.admit(later, ("shed", None), &settings));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limiter {
    windows: BTreeMap<Kind, Window>,
    /// Of windows that made room.
    early: Vec<Suppressed>,
}

impl Limiter {
    /// Whether a line of `kind` is to be written. Ask [`Limiter::due`] before, so that what a
    /// window left out is told before the next one begins.
    #[must_use]
    pub fn admit(&mut self, now: Time, kind: Kind, settings: &Settings) -> bool {
        if settings.lines == 0 {
            return true;
        }
        if let Some(window) = self.windows.get_mut(&kind) {
            if now < window.ends {
                let passes = window.passed < settings.lines;
                if passes {
                    window.passed += 1;
                } else {
                    window.left_out = window.left_out.saturating_add(1);
                }
                return passes;
            }
            self.end(&kind);
        }
        if self.windows.len() >= MOST {
            let first = self.windows.iter().min_by_key(|(_, window)| window.ends);
            if let Some(first) = first.map(|(kind, _)| kind.clone()) {
                self.end(&first);
            }
        }
        let ends = now.plus(settings.window);
        self.windows.insert(kind, Window { ends, passed: 1, left_out: 0 });
        true
    }

    fn end(&mut self, kind: &Kind) {
        let Some((kind, window)) = self.windows.remove_entry(kind) else { return };
        // Bounded: nobody asks [`Limiter::due`] of a limiter that was forgotten.
        if window.left_out > 0 && self.early.len() < MOST {
            self.early.push(Suppressed { kind, count: window.left_out });
        }
    }

    /// What was left out by windows that are over, each once.
    #[must_use]
    pub fn due(&mut self, now: Time) -> Vec<Suppressed> {
        let over: Vec<Kind> = self
            .windows
            .iter()
            .filter(|(_, window)| window.ends <= now)
            .map(|(kind, _)| kind.clone())
            .collect();
        over.iter().for_each(|kind| self.end(kind));
        std::mem::take(&mut self.early)
    }

    /// What was left out until now, also by windows that are not over: for the end of a client.
    #[must_use]
    pub fn finish(&mut self) -> Vec<Suppressed> {
        self.due(Time::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Settings = Settings { lines: 3, window: Duration::from_millis(100) };

    #[test]
    fn kinds_and_services_have_windows_of_their_own() {
        let mut limiter = Limiter::default();
        let services: [Option<Arc<str>>; 3] = [None, Some("a".into()), Some("b".into())];
        for kind in ["shed", "failover"] {
            for service in &services {
                for n in 0..5 {
                    let passes = limiter.admit(Time::ZERO, (kind, service.clone()), &SETTINGS);
                    assert_eq!(passes, n < 3, "{kind} {service:?} {n}");
                }
            }
        }
        assert_eq!(limiter.due(Time::from_millis(99)), []);
        assert_eq!(limiter.due(Time::from_millis(100)).len(), 6);
        assert_eq!(limiter.finish(), []);
    }

    #[test]
    fn no_limit_is_no_limit_and_hostile_names_take_bounded_room() {
        let mut limiter = Limiter::default();
        let all = Settings { lines: 0, ..SETTINGS };
        assert!((0..1_000).all(|_| limiter.admit(Time::ZERO, ("shed", None), &all)));
        assert!(limiter.windows.is_empty());
        for n in 0..10_000_u64 {
            for _ in 0..4 {
                let kind = ("shed", Some(n.to_string().into()));
                let _ = limiter.admit(Time::from_nanos(n), kind, &SETTINGS);
            }
        }
        assert_eq!((limiter.windows.len(), limiter.early.len()), (MOST, MOST));
    }

    proptest! {
        /// In any window of the length, a kind has at most twice its lines (a window's end and the
        /// next one's begin), and every line is either passed or told as left out, once.
        #[test]
        fn every_line_is_written_or_counted(steps in proptest::collection::vec(0_u64..60, 1..200)) {
            let (mut limiter, mut now, mut passed, mut told) = (Limiter::default(), 0, vec![], 0);
            for step in &steps {
                now += step;
                let time = Time::from_millis(now);
                told += limiter.due(time).iter().map(|s| s.count).sum::<u64>();
                if limiter.admit(time, ("shed", None), &SETTINGS) {
                    passed.push(now);
                }
            }
            told += limiter.finish().iter().map(|s| s.count).sum::<u64>();
            prop_assert_eq!(told + passed.len() as u64, steps.len() as u64);
            for at in &passed {
                let near = passed.iter().filter(|p| (*at..at + 100).contains(*p)).count();
                prop_assert!(near <= 6);
            }
        }
    }
}
