use proptest::prelude::*;

use super::*;
use crate::config::WatchConfig;
use crate::consul::connect::PrivateKey;
use crate::consul::spiffe::SpiffeId;
use crate::outcome::Fault;

const DAY: u64 = 86_400;
const LIFE: u64 = 3 * DAY;
const START: u64 = 1_800_000_000;

fn roots(domain: &str, keys: &[u8]) -> Roots {
    let certificates = keys.iter().map(|key| vec![0x30, *key].into()).collect();
    Roots { trust_domain: domain.into(), certificates, intermediates: Vec::new() }
}

fn leaf(domain: &str, serial: &str, after: u64) -> Leaf {
    Leaf {
        id: SpiffeId::new(domain, "dc1", "web").unwrap(),
        serial: serial.into(),
        chain: vec![vec![0x30].into()],
        pem: format!("leaf {serial}").into(),
        key: PrivateKey { pem: "SECRET".into() },
        valid_after: Wall(after),
        valid_before: Wall(after + LIFE),
    }
}

fn config() -> ConnectConfig {
    ConnectConfig { enabled: true, service: "web".into(), ..ConnectConfig::default() }
}

struct Rig {
    machine: Membership,
    settings: Settings,
    rng: Pcg32,
}

impl Rig {
    fn new() -> Rig {
        let watch = watch::Settings::of(&WatchConfig::default(), "watch").unwrap();
        let settings = Settings::of(&config(), watch, "connect").unwrap().unwrap();
        Rig { machine: Membership::new(&settings), settings, rng: Pcg32::new(1, 1) }
    }

    /// Seconds since the start, on both clocks.
    fn due(&mut self, second: u64) -> Poll<Asked> {
        let (now, wall) = (at(second), Wall(START + second));
        self.machine.poll(now, wall, &self.settings, &mut self.rng)
    }

    #[track_caller]
    fn asked(&mut self, second: u64) -> Asked {
        match self.due(second) {
            Poll::Run(asked) => *asked,
            Poll::Wait(until) => panic!("wait until {until:?}"),
        }
    }

    fn done(&mut self, second: u64, asked: Asked, answer: Answer) -> bool {
        let (now, wall) = (at(second), Wall(START + second));
        self.machine.done(now, wall, &asked, answer, &self.settings, &mut self.rng)
    }

    fn tick(&mut self, second: u64) -> bool {
        self.machine.tick(at(second), Wall(START + second), &self.settings)
    }

    fn said(&mut self) -> Vec<String> {
        self.machine.take_said().into_iter().map(|(_, said)| said.to_string()).collect()
    }

    fn serial(&self) -> Option<String> {
        self.machine.in_force().map(|force| force.leaf.serial.to_string())
    }

    /// One with both in force since the start, and both watches out.
    fn member() -> (Rig, Asked, Asked) {
        let mut rig = Rig::new();
        let (one, two) = (rig.asked(0), rig.asked(0));
        assert!(!rig.done(0, one, Answer::Roots(Some(5), roots("d", &[1]))));
        assert!(rig.done(0, two, Answer::Leaf(Some(7), leaf("d", "one", START))));
        let (one, two) = (rig.asked(1), rig.asked(1));
        assert_eq!((one.part, one.query.index), (Part::Roots, Some(5)));
        assert_eq!((two.part, two.query.index), (Part::Leaf, Some(7)));
        let _ = rig.said();
        (rig, one, two)
    }
}

fn at(second: u64) -> Time {
    Time::from_millis(second * 1_000)
}

#[test]
fn case_003_35_roots_and_leaf_come_into_force_together() {
    let mut rig = Rig::new();
    let (one, two) = (rig.asked(0), rig.asked(0));
    assert_eq!((one.query.index, two.query.index), (None, None));
    assert!(!rig.done(0, two, Answer::Leaf(Some(7), leaf("d", "one", START))));
    assert!(rig.machine.in_force().is_none());
    assert!(rig.done(0, one, Answer::Roots(Some(5), roots("d", &[1]))));
    assert_eq!(rig.serial().as_deref(), Some("one"));
    assert_eq!(rig.said(), ["connect: certificate one of web in force for 3d, with 1 roots"]);
    // The same again is no change, and another root is.
    let one = rig.asked(1);
    assert!(!rig.done(1, one, Answer::Roots(Some(6), roots("d", &[1]))));
    let two = rig.asked(2);
    assert_eq!(two.part, Part::Roots);
    assert!(rig.done(2, two, Answer::Roots(Some(7), roots("d", &[2, 1]))));
    assert_eq!(rig.machine.in_force().unwrap().roots.certificates.len(), 2);
    let text = format!("{:?} {:?}", rig.machine, rig.machine.in_force());
    assert!(!text.contains("SECRET"), "{text}");
}

