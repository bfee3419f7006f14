//! Leases in virtual time.

use proptest::prelude::*;

use super::*;
use crate::vault;

const HOUR: Duration = Duration::from_secs(3_600);

struct Bench {
    settings: Settings,
    leases: Leases,
    rng: Pcg32,
    now: Time,
}

impl Bench {
    fn new() -> Bench {
        let settings = Settings::of(&vault::Settings::default());
        Bench { settings, leases: Leases::default(), rng: Pcg32::new(7, 1), now: Time::ZERO }
    }

    fn adopt(&mut self, name: usize, duration: Duration, renewable: bool) -> bool {
        let lease = Lease { id: id(name), duration, renewable };
        self.leases.adopt(self.now, &lease, &self.settings, &mut self.rng)
    }

    fn poll(&mut self) -> Poll {
        self.leases.poll(self.now, &self.settings, &mut self.rng)
    }

    fn asked(&mut self) -> Asked {
        for _ in 0..10 {
            match self.poll() {
                Poll::Ask(asked) => return asked,
                Poll::Wait(at) => {
                    assert!(at > self.now && at < Time::NEVER);
                    self.now = at;
                }
            }
        }
        panic!("nothing is asked");
    }

    fn answer(&mut self, asked: &Asked, answer: Answer) -> bool {
        self.leases.done(self.now, asked.id, answer, &self.settings, &mut self.rng)
    }

    fn events(&mut self) -> Vec<Event> {
        self.leases.events().take().into_iter().map(|(_, event)| event).collect()
    }
}

fn id(name: usize) -> LeaseId {
    LeaseId::new(&format!("database/creds/app/{name}")).unwrap()
}

fn renewed(lease: Duration) -> Answer {
    Answer::Renewed { lease, renewable: true }
}

#[test]
fn renewed_early_said_to_expire_and_gone() {
    let mut b = Bench::new();
    assert!(b.adopt(1, HOUR, true));
    for _ in 0..5 {
        let from = b.now;
        let asked = b.asked();
        assert_eq!((asked.deed, &asked.lease), (Deed::Renew, &id(1)));
        assert!(b.now.since(from) <= HOUR / 3);
        assert!(b.answer(&asked, renewed(HOUR)));
    }
    // Near its last day a renewal brings less than half: that is said, once, and it ends.
    let asked = b.asked();
    assert!(b.answer(&asked, renewed(HOUR / 3)));
    let ends = b.leases.until(&id(1)).unwrap();
    b.events();
    let Poll::Wait(at) = b.poll() else { panic!() };
    assert!(at < ends);
    b.now = at;
    assert!(matches!(b.poll(), Poll::Wait(at) if at == ends));
    b.now = ends;
    assert!(matches!(b.poll(), Poll::Wait(Time::NEVER)) && b.leases.is_empty());
    let events = b.events();
    assert!(
        matches!(&events[0], Event::LeaseExpiring { path, .. } if &**path == "database/creds/app")
    );
    assert!(matches!(&events[1], Event::LeaseLost { why: Gone::Expired, .. }));
    assert_eq!(events.len(), 2);
}

#[test]
fn a_refused_renewal_is_not_repeated_and_a_failed_one_is() {
    let mut b = Bench::new();
    assert!(b.adopt(1, HOUR, true));
    let asked = b.asked();
    b.answer(&asked, Answer::Failed(Trouble::Sealed));
    let asked = b.asked();
    b.answer(&asked, Answer::Failed(Trouble::Refused(400)));
    let ends = b.leases.until(&id(1)).unwrap();
    assert!(matches!(b.poll(), Poll::Wait(at) if at == ends));
    let events = b.events();
    assert!(
        matches!(events[..], [Event::LeaseFailed { .. }, Event::LeaseExpiring { .. }]),
        "{events:?}"
    );
}

#[test]
fn given_back_at_the_end_and_tried_a_few_times_only() {
    let mut b = Bench::new();
    for name in 0..10 {
        assert!(b.adopt(name, HOUR, name % 2 == 0));
    }
    b.leases.close(b.now, &b.settings);
    let mut out = Vec::new();
    while let Poll::Ask(asked) = b.poll() {
        assert_eq!(asked.deed, Deed::Revoke);
        out.push(asked);
    }
    assert_eq!(out.len(), 4, "a few at a time");
    for asked in &out {
        assert!(b.answer(asked, Answer::Revoked) && !b.answer(asked, Answer::Revoked));
    }
    for _ in 0..6 * 3 {
        let asked = b.asked();
        b.answer(&asked, Answer::Failed(Trouble::Status(500)));
    }
    assert!(b.leases.is_empty());
    let events = b.events();
    let failed = events.iter().filter(|e| matches!(e, Event::LeaseRevoked { error: Some(_), .. }));
    assert_eq!((events.len(), failed.count()), (10, 6));
}

#[test]
fn released_while_its_renewal_is_out() {
    let mut b = Bench::new();
    assert!(b.adopt(1, HOUR, true));
    let asked = b.asked();
    assert!(b.leases.release(b.now, &id(1)) && !b.leases.release(b.now, &id(2)));
    b.answer(&asked, renewed(HOUR));
    assert_eq!(b.asked().deed, Deed::Revoke);
}

#[test]
fn bounded_and_nothing_foreign() {
    let mut b = Bench::new();
    assert!(!b.adopt(0, Duration::ZERO, true));
    for name in 0..MOST {
        assert!(b.adopt(name, HOUR, true));
    }
    assert!(!b.adopt(MOST, HOUR, true) && b.adopt(1, HOUR, true));
    assert_eq!(b.leases.len(), MOST);
}

proptest! {
    /// Whatever is answered, and at whatever time: no hot loop, at most four out, nothing asked
    /// about a lease that has ended, and all are gone when their time is over.
    #[test]
    fn any_history_is_sound(
        steps in proptest::collection::vec((0_usize..6, 0_u64..400, 0_u8..12), 1..150),
        seed: u64,
    ) {
        let mut b = Bench::new();
        b.rng = Pcg32::new(seed, 1);
        let mut out: Vec<Asked> = Vec::new();
        for (n, (what, seconds, deed)) in steps.into_iter().enumerate() {
            match deed {
                0..=3 => drop(b.adopt(n % 7, Duration::from_secs(seconds), seconds % 3 != 0)),
                4 => drop(b.leases.release(b.now, &id(n % 7))),
                _ => {}
            }
            match b.poll() {
                Poll::Ask(asked) => {
                    prop_assert!(b.leases.until(&asked.lease).is_some_and(|until| b.now < until));
                    out.retain(|o: &Asked| o.lease != asked.lease && b.now < o.deadline.plus(LATE));
                    out.push(asked);
                    prop_assert!(out.len() <= 4);
                }
                Poll::Wait(at) => {
                    prop_assert!(at > b.now);
                    if let Some(asked) = out.pop() {
                        let answer = [
                            renewed(HOUR),
                            renewed(Duration::from_secs(seconds)),
                            Answer::Revoked,
                            Answer::Failed(Trouble::Sealed),
                            Answer::Failed(Trouble::Refused(400)),
                            Answer::Failed(Trouble::Denied),
                        ][what];
                        b.answer(&asked, answer);
                    }
                    b.now = b.now.plus(Duration::from_secs(seconds));
                }
            }
        }
        b.now = b.now.plus(HOUR * 3);
        while let Poll::Ask(_) = b.poll() {}
        prop_assert!(b.leases.is_empty(), "{:?}", b.leases);
        let _ = serde_json::to_string(&b.leases).unwrap();
    }
}
