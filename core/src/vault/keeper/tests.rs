//! The keeper in virtual time: the life of a token, every short history of answers, a random
//! driver held against what must always be true, and clocks that misbehave.

use proptest::prelude::*;

use super::*;
use crate::vault;

const S: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn settings(how: How) -> Settings {
    Settings::of(how, &vault::Settings::default())
}

struct Bench {
    settings: Settings,
    keeper: Keeper,
    rng: Pcg32,
    now: Time,
}

impl Bench {
    fn new(how: How) -> Bench {
        let settings = settings(how);
        let keeper = Keeper::new(&settings);
        Bench { settings, keeper, rng: Pcg32::new(7, 1), now: Time::ZERO }
    }

    fn poll(&mut self) -> Poll {
        self.keeper.poll(self.now, &self.settings, &mut self.rng)
    }

    /// What is asked next, whenever that is.
    fn asked(&mut self) -> Asked {
        for _ in 0..10 {
            match self.poll() {
                Poll::Ask(asked) => return asked,
                Poll::Wait(at) => {
                    assert!(at > self.now && at < Time::NEVER, "{at:?} at {:?}", self.now);
                    self.now = at;
                }
            }
        }
        panic!("nothing is asked");
    }

    fn answer(&mut self, asked: Asked, answer: Answer) {
        assert!(self.keeper.done(self.now, asked.id, answer, &self.settings, &mut self.rng));
    }

    fn next(&mut self, what: What, answer: Answer) {
        let asked = self.asked();
        assert_eq!(asked.what, what);
        self.answer(asked, answer);
    }

    fn events(&mut self) -> Vec<Event> {
        self.keeper.events().take().into_iter().map(|(_, event)| event).collect()
    }
}

fn granted(lease: Duration) -> Answer {
    Answer::Granted { lease, renewable: true }
}

const FAILED: Answer = Answer::Failed(Trouble::Status(400));
const LOGIN: How = How::Login { reads: false };

#[test]
fn case_000_renewed_early_again_and_again() {
    let mut b = Bench::new(LOGIN);
    b.next(What::LogIn, granted(HOUR));
    for _ in 0..20 {
        let from = b.now;
        let asked = b.asked();
        assert_eq!((asked.what, b.keeper.stage()), (What::Renew, Stage::Renewing));
        let after = b.now.since(from);
        assert!(after >= HOUR / 6 - S && after <= HOUR / 3 + S, "{after:?}");
        b.answer(asked, granted(HOUR));
    }
    let events = b.events();
    assert!(matches!(events[0], Event::TokenAcquired { again: false, .. }));
    assert!(events[1..].iter().all(|e| matches!(e, Event::TokenRenewed { .. })));
}

#[test]
fn near_its_last_day_a_new_token_is_had_while_the_old_one_works() {
    let mut b = Bench::new(How::Login { reads: true });
    b.next(What::Read, Answer::Fresh);
    b.next(What::LogIn, granted(HOUR));
    b.next(What::Renew, granted(HOUR / 3));
    let until = b.keeper.until().unwrap();
    b.next(What::Read, Answer::Fresh);
    assert!(b.now < until && b.keeper.holds(b.now));
    assert_eq!(b.keeper.stage(), Stage::Held);
    b.next(What::LogIn, granted(HOUR));
    assert!(b.now < until);
    assert!(!b.events().iter().any(|e| matches!(e, Event::TokenLost { .. })));
}

#[test]
fn a_refused_renewal_leads_to_a_login_at_once_and_the_old_token_serves_meanwhile() {
    let mut b = Bench::new(LOGIN);
    b.next(What::LogIn, granted(HOUR));
    b.next(What::Renew, Answer::Failed(Trouble::Denied));
    let refused_at = b.now;
    let asked = b.asked();
    assert_eq!((asked.what, b.now, b.keeper.stage()), (What::LogIn, refused_at, Stage::Replacing));
    assert!(b.keeper.holds(b.now));
    b.answer(asked, Answer::Failed(Trouble::Sealed));
    assert!(b.keeper.holds(b.now), "a failed login takes nothing away");
    b.next(What::LogIn, granted(HOUR));
    assert!(matches!(b.events().last(), Some(Event::TokenAcquired { again: true, .. })));
}