#[test]
fn a_call_asks_for_what_is_missing_and_never_waits_for_changes() {
    let mut rig = Rig::new();
    let missing = |rig: &mut Rig| match rig.machine.poll_missing(at(1), &rig.settings, &mut rig.rng)
    {
        Poll::Run(asked) => Some(*asked),
        Poll::Wait(_) => None,
    };
    let one = missing(&mut rig).unwrap();
    assert!(!rig.done(1, one, Answer::Roots(Some(5), roots("d", &[1]))));
    let two = missing(&mut rig).unwrap();
    assert_eq!((two.part, two.query.index), (Part::Leaf, None));
    assert!(missing(&mut rig).is_none());
}

/// The old cluster's roots and the new cluster's leaf would fail against both.
#[test]
fn those_of_two_trust_domains_are_never_mixed() {
    let (mut rig, one, two) = Rig::member();
    assert!(!rig.done(2, one, Answer::Roots(Some(9), roots("new", &[3]))));
    assert_eq!(rig.machine.in_force().unwrap().roots.certificates, roots("d", &[1]).certificates);
    assert!(rig.done(3, two, Answer::Leaf(Some(9), leaf("new", "two", START))));
    let force = rig.machine.in_force().unwrap();
    assert_eq!((&*force.roots.trust_domain, &*force.leaf.serial), ("new", "two"));
}

#[test]
fn what_nobody_can_use_is_refused_and_what_was_before_stays() {
    let (mut rig, one, two) = Rig::member();
    let mut other = leaf("d", "two", START);
    other.id = SpiffeId::new("d", "dc1", "api").unwrap();
    assert!(!rig.done(2, two, Answer::Leaf(Some(9), other)));
    assert!(rig.said()[0].contains("of another service"));
    assert!(!rig.done(2, one, Answer::Leaf(Some(9), leaf("d", "two", START))));
    assert!(rig.said()[0].contains("another question"));
    // After the pause of a failure both are read anew.
    let (one, two) = (rig.asked(60), rig.asked(60));
    assert_eq!((one.query.index, two.query.index), (None, None));
    assert!(!rig.done(60, two, Answer::Leaf(Some(9), leaf("d", "two", START - LIFE))));
    assert!(rig.machine.take_said().is_empty(), "the first of a row is told");
    assert_eq!(rig.serial().as_deref(), Some("one"));
    assert!(rig.machine.trouble().is_none(), "there is something to work with");
}

#[test]
fn the_old_leaf_serves_until_its_expiry_and_not_longer() {
    let (mut rig, _, two) = Rig::member();
    let failed = Answer::Failed(Trouble::Fault(Fault::Connect), "no connection".into());
    assert!(!rig.done(5, two, failed));
    // Whatever becomes of its watch, nine tenths of its life on it is asked for plainly, once a
    // minute, and one hour before the end that is told.
    let mut second = LIFE * 9 / 10 - 1;
    let mut asked = 0;
    while second < LIFE {
        assert!(!rig.tick(second));
        assert_eq!(rig.serial().as_deref(), Some("one"));
        if let Poll::Run(query) = rig.due(second)
            && query.part == Part::Leaf
        {
            asked += 1;
            assert_eq!(query.query.index, None);
            let failed = Answer::Failed(Trouble::Fault(Fault::Connect), "no connection".into());
            assert!(!rig.done(second, *query, failed));
        }
        second += 30;
    }
    assert!((100..1_000).contains(&asked), "{asked}");
    let said = rig.said();
    let warnings = said.iter().filter(|text| text.contains("no successor yet")).count();
    assert_eq!(warnings, 1, "{said:?}");
    assert!(rig.tick(LIFE) && rig.serial().is_none());
    assert!(!rig.tick(LIFE + 1));
    assert!(rig.said().iter().any(|text| text.contains("has expired")));
    // A new one heals it.
    let leaf_asked = (LIFE..LIFE + 400).find_map(|second| match rig.due(second) {
        Poll::Run(asked) if asked.part == Part::Leaf => Some((second, *asked)),
        _ => None,
    });
    let (second, asked) = leaf_asked.unwrap();
    assert!(rig.done(second, asked, Answer::Leaf(Some(9), leaf("d", "two", START + second))));
    assert_eq!(rig.serial().as_deref(), Some("two"));
}

