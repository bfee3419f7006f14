//! The registrar against a small model of an agent that restarts, refuses, hangs and forgets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::ask::{Answer, Ask, Asked, Beat, Trouble};
use super::super::event::Event;
use super::tests::{Rig, at, s, wanted};
use super::{Out, Registrar, Settings, Wanted};
use crate::config::RegistrarConfig;
use crate::job::Poll;
use crate::outcome::Fault;
use crate::rng::Pcg32;
use crate::time::Time;

/// A clock that jumps, and answers that make no sense.
pub(super) fn survive(settings: &Settings, seed: u64) {
    let mut rng = Pcg32::new(seed, 1);
    let mut registrar = Registrar::new();
    let mut out: Vec<Asked> = vec![];
    for _ in 0..200 {
        let now = match rng.below(4) {
            0 => Time::NEVER,
            1 => Time::ZERO,
            _ => at(u64::from(rng.below(100_000))),
        };
        let id = ["a", "b", "c"][rng.below(3) as usize];
        match rng.below(8) {
            0 | 1 => drop(registrar.want(now, &wanted(id, u64::from(rng.below(2))))),
            2 => drop(registrar.leave(now, id, settings)),
            3 => registrar.hold(now, rng.below(2) == 0),
            4 => drop(registrar.say(now, id, "service:a", Beat::Fail, "x")),
            5 => drop(registrar.remove_foreign(now, "z", settings)),
            _ => {
                if let Some(asked) = out.pop() {
                    let answer = match rng.below(6) {
                        0 => Answer::Done,
                        1 => Answer::Failed(Trouble::Unknown),
                        2 => Answer::Failed(Trouble::Dropped),
                        3 => Answer::Present(vec!["a".into()]),
                        4 => Answer::Members { alive: 1, all: 1 },
                        _ => Answer::Failed(Trouble::Forbidden),
                    };
                    let _ = registrar.done(now, asked.id, &answer, settings, &mut rng);
                }
            }
        }
        match registrar.poll(now, settings, &mut rng) {
            Poll::Run(asked) => out.push(*asked),
            Poll::Wait(until) => assert!(until > now || until == Time::NEVER),
        }
        let _ = (registrar.views().count(), registrar.events().take());
    }
}

/// An agent: what is registered on it, with the time until which each TTL check lives.
#[derive(Default)]
struct Agent {
    services: BTreeMap<Arc<str>, Time>,
    /// What it does with the next exchanges.
    mood: u8,
}

impl Agent {
    /// Carries out an ask, or fails it; `None`: no answer comes.
    fn answer(&mut self, now: Time, ask: &Ask) -> Option<Answer> {
        let (reached, answered) = match self.mood {
            0 => (true, Some(Answer::Done)),
            // Refused before, lost after, lost before, denied, failing.
            1 => (false, Some(Answer::Failed(Trouble::Fault(Fault::Connect)))),
            2 => (true, None),
            3 => (false, None),
            4 => (false, Some(Answer::Failed(Trouble::Forbidden))),
            _ => (false, Some(Answer::Failed(Trouble::Status(500)))),
        };
        let mut answer = answered;
        if reached {
            let real = match ask {
                Ask::Register(id) => {
                    self.services.insert(id.clone(), now);
                    Answer::Done
                }
                Ask::Deregister(id) => match self.services.remove(id) {
                    Some(_) => Answer::Done,
                    None => Answer::Failed(Trouble::Unknown),
                },
                Ask::Beat { check, .. } => {
                    let id = check.strip_prefix("service:").unwrap();
                    match self.services.get_mut(id) {
                        Some(lives) => {
                            *lives = now.plus(s(15));
                            Answer::Done
                        }
                        None => Answer::Failed(Trouble::Unknown),
                    }
                }
                Ask::Present => Answer::Present(self.services.keys().cloned().collect()),
                other => panic!("{other:?}"),
            };
            if answer.is_some() {
                answer = Some(real);
            }
        }
        answer
    }
}

#[derive(Clone, Debug)]
enum Step {
    Want(usize, u64),
    Leave(usize),
    Mood(u8),
    /// The agent loses this one, or everything.
    Forget(Option<usize>),
    Hold(bool),
    Run(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_usize..3, 1_u64..3).prop_map(|(n, digest)| Step::Want(n, digest)),
        (0_usize..3).prop_map(Step::Leave),
        (0_u8..6).prop_map(Step::Mood),
        proptest::option::of(0_usize..3).prop_map(Step::Forget),
        any::<bool>().prop_map(Step::Hold),
        (0_u64..60_000).prop_map(Step::Run),
        (0_u64..60_000).prop_map(Step::Run),
    ]
}

const IDS: [&str; 3] = ["x-0", "x-1", "x-2"];

/// A registrar beside an agent, run in time.
struct World {
    rig: Rig,
    agent: Agent,
    now: Time,
    asked: Vec<(Time, Asked)>,
}

