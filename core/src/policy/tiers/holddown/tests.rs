//! The hold-down by example, the bound on switches by enumeration of all short histories and by
//! random long ones, and time that stands still, jumps or runs backwards.

use proptest::prelude::*;

use super::Usability::{Unknown, Unusable, Usable};
use super::*;

fn s(seconds: u64) -> Time {
    Time::from_millis(seconds * 1_000)
}

fn settings(hold: u64, free: u32, grace: u64) -> Settings {
    Settings {
        hold_down: Duration::from_secs(hold),
        free_failbacks: free,
        init_grace: Duration::from_secs(grace),
        ..Settings::default()
    }
}

/// Reports all tiers, then decides.
fn all(tiers: &mut HoldDown, now: Time, news: &[Usability], settings: &Settings) -> Option<Switch> {
    for (tier, usability) in news.iter().enumerate() {
        tiers.report(now, tier, *usability, settings);
    }
    tiers.settle(now, settings)
}

#[test]
fn the_clock_starts_when_the_tier_is_usable_again_and_restarts_when_it_is_lost() {
    let settings = settings(10, 0, 0);
    let mut tiers = HoldDown::new(s(0), 2, &settings);
    assert_eq!(all(&mut tiers, s(0), &[Usable, Usable], &settings), None);
    assert_eq!(tiers.active(), Some(0));
    let lost = all(&mut tiers, s(100), &[Unusable, Usable], &settings).unwrap();
    assert_eq!((lost.from, lost.to, lost.cause), (0, 1, Cause::Lost));
    assert_eq!(tiers.due(&settings), Time::NEVER);
    // An hour later it is back: the last switch is long ago, but that does not count.
    assert_eq!(all(&mut tiers, s(3_700), &[Usable, Usable], &settings), None);
    let held = Held { tier: 0, since: s(3_700), until: s(3_710) };
    assert_eq!(tiers.allowed(0, &settings), Err(held));
    assert_eq!((tiers.allowed(1, &settings), tiers.held()), (Ok(()), 0b01));
    assert_eq!(tiers.due(&settings), s(3_710));
    // Lost and usable again: from the start.
    assert_eq!(all(&mut tiers, s(3_709), &[Unusable, Usable], &settings), None);
    assert_eq!(all(&mut tiers, s(3_709), &[Usable, Usable], &settings), None);
    assert_eq!(tiers.settle(s(3_718), &settings), None);
    let back = tiers.settle(s(3_719), &settings).unwrap();
    assert_eq!((back.to, back.cause), (0, Cause::Waited { usable_for: Duration::from_secs(10) }));
}

#[test]
fn free_failbacks_come_back_one_per_hold() {
    let settings = settings(10, 2, 0);
    let mut tiers = HoldDown::new(s(0), 2, &settings);
    let _ = all(&mut tiers, s(0), &[Usable, Usable], &settings);
    let mut flap = |at: u64| {
        let _ = all(&mut tiers, s(at), &[Unusable, Usable], &settings);
        all(&mut tiers, s(at), &[Usable, Usable], &settings).map(|back| back.cause)
    };
    assert_eq!([flap(1), flap(2), flap(3)], [Some(Cause::Free), Some(Cause::Free), None]);
    // Two were used at 1 and 2; one is back 10 s after the first.
    assert_eq!(flap(10), None);
    assert_eq!(flap(11), Some(Cause::Free));
    assert_eq!(flap(100), Some(Cause::Free));
}

#[test]
fn nobody_is_held_back_when_there_is_nobody_else() {
    let settings = settings(10, 0, 0);
    let mut tiers = HoldDown::new(s(0), 3, &settings);
    let _ = all(&mut tiers, s(0), &[Usable, Unusable, Usable], &settings);
    let _ = all(&mut tiers, s(1), &[Unusable, Unusable, Usable], &settings);
    assert_eq!(all(&mut tiers, s(2), &[Usable, Unusable, Usable], &settings), None);
    let rescue = all(&mut tiers, s(3), &[Usable, Unusable, Unusable], &settings).unwrap();
    assert_eq!((rescue.to, rescue.cause), (0, Cause::Rescue));
    // All gone: whatever comes first is used, and the tier in use stays it till then.
    assert_eq!(all(&mut tiers, s(4), &[Unusable; 3], &settings), None);
    assert_eq!(tiers.active(), Some(0));
    assert_eq!(all(&mut tiers, s(5), &[Usable, Unusable, Unusable], &settings), None);
}

#[test]
fn a_tier_never_seen_before_is_not_held_back() {
    let settings = settings(10, 0, 0);
    let mut tiers = HoldDown::new(s(0), 2, &settings);
    assert_eq!(all(&mut tiers, s(0), &[Unusable, Usable], &settings), None);
    assert_eq!(tiers.active(), Some(1));
    let up = all(&mut tiers, s(1), &[Usable, Usable], &settings).unwrap();
    assert_eq!((up.to, up.cause), (0, Cause::FirstUse));
}