#[test]
fn a_node_that_never_renews_is_replaced_by_a_login_before_the_end() {
    let mut b = Bench::new(LOGIN);
    b.next(What::LogIn, granted(HOUR));
    let until = b.keeper.until().unwrap();
    for _ in 0..200 {
        let asked = b.asked();
        assert!(b.now < until, "the token ended");
        if asked.what == What::LogIn {
            return;
        }
        b.answer(asked, Answer::Failed(Trouble::Status(500)));
    }
    panic!("no login");
}

#[test]
fn the_old_token_is_used_until_its_last_second_and_not_longer() {
    let mut b = Bench::new(LOGIN);
    b.next(What::LogIn, granted(HOUR));
    let until = b.keeper.until().unwrap();
    while b.now < until {
        let before = b.now;
        let asked = b.asked();
        if b.now >= until {
            break;
        }
        assert!(b.keeper.holds(b.now), "lost at {:?} of {until:?}", b.now);
        assert!(b.now > before || asked.what == What::LogIn);
        b.answer(asked, FAILED);
    }
    assert!(!b.keeper.holds(until));
    let lost = Event::TokenLost { why: Gone::Expired };
    assert_eq!(b.events().iter().filter(|event| **event == lost).count(), 1);
}

#[test]
fn single_flight_and_an_answer_that_never_comes() {
    let mut b = Bench::new(LOGIN);
    let asked = b.asked();
    for _ in 0..5 {
        assert!(matches!(b.poll(), Poll::Wait(at) if at >= asked.deadline));
    }
    b.now = asked.deadline.plus(LATE);
    assert!(matches!(b.poll(), Poll::Wait(at) if at > b.now));
    assert!(!b.keeper.done(b.now, asked.id, granted(HOUR), &b.settings, &mut b.rng), "too late");
    assert!(!b.keeper.holds(b.now));
}

#[test]
fn sealed_and_standby_nodes_are_left_at_once_and_only_then_is_waited() {
    let mut b = Bench::new(LOGIN);
    b.keeper.nodes(3);
    for trouble in [Trouble::Sealed, Trouble::Standby] {
        b.next(What::LogIn, Answer::Failed(trouble));
        assert_eq!(b.now, Time::ZERO);
    }
    b.next(What::LogIn, Answer::Failed(Trouble::Sealed));
    let Poll::Wait(at) = b.poll() else { panic!() };
    assert!(at >= Time::from_millis(5_000) && at <= Time::from_millis(10_000), "{at:?}");
    let events = b.events();
    assert_eq!(events.len(), 1, "one line for a round, not for each node: {events:?}");
}

#[test]
fn wrong_credentials_are_repeated_rarely() {
    let mut b = Bench::new(LOGIN);
    for _ in 0..5 {
        let from = b.now;
        b.next(What::LogIn, Answer::Failed(Trouble::Refused(400)));
        let again = b.asked();
        assert!(b.now.since(from) >= S * 60);
        b.answer(again, Answer::Failed(Trouble::Refused(400)));
    }
}

#[test]
fn case_000_a_token_in_a_file_is_read_again_and_the_new_one_used_at_once() {
    let mut b = Bench::new(How::File { poll: S * 10 });
    b.next(What::Read, Answer::Fresh);
    assert!(b.keeper.holds(b.now), "used before anybody has looked at it");
    b.next(What::LookUp, granted(HOUR));
    for _ in 0..3 {
        let from = b.now;
        b.next(What::Read, Answer::Same);
        assert!(b.now.since(from) <= S * 10);
    }
    b.next(What::Read, Answer::Failed(Trouble::NoFile)); // being replaced
    assert!(b.keeper.holds(b.now));
    b.next(What::Read, Answer::Fresh);
    let asked = b.asked();
    assert_eq!(asked.what, What::LookUp);
    // Revoked already: not used any more, and the same file does not bring it back.
    b.answer(asked, Answer::Failed(Trouble::Invalid));
    assert!(!b.keeper.holds(b.now));
    b.next(What::Read, Answer::Same);
    assert!(!b.keeper.holds(b.now));
    b.next(What::Read, Answer::Fresh);
    assert!(b.keeper.holds(b.now));
}

