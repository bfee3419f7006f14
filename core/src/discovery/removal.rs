//! The guard against mass removal: what vanishes from a source all at once is kept for a while.
//!
//! A registry that says a service has no instances is more often broken than right: it has lost
//! its data, its checks all fail from where it stands, a token was revoked and the list comes back
//! filtered and empty (Consul answers 200 and `[]` then), or a deployment script has a bug. Whoever
//! believes it at once turns its trouble into an outage of every service. Eureka stops evicting
//! when fewer than 85 % of the renewals it expects arrive, Envoy ignores health when fewer than
//! half of the hosts have it, and static stability is the general form of the idea: when the
//! control plane says something drastic, go on with what worked.
//!
//! So when more than `share` of the instances vanish, at once or added up over `hold`, or all of
//! them, those that vanish are kept as *suspects*, to be used when no other instance is left. They
//! are given up when they have been absent for `hold`, or for so many further answers; a source
//! that persists is believed in the end. While the source does not answer at all, nothing is given
//! up ([`Guard::tick`]): its last word may have been the beginning of its end. A slow shrink
//! passes unnoticed, and so does a replacement: what counts is how many are named, not which.
//! Instances that come back are suspects no more, and new ones are used at once.
//!
//! Unlike Eureka's self-preservation it is per service and ends by itself, and unlike Envoy's
//! panic threshold it concerns the list and not health. Off: `enabled = false`.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::instance::{Condition, Instance};
use crate::config::field::{At, WEEK, at_least_one};
use crate::config::{ConfigError, RemovalConfig};
use crate::time::Time;

/// A checked [`RemovalConfig`], integers only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    enabled: bool,
    /// Share that may vanish, in thousandths.
    share: u32,
    min_instances: usize,
    hold: Duration,
    confirmations: u32,
    confirm_every: Duration,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field out of range, or that contradicts another.
    pub fn of(config: &RemovalConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.permille("share", config.share)?;
        at.within("min_instances", config.min_instances, 1..=1_000_000)?;
        at.within("hold", config.hold, Duration::from_millis(100)..=WEEK)?;
        at.within("confirmations", config.confirmations, 0..=1_000)?;
        at.span_or_zero("confirm_every", config.confirm_every)?;
        at.ordered(("confirm_every", config.confirm_every), ("hold", config.hold))?;
        Ok(Settings::compile(config))
    }

    fn compile(config: &RemovalConfig) -> Settings {
        Settings {
            enabled: config.enabled,
            share: At("").permille("share", config.share).unwrap_or(1_000),
            min_instances: usize::try_from(config.min_instances).unwrap_or(usize::MAX),
            hold: Duration::from_nanos(at_least_one(config.hold)),
            confirmations: config.confirmations,
            confirm_every: config.confirm_every,
        }
    }

    /// Whether `named` of `before` instances is a mass removal.
    fn is_mass(&self, before: usize, named: usize) -> bool {
        if named == 0 {
            return before > 0;
        }
        let kept = u128::from(1_000 - self.share.min(1_000));
        before >= self.min_instances && (named as u128) * 1_000 < (before as u128) * kept
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&RemovalConfig::default())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Suspect {
    instance: Instance,
    since: Time,
    /// Further answers without it, and when the last one was counted.
    absent: u32,
    counted: Time,
}

/// A mass removal that was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mass {
    /// Instances before.
    pub before: usize,
    /// Instances that the source names now.
    pub named: usize,
    /// Instances kept although they vanished.
    pub suspects: usize,
    /// When they are given up at the latest, if the source goes on answering without them.
    pub until: Time,
}

impl fmt::Display for Mass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mass { before, named, suspects, .. } = self;
        write!(f, "the source names {named} of {before} instances; keeping {suspects} in reserve")
    }
}

/// What an answer of the source led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[must_use]
pub struct Taken {
    /// Instances that were not known before.
    pub added: usize,
    /// Instances that are gone now.
    pub removed: usize,
    /// Instances became suspects by this answer.
    pub mass: Option<Mass>,
}