/// gRPC A56: 10 s for a tier that connects, not restarted by the same news, only for one that was
/// fine before; the first that connects if there is no better.
#[test]
fn grpc_a56_failover_timer() {
    let settings = settings(10, 2, 10);
    let mut tiers = HoldDown::new(s(0), 2, &settings);
    assert_eq!(all(&mut tiers, s(0), &[Unknown, Usable], &settings), None);
    assert_eq!((tiers.active(), tiers.due(&settings)), (Some(0), s(10)));
    assert_eq!(all(&mut tiers, s(9), &[Unknown, Usable], &settings), None);
    let over = tiers.settle(s(10), &settings).unwrap();
    assert_eq!((over.to, tiers.due(&settings)), (1, Time::NEVER));
    // Fine, then connecting again: another 10 s.
    let _ = all(&mut tiers, s(20), &[Usable, Usable], &settings);
    assert_eq!(all(&mut tiers, s(30), &[Unknown, Usable], &settings), None);
    assert_eq!(tiers.due(&settings), s(40));
    // Failed, then connecting: no time.
    assert_eq!(all(&mut tiers, s(31), &[Unusable, Usable], &settings).unwrap().to, 1);
    assert_eq!(all(&mut tiers, s(32), &[Unknown, Usable], &settings), None);
    assert_eq!(all(&mut tiers, s(33), &[Unknown, Unusable], &settings).unwrap().to, 0);
}

#[test]
fn retune_keeps_what_stays_and_forgives_what_was_used() {
    let long = settings(1_000, 1, 0);
    let mut tiers = HoldDown::new(s(0), 2, &long);
    let _ = all(&mut tiers, s(0), &[Usable, Usable], &long);
    for at in [1, 2] {
        let _ = all(&mut tiers, s(at), &[Unusable, Usable], &long);
        let _ = all(&mut tiers, s(at), &[Usable, Usable], &long);
    }
    assert_eq!(tiers.allowed(0, &long).unwrap_err().until, s(1_002));
    let short = settings(5, 1, 0);
    tiers.retune(s(3), 3, &short);
    assert_eq!((tiers.active(), tiers.due(&short)), (Some(1), s(8)));
    tiers.retune(s(3), 1, &short);
    assert_eq!(tiers.active(), None);
    assert_eq!(tiers.settle(s(3), &short), None);
    assert_eq!(tiers.active(), Some(0));
    let off = settings(0, 0, 0);
    tiers.retune(s(3), 2, &off);
    assert_eq!(tiers.held(), 0);
}

/// Counts switches and checks the bound of the module comment over every window.
#[derive(Clone, Default)]
struct Log {
    switches: Vec<(Time, Cause)>,
    first_uses: usize,
}

impl Log {
    fn add(&mut self, now: Time, switch: Switch) {
        assert_ne!(switch.from, switch.to);
        let up = switch.to < switch.from;
        assert_eq!(up, switch.cause != Cause::Lost, "{switch:?}");
        self.first_uses += usize::from(switch.cause == Cause::FirstUse);
        self.switches.push((now, switch.cause));
    }

    /// The windows that begin at a switch are the worst ones.
    fn check(&self, tiers: usize, settings: &Settings) {
        assert!(self.first_uses < tiers);
        let hold = nanos(settings.hold_down);
        for (begin, (start, _)) in self.switches.iter().enumerate() {
            let (mut paid, mut other) = (0, 0);
            for (count, (at, cause)) in self.switches[begin..].iter().enumerate() {
                match cause {
                    Cause::Free | Cause::Waited { .. } => paid += 1,
                    Cause::FirstUse | Cause::Rescue => other += 1,
                    Cause::Lost => (),
                }
                // The shortest window, its end not included, that holds both.
                let span = nanos(at.since(*start)) + 1;
                let most = u64::from(settings.free_failbacks) + span.div_ceil(hold);
                assert!(paid <= most, "{paid} failbacks in {span} ns: {:?}", self.switches);
                let all = tiers as u64 * (paid + other) + tiers as u64 - 1;
                assert!((count as u64) < all, "{count} switches: {:?}", self.switches);
            }
        }
    }
}

/// One step of one second. Also checks what must hold at every moment.
fn step(tiers: &mut HoldDown, log: &mut Log, now: u64, news: &[Usability], settings: &Settings) {
    let fits = |usability: Option<&Usability>| usability != Some(&Unusable);
    if let Some(switch) = all(tiers, s(now), news, settings) {
        log.add(s(now), switch);
        assert!(fits(news.get(usize::from(switch.to))), "switched to an unusable tier");
    }
    let Some(active) = tiers.active().map(usize::from) else {
        assert!(!news.iter().any(|usability| fits(Some(usability))));
        return;
    };
    // A usable tier is in use if there is one, and what is above it is held and says until when.
    assert!(news[active] == Usable || !news.contains(&Usable));
    for (tier, usability) in news.iter().enumerate().take(active) {
        assert_eq!(tiers.allowed(tier, settings).is_err(), *usability == Usable);
        if let Err(held) = tiers.allowed(tier, settings) {
            assert!(held.until > s(now) && tiers.due(settings) <= held.until);
        }
    }
    assert!(tiers.due(settings) > s(now));
    // To decide again without news changes nothing.
    assert_eq!(tiers.clone().settle(s(now), settings), None);
}