#[test]
fn a_given_token_is_looked_after_as_far_as_that_goes() {
    // Not allowed to look at itself: used as it is, and left alone.
    let mut b = Bench::new(How::Given);
    assert!(b.keeper.holds(Time::ZERO));
    b.next(What::LookUp, Answer::Failed(Trouble::Denied));
    assert!(matches!(b.poll(), Poll::Wait(Time::NEVER)) && b.keeper.holds(b.now));
    // One that does not expire: nothing to do.
    let mut b = Bench::new(How::Given);
    b.next(What::LookUp, Answer::Granted { lease: Duration::ZERO, renewable: false });
    assert!(matches!(b.poll(), Poll::Wait(Time::NEVER)));
    // One that cannot be renewed: said in time, then gone.
    let mut b = Bench::new(How::Given);
    b.next(What::LookUp, Answer::Granted { lease: HOUR, renewable: false });
    let Poll::Wait(at) = b.poll() else { panic!() };
    assert!(at >= Time::ZERO.plus(HOUR * 8 / 10) && at < Time::ZERO.plus(HOUR));
    b.now = at;
    let _ = b.poll();
    b.now = Time::ZERO.plus(HOUR);
    assert!(matches!(b.poll(), Poll::Wait(Time::NEVER)) && !b.keeper.holds(b.now));
    let events = b.events();
    assert!(matches!(events[1], Event::TokenExpiring { .. }), "{events:?}");
    assert_eq!(events[2], Event::TokenLost { why: Gone::Expired });
    // Until another one is given.
    b.keeper.given(b.now);
    assert!(b.keeper.holds(b.now));
    b.next(What::LookUp, granted(HOUR));
}

#[test]
fn a_token_revoked_in_mid_flight_is_replaced_and_a_mere_denial_changes_nothing() {
    let mut b = Bench::new(LOGIN);
    b.next(What::LogIn, granted(HOUR));
    b.keeper.doubt(b.now);
    b.next(What::LookUp, granted(HOUR));
    let at = b.now;
    b.keeper.doubt(b.now);
    assert!(matches!(b.poll(), Poll::Wait(_)), "once a minute at most");
    b.now = b.now.plus(DOUBTS);
    b.keeper.doubt(b.now);
    b.next(What::LookUp, Answer::Failed(Trouble::Invalid));
    assert!(!b.keeper.holds(b.now));
    b.next(What::LogIn, granted(HOUR));
    assert!(b.keeper.holds(b.now) && b.now.since(at) < S * 61);
    assert!(b.events().contains(&Event::TokenLost { why: Gone::Revoked }));
}

#[test]
fn closing_revokes_what_was_logged_in_for_and_nothing_else() {
    let mut b = Bench::new(LOGIN);
    b.next(What::LogIn, granted(HOUR));
    b.keeper.close(b.now, &b.settings);
    b.next(What::Revoke, Answer::Revoked);
    assert!(b.keeper.is_closed() && b.keeper.stage() == Stage::Closed && !b.keeper.holds(b.now));
    for how in [How::Given, How::File { poll: S * 10 }] {
        let mut b = Bench::new(how);
        b.keeper.close(b.now, &b.settings);
        assert!(b.keeper.is_closed());
        assert!(matches!(b.poll(), Poll::Wait(Time::NEVER)));
    }
    let mut b = Bench::new(LOGIN);
    b.next(What::LogIn, granted(HOUR));
    b.keeper.close(b.now, &b.settings);
    b.next(What::Revoke, Answer::Failed(Trouble::Sealed));
    assert!(b.keeper.is_closed(), "it is not waited for");
}

const ANSWERS: [Answer; 10] = [
    Answer::Fresh,
    Answer::Same,
    Answer::Granted { lease: HOUR, renewable: true },
    Answer::Granted { lease: S, renewable: true },
    Answer::Granted { lease: Duration::ZERO, renewable: false },
    Answer::Granted { lease: Duration::MAX, renewable: true },
    Answer::Revoked,
    Answer::Failed(Trouble::Sealed),
    Answer::Failed(Trouble::Denied),
    Answer::Failed(Trouble::Invalid),
];