/// The list of one service behind the guard.
///
/// ```
/// use std::time::Duration;
/// use origin_core::discovery::removal::{Guard, Settings};
/// use origin_core::discovery::{Instance, Role};
/// use origin_core::{Address, Time};
///
/// let instance = |n: u32| {
///     let address = Address::parse(&format!("http://10.0.0.{n}:80")).unwrap();
///     Instance::new("dc1".into(), Role::Primary, address)
/// };
/// let (settings, mut guard) = (Settings::default(), Guard::default());
/// let now = Time::ZERO;
/// let taken = guard.take(now, (1..=6).map(instance).collect(), &settings);
/// assert_eq!(taken.added, 6);
/// // The registry forgets nearly everything. The rest stays in reserve ...
/// let taken = guard.take(now, vec![instance(3)], &settings);
/// assert_eq!((taken.removed, taken.mass.unwrap().suspects), (0, 5));
/// assert_eq!(guard.list().len(), 6);
/// assert_eq!(guard.list()[0], instance(3));
/// // ... until the registry, which answers, has meant it for half a minute.
/// assert_eq!(guard.tick(now.plus(Duration::from_secs(30)), true, &settings), 5);
/// assert_eq!(guard.list(), [instance(3)]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    named: Vec<Instance>,
    suspects: Vec<Suspect>,
    /// The most instances since `base_at`, against which removals are held.
    base: usize,
    base_at: Time,
}

impl Guard {
    /// Takes an answer of the source.
    pub fn take(&mut self, now: Time, named: Vec<Instance>, settings: &Settings) -> Taken {
        let ids: BTreeSet<Arc<str>> = named.iter().map(|instance| instance.id.clone()).collect();
        let known: BTreeSet<Arc<str>> = self.ids().cloned().collect();
        let added = ids.difference(&known).count();
        if !settings.enabled {
            let removed = known.difference(&ids).count();
            (self.named, self.suspects) = (named, Vec::new());
            self.rebase(now, ids.len());
            return Taken { added, removed, mass: None };
        }
        let over = now >= self.base_at.plus(settings.hold) || now < self.base_at;
        if over && self.suspects.is_empty() {
            self.rebase(now, known.len());
        }
        self.base = self.base.max(known.len()).max(ids.len());
        let mass = settings.is_mass(self.base, ids.len());
        let before = std::mem::replace(&mut self.named, named);
        self.suspects.retain_mut(|suspect| {
            if ids.contains(&suspect.instance.id) || !mass {
                return false;
            }
            if now >= suspect.counted.plus(settings.confirm_every) {
                suspect.absent = suspect.absent.saturating_add(1);
                suspect.counted = now;
            }
            true
        });
        let held = self.suspects.len();
        if mass {
            let mut seen = BTreeSet::new();
            let vanished = before
                .into_iter()
                .filter(|instance| !ids.contains(&instance.id) && seen.insert(instance.id.clone()));
            let suspect = |instance| Suspect { instance, since: now, absent: 0, counted: now };
            self.suspects.extend(vanished.map(suspect));
        }
        let more = self.suspects.len() > held;
        self.release(now, settings);
        let left: BTreeSet<&Arc<str>> = self.ids().collect();
        let removed = known.iter().filter(|id| !left.contains(id)).count();
        let mass = more.then(|| Mass {
            before: known.len(),
            named: ids.len(),
            suspects: self.suspects.len(),
            until: now.plus(settings.hold),
        });
        Taken { added, removed, mass }
    }

    /// Gives up suspects whose time is over; how many. `answering`: whether the source answers,
    /// or would if it was asked; while it does not, all stay.
    pub fn tick(&mut self, now: Time, answering: bool, settings: &Settings) -> usize {
        if answering { self.release(now, settings) } else { 0 }
    }

    /// When [`Guard::tick`] is worth calling; [`Time::NEVER`] without suspects, and while the
    /// source does not answer.
    #[must_use]
    pub fn due(&self, answering: bool, settings: &Settings) -> Time {
        if !answering {
            return Time::NEVER;
        }
        let ends = self.suspects.iter().map(|suspect| suspect.since.plus(settings.hold));
        ends.min().unwrap_or(Time::NEVER)
    }

    /// What the source names.
    #[must_use]
    pub fn named(&self) -> &[Instance] {
        &self.named
    }

    /// What vanished and is kept in reserve.
    pub fn suspects(&self) -> impl Iterator<Item = &Instance> {
        self.suspects.iter().map(|suspect| &suspect.instance)
    }

    /// Everything that can be used: what the source names in its order, then the suspects, whose
    /// condition is [`Condition::Warning`], so that they come after all others.
    #[must_use]
    pub fn list(&self) -> Vec<Instance> {
        let mut list = Vec::with_capacity(self.named.len() + self.suspects.len());
        list.extend_from_slice(&self.named);
        list.extend(self.suspects().cloned().map(|mut suspect| {
            if suspect.condition != Condition::Critical {
                suspect.condition = Condition::Warning;
            }
            suspect
        }));
        list
    }

    fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.named.iter().chain(self.suspects()).map(|instance| &instance.id)
    }

    fn rebase(&mut self, now: Time, count: usize) {
        (self.base, self.base_at) = (count, now);
    }

    fn release(&mut self, now: Time, settings: &Settings) -> usize {
        let before = self.suspects.len();
        let confirmed = |suspect: &Suspect| {
            settings.confirmations > 0 && suspect.absent >= settings.confirmations
        };
        self.suspects.retain(|suspect| {
            let over = now >= suspect.since.plus(settings.hold);
            settings.enabled && !over && !confirmed(suspect)
        });
        // When the clock went back, nobody waits longer than `hold` from now.
        for suspect in &mut self.suspects {
            suspect.since = suspect.since.min(now);
            suspect.counted = suspect.counted.min(now);
        }
        let released = before - self.suspects.len();
        if released > 0 && self.suspects.is_empty() {
            let count = self.named.len();
            self.rebase(now, count);
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Role;
    use super::*;
    use crate::address::Address;

    fn s(seconds: u64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    fn instance(n: u32) -> Instance {
        let address = Address::parse(&format!("http://10.0.0.{n}:80")).unwrap();
        Instance::new("dc1".into(), Role::Primary, address)
    }

    fn list(numbers: impl IntoIterator<Item = u32>) -> Vec<Instance> {
        numbers.into_iter().map(instance).collect()
    }

    fn ids(list: &[Instance]) -> BTreeSet<Arc<str>> {
        list.iter().map(|instance| instance.id.clone()).collect()
    }

    /// A guard that has just seen `count` instances at time 0.
    fn seen(count: u32) -> (Guard, Settings) {
        let (mut guard, settings) = (Guard::default(), Settings::default());
        let _ = guard.take(s(0), list(1..=count), &settings);
        (guard, settings)
    }

    #[test]
    fn more_than_half_at_once_is_kept_in_reserve() {
        let (mut guard, settings) = seen(10);
        // Exactly half passes.
        let taken = guard.take(s(1), list(1..=5), &settings);
        assert_eq!((taken.removed, taken.mass), (5, None));
        let (mut guard, settings) = seen(10);
        let taken = guard.take(s(1), list(1..=4), &settings);
        let mass = Mass { before: 10, named: 4, suspects: 6, until: s(31) };
        assert_eq!(taken, Taken { added: 0, removed: 0, mass: Some(mass) });
        let usable = guard.list();
        assert_eq!((usable.len(), &usable[..4]), (10, &list(1..=4)[..]));
        assert!(usable[4..].iter().all(|suspect| suspect.condition == Condition::Warning));
        // Some come back: more than half are there, and the rest is believed to be gone.
        let taken = guard.take(s(2), list(1..=7), &settings);
        assert_eq!((taken.removed, guard.list()), (3, list(1..=7)));
    }

    /// Lists below `min_instances` may lose most at once, but not all.
    #[test]
    fn an_empty_list_is_never_believed_at_once() {
        for count in 1..=10 {
            let (mut guard, settings) = seen(count);
            let taken = guard.take(s(1), vec![], &settings);
            assert_eq!((taken.removed, guard.list().len()), (0, count as usize));
            assert_eq!(guard.due(true, &settings), s(31));
            assert_eq!(guard.tick(s(30), true, &settings), 0);
            // The registry is gone: what there was goes on.
            assert_eq!(guard.due(false, &settings), Time::NEVER);
            assert_eq!(guard.tick(s(31), false, &settings), 0);
            assert_eq!(guard.tick(s(99_999), false, &settings), 0);
            assert_eq!(guard.tick(s(99_999), true, &settings), count as usize);
            assert_eq!((guard.list(), guard.due(true, &settings)), (vec![], Time::NEVER));
        }
        let (mut guard, settings) = seen(3);
        assert_eq!(guard.take(s(1), list(1..=1), &settings).removed, 2);
    }

    #[test]
    fn further_answers_confirm_a_removal_but_not_in_a_burst() {
        let (mut guard, settings) = seen(10);
        let _ = guard.take(s(1), list(1..=2), &settings);
        for _ in 0..50 {
            let _ = guard.take(s(1), list(1..=2), &settings);
        }
        assert_eq!(guard.list().len(), 10);
        for (now, left) in [(3, 10), (4, 10), (5, 10), (7, 2)] {
            let _ = guard.take(s(now), list(1..=2), &settings);
            assert_eq!(guard.list().len(), left, "{now}");
        }
    }

    #[test]
    fn a_slow_shrink_passes_and_a_quick_one_in_small_steps_does_not() {
        let (mut guard, settings) = seen(20);
        for left in (1..20).rev() {
            let taken = guard.take(s(u64::from(20 - left) * 10), list(1..=left), &settings);
            assert_eq!((taken.removed, taken.mass), (1, None), "{left}");
        }
        let (mut guard, settings) = seen(20);
        for left in (1..20).rev() {
            let _ = guard.take(s(1), list(1..=left), &settings);
        }
        // Ten are gone, the others are kept.
        assert_eq!((guard.named().len(), guard.list().len()), (1, 10));
    }

    #[test]
    fn off_it_believes_everything() {
        let config = RemovalConfig { enabled: false, ..RemovalConfig::default() };
        let settings = Settings::of(&config, "r").unwrap();
        let mut guard = Guard::default();
        let _ = guard.take(s(0), list(1..=10), &settings);
        assert_eq!(guard.take(s(0), vec![], &settings).removed, 10);
        assert!(guard.list().is_empty());
    }

    #[test]
    fn settings_refuse_what_cannot_work_by_name() {
        type Spoil = fn(&mut RemovalConfig);
        let cases: [(&str, Spoil); 9] = [
            ("share", |c| c.share = f64::NAN),
            ("share", |c| c.share = -0.1),
            ("share", |c| c.share = 1.1),
            ("min_instances", |c| c.min_instances = 0),
            ("min_instances", |c| c.min_instances = u32::MAX),
            ("hold", |c| c.hold = Duration::ZERO),
            ("hold", |c| c.hold = Duration::MAX),
            ("confirmations", |c| c.confirmations = u32::MAX),
            ("confirm_every", |c| c.confirm_every = Duration::from_secs(31)),
        ];
        for (field, spoil) in cases {
            let mut config = RemovalConfig::default();
            spoil(&mut config);
            assert_eq!(Settings::of(&config, "r").unwrap_err().field, format!("r.{field}"));
            let (settings, mut guard) = (Settings::compile(&config), Guard::default());
            for (now, count) in [(s(5), 9), (Time::NEVER, 1), (s(0), 0), (s(5), 9), (s(5), 0)] {
                let _ = guard.take(now, list(0..count), &settings);
                let _ = guard.tick(Time::NEVER, true, &settings);
                assert_eq!(guard.named().len(), count as usize);
            }
        }
        let checked = Settings::of(&RemovalConfig::default(), "r").unwrap();
        assert_eq!(checked, Settings::default());
    }

    proptest! {
        /// What the source names is always used, first and in its order; nothing else appears;
        /// one answer never shortens the list by more than the share, and never empties it; and a
        /// source that persists is believed within `hold`.
        #[test]
        fn guarded_and_in_the_end_believed(
            answers in proptest::collection::vec((0_u64..20_000, proptest::collection::vec(0_u32..14, 0..14), any::<bool>()), 1..30),
            share in 0.0..=1.0_f64,
            min_instances in 1_u32..8,
            confirmations in 0_u32..4,
        ) {
            let config = RemovalConfig { share, min_instances, confirmations, ..RemovalConfig::default() };
            let settings = Settings::of(&config, "r").unwrap();
            let mut guard = Guard::default();
            let mut now = s(100);
            let mut last = vec![];
            for (pause, numbers, answering) in answers {
                now = now.plus(Duration::from_millis(pause));
                let before = ids(&guard.list());
                let held = guard.suspects().count();
                let named = list(numbers);
                let taken = guard.take(now, named.clone(), &settings);
                let usable = guard.list();
                prop_assert_eq!(&usable[..named.len()], &named[..]);
                let after = ids(&usable);
                prop_assert!(guard.suspects().all(|suspect| !ids(&named).contains(&suspect.id)));
                prop_assert!(after.iter().all(|id| before.contains(id) || ids(&named).contains(id)));
                prop_assert_eq!(taken.removed, before.difference(&after).count());
                prop_assert_eq!(taken.added, after.difference(&before).count());
                // Without suspects before, nothing can have been given up by this answer.
                if held == 0 {
                    prop_assert!(before.is_empty() || !after.is_empty());
                    if before.len() >= min_instances as usize {
                        let least = before.len() as f64 * (1.0 - share - 0.0006);
                        prop_assert!(after.len() as f64 >= least, "{taken:?} of {}", before.len());
                    }
                }
                if !answering {
                    let kept = guard.clone();
                    prop_assert_eq!(guard.tick(now.plus(Duration::MAX), false, &settings), 0);
                    prop_assert_eq!(&guard, &kept);
                }
                last = named;
            }
            // It persists, by answering or by being known to answer.
            let end = now.plus(config.hold);
            let mut other = guard.clone();
            guard.tick(end, true, &settings);
            prop_assert_eq!(guard.list(), last.clone());
            let _ = other.take(end, last.clone(), &settings);
            prop_assert_eq!(other.list(), last);
        }
    }
}