/// The query hangs: no answer and no failure. The renewal does not wait for its end.
#[test]
fn a_silent_watch_does_not_let_the_leaf_expire() {
    let (mut rig, _, two) = Rig::member();
    let second = LIFE * 9 / 10;
    assert!(!rig.tick(second));
    let anew = loop {
        let asked = rig.asked(second);
        if asked.part == Part::Leaf {
            break asked;
        }
    };
    assert_eq!(anew.query.index, None);
    // The answer of the one that hung is late and ignored.
    assert!(!rig.done(second, two, Answer::Leaf(Some(8), leaf("d", "late", START))));
    assert!(rig.done(second, anew, Answer::Leaf(Some(9), leaf("d", "two", START + second))));
    assert_eq!(rig.serial().as_deref(), Some("two"));
}

#[test]
fn why_nothing_is_in_force_is_known() {
    let mut rig = Rig::new();
    let one = rig.asked(0);
    let denied = || Answer::Failed(Trouble::Forbidden, "permission denied".into());
    assert!(!rig.done(0, one, denied()));
    let cause = rig.machine.trouble().unwrap();
    assert_eq!(
        (&*cause.reason, cause.trouble, cause.failures),
        ("permission denied", Trouble::Forbidden, 1)
    );
    assert!(cause.next_try > at(0));
    rig.machine.refused(at(1), "a certificate is not usable".into());
    assert!(rig.said().last().unwrap().contains("is not usable"));
    assert_eq!(rig.machine.trouble().unwrap().failures, 1);
}

#[test]
fn bad_settings_are_refused_by_their_field() {
    let watch = watch::Settings::default();
    let field = |change: fn(&mut ConnectConfig)| {
        let mut config = config();
        change(&mut config);
        Settings::of(&config, watch, "connect").unwrap_err().field
    };
    assert_eq!(field(|c| c.service = String::new()), "connect.service");
    assert_eq!(field(|c| c.service = "a/b".into()), "connect.service");
    assert_eq!(field(|c| c.warning = Duration::ZERO), "connect.warning");
    assert_eq!(field(|c| c.warning = Duration::from_millis(999)), "connect.warning");
    assert_eq!(field(|c| c.warning = Duration::MAX), "connect.warning");
    assert_eq!(Settings::of(&ConnectConfig::default(), watch, "connect"), Ok(None));
}

proptest! {
    /// Whatever comes in whatever order, on clocks that jump: what is in force is of one trust
    /// domain, is ours, and has not expired when it was looked at last; nothing panics.
    #[test]
    fn nothing_mixed_or_expired_is_ever_in_force(
        steps in proptest::collection::vec((0_u8..8, 0_u64..LIFE * 2, any::<bool>()), 0..60)
    ) {
        let mut rig = Rig::new();
        let mut out: Vec<Asked> = Vec::new();
        for (number, (what, second, new)) in steps.into_iter().enumerate() {
            let second = if what == 7 { u64::MAX / 2_000 } else { second };
            let domain = if new { "new" } else { "d" };
            let before = rig.serial();
            let changed = match what {
                0 | 1 => {
                    if let Poll::Run(asked) = rig.due(second) {
                        out.push(*asked);
                    }
                    false
                }
                2 | 3 => rig.tick(second),
                _ => match out.pop() {
                    None => false,
                    Some(asked) => {
                        let index = Some(second % 9);
                        let answer = match (what, asked.part) {
                            (4, _) => Answer::Silence,
                            (5, _) => Answer::Failed(Trouble::Status(500), "no".into()),
                            (_, Part::Roots) => Answer::Roots(index, roots(domain, &[number as u8])),
                            (_, Part::Leaf) => {
                                let after = START + second.min(LIFE) / 2;
                                Answer::Leaf(index, leaf(domain, &number.to_string(), after))
                            }
                        };
                        rig.done(second, asked, answer)
                    }
                },
            };
            prop_assert!(changed || rig.serial() == before);
            if let Some(force) = rig.machine.in_force() {
                prop_assert_eq!(&force.roots.trust_domain, &force.leaf.id.trust_domain);
                if what == 2 || what == 3 {
                    prop_assert!(force.leaf.valid_before > Wall(START + second));
                }
            }
        }
        prop_assert!(rig.machine.take_said().len() <= MOST_SAID);
    }
}