/// What must be true after every step, whatever was answered.
fn sound(b: &mut Bench, closing: bool) {
    let poll = b.poll();
    if let Poll::Wait(at) = poll {
        assert!(at > b.now || at == Time::NEVER, "asks to be asked again at once: {:?}", b.keeper);
        let stuck = at == Time::NEVER && !b.keeper.holds(b.now);
        let given = b.settings.how == How::Given;
        assert!(!stuck || given || closing, "nobody will ever get a token: {:?}", b.keeper);
    } else if let Poll::Ask(asked) = poll {
        // Single flight: nothing else before this one has ended.
        assert!(matches!(b.poll(), Poll::Wait(_)));
        b.answer(asked, Answer::Failed(Trouble::Dropped));
    }
}

/// Every history of four answers, of every way to a token: 4 × 10⁴ histories.
#[test]
fn every_short_history_is_sound() {
    let ways = [How::Given, How::File { poll: S * 10 }, LOGIN, How::Login { reads: true }];
    for how in ways {
        for history in 0..10_000_usize {
            let mut b = Bench::new(how);
            let mut rest = history;
            for _ in 0..4 {
                let answer = ANSWERS[rest % 10];
                rest /= 10;
                let mut waits = 0;
                let asked = loop {
                    match b.poll() {
                        Poll::Ask(asked) => break Some(asked),
                        Poll::Wait(Time::NEVER) => break None,
                        Poll::Wait(at) => {
                            assert!(at > b.now);
                            b.now = at;
                            waits += 1;
                            assert!(waits < 5, "{history} {how:?}");
                        }
                    }
                };
                let Some(asked) = asked else { break };
                b.answer(asked, answer);
                if let (What::LogIn, Answer::Granted { lease, .. }) = (asked.what, answer) {
                    assert!(
                        b.keeper.holds(b.now)
                            && (lease.is_zero() || b.keeper.until().unwrap() == b.now.plus(lease))
                    );
                }
            }
            sound(&mut b, false);
        }
    }
}

proptest! {
    /// A driver of any speed, with any answers: what is asked is bounded by one a second, but for
    /// the steps of one login and the nodes of one round, and the token is never dropped early.
    #[test]
    fn no_hot_loop_and_no_early_loss(
        way in 0_usize..4,
        steps in proptest::collection::vec((0_usize..10, 0_u64..3_000, 0_u8..20), 1..120),
        seed: u64,
    ) {
        let ways = [How::Given, How::File { poll: S * 10 }, LOGIN, How::Login { reads: true }];
        let mut b = Bench::new(ways[way]);
        b.rng = Pcg32::new(seed, 1);
        b.keeper.nodes(2);
        let (mut asks, mut closing) = (0_u64, false);
        for (answer, millis, deed) in steps {
            match deed {
                0 => drop(b.keeper.doubt(b.now)),
                1 => b.keeper.given(b.now),
                2 if asks > 20 => { b.keeper.close(b.now, &b.settings); closing = true; }
                _ => {}
            }
            let held = b.keeper.until().filter(|until| b.now < *until);
            if let Poll::Ask(asked) = b.poll() {
                asks += 1;
                let answer = ANSWERS[answer];
                b.answer(asked, answer);
                if let (Some(until), Answer::Failed(Trouble::Sealed | Trouble::Denied)) = (held, answer)
                    && !b.keeper.is_closed()
                {
                    prop_assert_eq!(b.keeper.until(), Some(until), "dropped early");
                }
            } else {
                b.now = b.now.plus(Duration::from_millis(millis));
            }
        }
        sound(&mut b, closing);
        let _ = serde_json::to_string(&b.keeper).unwrap();
    }

    /// Clocks that stand, jump to the end of time or go back harm nothing.
    #[test]
    fn any_clock_is_survived(times in proptest::collection::vec(prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 1..60), way in 0_usize..4) {
        let ways = [How::Given, How::File { poll: S * 10 }, LOGIN, How::Login { reads: true }];
        let mut b = Bench::new(ways[way]);
        for (n, nanos) in times.into_iter().enumerate() {
            b.now = Time::from_nanos(nanos);
            if let Poll::Ask(asked) = b.poll() {
                b.answer(asked, ANSWERS[n % 10]);
            }
        }
    }
}