impl World {
    /// Lets both run for a while.
    fn run(&mut self, millis: u64) {
        let end = self.now.plus(Duration::from_millis(millis));
        loop {
            match self.rig.poll(self.now) {
                Poll::Run(asked) => {
                    assert!(asked.deadline > self.now);
                    self.asked.push((self.now, (*asked).clone()));
                    if let Some(answer) = self.agent.answer(self.now, &asked.ask) {
                        assert!(self.rig.done(self.now, &asked, answer));
                    }
                    self.check();
                }
                Poll::Wait(until) if until > end => break,
                Poll::Wait(until) => {
                    assert!(until > self.now);
                    self.now = until;
                }
            }
        }
        self.now = end;
    }

    /// Never more under way than allowed, and never two for one registration.
    fn check(&self) {
        let mut out = vec![];
        for lease in &self.rig.registrar.leases {
            let (Out::Register(id) | Out::Deregister(id) | Out::Beat(id, _)) = &lease.out else {
                continue;
            };
            let entry = self.rig.registrar.entries.get(id);
            if entry.is_some_and(|entry| entry.out == Some(lease.id)) {
                assert!(!out.contains(&id));
                out.push(id);
            }
        }
        assert!(self.rig.registrar.leases.len() <= 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happened: once the agent is well and nothing is held back, what is wanted gets
    /// registered and stays alive, what left is gone, and what belongs to others was never
    /// touched. The registrar asks at a bounded rate all the time.
    #[test]
    fn what_is_wanted_comes_to_be(steps in proptest::collection::vec(step(), 0..40)) {
        let agent = Agent::default();
        let mut world = World { rig: Rig::new(&RegistrarConfig::default()), agent, now: at(5), asked: vec![] };
        world.agent.services.insert("foreign".into(), Time::ZERO);
        let mut wants: BTreeMap<&str, bool> = BTreeMap::new();
        let mut acts = 0;
        for step in steps {
            acts += 1;
            match step {
                Step::Want(n, digest) => {
                    let wanted = Wanted { digest, ..wanted(IDS[n], 15) };
                    world.rig.registrar.want(world.now, &wanted).unwrap();
                    wants.insert(IDS[n], true);
                }
                Step::Leave(n) => {
                    let known = world.rig.registrar.stage(IDS[n]).is_some();
                    let left = world.rig.registrar.leave(world.now, IDS[n], &world.rig.settings);
                    prop_assert_eq!(left.is_ok(), known);
                    wants.insert(IDS[n], false);
                }
                Step::Mood(mood) => world.agent.mood = mood,
                Step::Forget(Some(n)) => { world.agent.services.remove(IDS[n]); }
                Step::Forget(None) => world.agent.services.retain(|id, _| &**id == "foreign"),
                Step::Hold(hold) => {
                    world.rig.registrar.hold(world.now, hold);
                    for _ in 0..3 {
                        if let (true, Poll::Run(asked)) = (hold, world.rig.poll(world.now)) {
                            prop_assert!(!matches!(asked.ask, Ask::Register(_) | Ask::Present));
                            if let Some(answer) = world.agent.answer(world.now, &asked.ask) {
                                world.rig.done(world.now, &asked, answer);
                            }
                        }
                    }
                }
                Step::Run(millis) => world.run(millis),
            }
        }
        world.agent.mood = 0;
        world.rig.registrar.hold(world.now, false);
        // The longest backoff, a look, and the leases that are out.
        let well = world.now;
        world.run(200_000);
        // A deregistration that was given up is a ghost by design; the agent reaps those. One
        // whose last try was out when the agent became well may still be.
        let mut given_up = vec![];
        for (when, event) in world.rig.registrar.events().take() {
            if let Event::ServiceDeregistrationFailed { id, .. } = event {
                prop_assert!(well.until(when) <= s(31));
                given_up.push(id);
            }
        }
        for _ in 0..20 {
            world.run(1_000);
            for id in IDS {
                let lives = world.agent.services.get(id);
                if wants.get(id) == Some(&true) {
                    prop_assert!(lives.is_some_and(|until| *until > world.now), "{id}: {lives:?}");
                } else if !given_up.iter().any(|ghost| &**ghost == id) {
                    prop_assert!(lives.is_none(), "{id} is left over");
                }
            }
        }
        prop_assert!(world.agent.services.contains_key("foreign"));
        // At most: three heartbeats per TTL and entry, the looks, and a few per deed.
        let seconds = at(5).until(world.now).as_secs() as usize;
        let most = 3 * seconds / 2 + 20 + 15 * acts;
        prop_assert!(world.asked.len() <= most, "{} of {most}", world.asked.len());
    }

    #[test]
    fn anything_is_survived(seed: u64) {
        survive(&Settings::default(), seed);
    }
}