fn enumerate(count: usize, states: &[Usability], length: u64, settings: &Settings) -> u64 {
    let choices = states.len().pow(u32::try_from(count).unwrap());
    let mut visited = 0;
    let mut open = vec![(HoldDown::new(s(0), count, settings), Log::default(), 0)];
    while let Some((tiers, log, now)) = open.pop() {
        visited += 1;
        if now == length {
            log.check(count, settings);
            continue;
        }
        for choice in 0..choices {
            let mut rest = choice;
            let news: Vec<Usability> = (0..count)
                .map(|_| {
                    let state = states[rest % states.len()];
                    rest /= states.len();
                    state
                })
                .collect();
            let (mut tiers, mut log) = (tiers.clone(), log.clone());
            step(&mut tiers, &mut log, now, &news, settings);
            open.push((tiers, log, now + 1));
        }
    }
    visited
}

/// All histories of two tiers over 7 s and of three over 4 s, usable or not in each second; of two
/// with unknown health over 5 s. Hold-down 1–3 s, 0–2 free failbacks.
#[test]
fn every_short_history_stays_within_the_bound() {
    let mut visited = 0;
    for hold in [1, 2, 3] {
        for free in [0, 1, 2] {
            let settings = settings(hold, free, 0);
            visited += enumerate(2, &[Unusable, Usable], 7, &settings);
            visited += enumerate(3, &[Unusable, Usable], 4, &settings);
        }
        visited += enumerate(2, &[Unknown, Unusable, Usable], 5, &settings(hold, 1, 0));
    }
    assert!(visited > 250_000, "{visited}");
}

/// A tier that is lost the moment it is the first choice, and usable again at once: without free
/// failbacks the bound is reached exactly, with two it is missed by one.
#[test]
fn the_bound_is_tight() {
    for (free, most) in [(0, 4), (2, 6)] {
        let settings = settings(10, free, 0);
        let mut tiers = HoldDown::new(s(0), 2, &settings);
        let _ = all(&mut tiers, s(0), &[Usable, Usable], &settings);
        let mut failbacks = 0;
        let (mut now, mut first): (Time, Option<Time>) = (s(100), None);
        let window = Duration::from_secs(40);
        // ⌈T / 10⌉ and 2 + ⌈T / 10⌉ in a window of 40 s that begins with a failback.
        while first.is_none_or(|first| now < first.plus(window)) {
            let _ = all(&mut tiers, now, &[Unusable, Usable], &settings);
            if all(&mut tiers, now, &[Usable, Usable], &settings).is_none() {
                now = tiers.due(&settings);
                assert!(tiers.settle(now, &settings).is_some());
            }
            failbacks += u64::from(first.is_none_or(|first| now < first.plus(window)));
            first = first.or(Some(now));
        }
        assert_eq!(failbacks, if free == 0 { most } else { most - 1 });
    }
}

proptest! {
    #[test]
    fn long_histories_stay_within_the_bound(
        count in 1_usize..6, hold in 1_u64..20, free in 0_u32..5,
        script in proptest::collection::vec((0_u64..12, proptest::collection::vec(0_u8..8, 6)), 1..120),
    ) {
        let settings = settings(hold, free, 0);
        let mut tiers = HoldDown::new(s(0), count, &settings);
        let (mut log, mut now) = (Log::default(), 0);
        for (wait, states) in script {
            // Every point at which time alone acts, on the way.
            let next = now + wait;
            while tiers.due(&settings) <= s(next) {
                let due = tiers.due(&settings);
                if let Some(switch) = tiers.settle(due, &settings) { log.add(due, switch); }
                prop_assert!(tiers.due(&settings) > due);
            }
            now = next;
            let news: Vec<Usability> = states.iter().take(count)
                .map(|state| match state { 0 => Unknown, 1..=3 => Unusable, _ => Usable }).collect();
            step(&mut tiers, &mut log, now, &news, &settings);
        }
        log.check(count, &settings);
    }

    #[test]
    fn any_clock_and_any_settings_are_survived(
        script in proptest::collection::vec(
            (prop_oneof![Just(0_u64), Just(u64::MAX), Just(1), any::<u64>()], 0_usize..70, 0_u8..3, any::<u64>()),
            0..60,
        ),
        hold: u64, free: u32, grace: u64,
    ) {
        let mut settings = settings(0, free, 0);
        (settings.hold_down, settings.init_grace) = (Duration::from_nanos(hold), Duration::from_nanos(grace));
        let mut tiers = HoldDown::new(Time::NEVER, 3, &settings);
        for (now, tier, state, more) in script {
            let now = Time::from_nanos(now);
            let news = [Unknown, Unusable, Usable][usize::from(state)];
            tiers.report(now, tier, news, &settings);
            let _ = tiers.settle(now, &settings);
            let _ = (tiers.held(), tiers.waited_for(), tiers.due(&settings), tiers.allowed(tier, &settings));
            if more % 7 == 0 {
                settings.hold_down = Duration::from_nanos(more);
                tiers.retune(now, tier, &settings);
            }
        }
    }
}
