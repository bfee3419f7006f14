use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;

const POLL: Duration = Duration::from_secs(600);
const START: u64 = 1_800_000_000;

fn keeper() -> Keeper {
    Keeper::new(Some(Settings { path: "/run/token".into(), poll: POLL }))
}

fn jwt(end: u64) -> String {
    format!("eyJh.{}.c2ln", URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{end}}}")))
}

/// Seconds after the start.
fn at(second: u64) -> (Time, Wall) {
    (Time::from_millis(second * 1_000), Wall(START + second))
}

/// Looks if a look is due, at a file with this content.
fn look(keeper: &mut Keeper, second: u64, content: Option<&str>) -> Option<Option<Said>> {
    let (now, wall) = at(second);
    let Poll::Run(look) = keeper.poll(now, wall) else { return None };
    assert_eq!(&*look.path, "/run/token");
    let bytes = content.map(|text| Bytes::copy_from_slice(text.as_bytes()));
    Some(keeper.done(now, wall, look.id, JobOutcome::Content(bytes)))
}

fn shown(keeper: &Keeper, second: u64) -> Option<String> {
    keeper.token(at(second).1).map(|token| token.expose().to_owned())
}

#[test]
fn case_000_21_the_token_is_read_at_the_start_and_again_and_again() {
    let mut keeper = keeper();
    assert!(keeper.is_awaited());
    assert_eq!(look(&mut keeper, 0, Some("  one\r\n")), Some(None), "nothing to say");
    assert_eq!((shown(&keeper, 0).as_deref(), keeper.is_awaited()), (Some("one"), false));
    assert_eq!(look(&mut keeper, 599, Some("two")), None, "not before its time");
    assert_eq!(look(&mut keeper, 600, Some("one")), Some(None));
    let said = look(&mut keeper, 1_200, Some("two"));
    assert_eq!(said, Some(Some(Said::TokenExchanged { until: None })));
    assert_eq!((shown(&keeper, 1_200).as_deref(), keeper.taken()), (Some("two"), 2));
    assert!(!format!("{keeper:?} {said:?}").contains("two"));
}

#[test]
fn case_000_21_what_is_no_token_changes_nothing_and_is_told_once() {
    let large = "a".repeat(MOST + 1);
    for (content, trouble) in [
        (None, Trouble::Missing),
        (Some(""), Trouble::Empty),
        (Some(" \n\t "), Trouble::Empty),
        (Some("two lines\nof it"), Trouble::Malformed),
        (Some("a b"), Trouble::Malformed),
        (Some("caf\u{e9}"), Trouble::Malformed),
        (Some("a\0"), Trouble::Malformed),
        (Some(&*large), Trouble::TooLarge),
        (Some(&*jwt(START)), Trouble::Expired),
    ] {
        // Before there was one: looked at every second, and told once.
        let mut fresh = keeper();
        let failed = |kept| Said::TokenFailed { file: "/run/token".into(), trouble, kept };
        assert_eq!(look(&mut fresh, 0, content), Some(Some(failed(false))), "{content:?}");
        assert_eq!(look(&mut fresh, 1, content), Some(None));
        assert_eq!((shown(&fresh, 1), fresh.is_awaited()), (None, false));
        assert_eq!(look(&mut fresh, 2, Some("good")), Some(None));
        assert_eq!(shown(&fresh, 2).as_deref(), Some("good"));
        // After: the good one stays.
        assert_eq!(look(&mut fresh, 602, content), Some(Some(failed(true))));
        assert_eq!(look(&mut fresh, 1_202, content), Some(None));
        assert_eq!(shown(&fresh, 1_202).as_deref(), Some("good"));
        assert_eq!(fresh.trouble(), Some(trouble));
        look(&mut fresh, 1_802, Some("better"));
        assert_eq!((shown(&fresh, 1_802).as_deref(), fresh.trouble()), (Some("better"), None));
    }
    assert!(whole("a".repeat(MOST).as_bytes()).is_ok());
    assert_eq!(content(JobOutcome::Impossible("no".into())), Err(Trouble::Unreadable));
    assert_eq!(content(JobOutcome::Failed(Fault::BodyTooLarge)), Err(Trouble::TooLarge));
}

#[test]
fn case_000_21_a_token_that_ends_is_looked_after_ahead_and_forgotten_then() {
    let mut keeper = keeper();
    let first = jwt(START + 100);
    look(&mut keeper, 0, Some(&first));
    let mut looks = Vec::new();
    for second in 1..100 {
        if look(&mut keeper, second, Some(&first)).is_some() {
            looks.push(second);
        }
        assert!(keeper.tick(at(second).0, at(second).1).is_none());
        assert_eq!(shown(&keeper, second).as_ref(), Some(&first));
    }
    // Well ahead of its end, though the file is looked at every ten minutes else.
    assert!(looks.first() == Some(&75) && looks.last() == Some(&99), "{looks:?}");
    // It is no token any more at its end, asked or not.
    assert_eq!(shown(&keeper, 100), None);
    assert_eq!(keeper.tick(at(100).0, at(100).1), Some(Said::TokenExpired));
    assert!(keeper.is_awaited(), "the file may hold another one");
    assert_eq!(look(&mut keeper, 100, Some(&first)), Some(None), "told already");
    assert!(!keeper.is_awaited());
    assert_eq!(keeper.trouble(), Some(Trouble::Expired));
    let second = jwt(START + 1_000);
    assert!(look(&mut keeper, 101, Some(&second)).is_some());
    assert_eq!((shown(&keeper, 101), keeper.until()), (Some(second), Some(Wall(START + 1_000))));
}

#[test]
fn a_look_that_is_lost_is_made_again_and_one_that_is_late_changes_nothing() {
    let mut keeper = keeper();
    let Poll::Run(lost) = keeper.poll(at(0).0, at(0).1) else { panic!() };
    assert!(matches!(keeper.poll(at(5).0, at(5).1), Poll::Wait(_)) && keeper.is_awaited());
    let Poll::Run(next) = keeper.poll(at(6).0, at(6).1) else { panic!() };
    assert_eq!((keeper.trouble(), keeper.is_awaited()), (Some(Trouble::Late), false));
    let good = || JobOutcome::Content(Some(Bytes::from_static(b"good")));
    keeper.done(at(6).0, at(6).1, lost.id, good());
    assert_eq!(shown(&keeper, 6), None);
    // One that was given up says nothing, and is made again soon.
    assert_eq!(keeper.done(at(6).0, at(6).1, next.id, JobOutcome::Dropped), None);
    assert_eq!(look(&mut keeper, 7, Some("good")), Some(None));
    assert_eq!(shown(&keeper, 7).as_deref(), Some("good"));
    // A refusal makes it look, once a second.
    assert!(keeper.doubt(at(8).0) && !keeper.doubt(at(8).0));
    assert!(look(&mut keeper, 8, Some("other")).is_some());
    assert_eq!(shown(&keeper, 8).as_deref(), Some("other"));
}

#[test]
fn case_000_21_a_token_that_the_program_gives_is_held_to_the_same() {
    let mut keeper = Keeper::new(None);
    assert!(!keeper.is_awaited() && !keeper.doubt(at(0).0));
    let give = |keeper: &mut Keeper, text: &str| keeper.give(at(0).1, &Secret::new(text).unwrap());
    assert_eq!(give(&mut keeper, "a\nb"), Err(Trouble::Malformed));
    assert_eq!(give(&mut keeper, &jwt(START)), Err(Trouble::Expired));
    assert_eq!(give(&mut keeper, "one"), Ok(None));
    assert_eq!(keeper.due(at(0).0, at(0).1), Time::NEVER);
    let until = Some(Wall(START + 5));
    assert_eq!(give(&mut keeper, &jwt(START + 5)), Ok(Some(Said::TokenExchanged { until })));
    assert_eq!(keeper.due(at(0).0, at(0).1), at(5).0);
    assert!(matches!(keeper.poll(at(4).0, at(4).1), Poll::Wait(when) if when == at(5).0));
    assert_eq!(keeper.tick(at(5).0, at(5).1), Some(Said::TokenExpired));
    assert_eq!((shown(&keeper, 5), keeper.trouble()), (None, Some(Trouble::Expired)));
    assert_eq!(keeper.due(at(5).0, at(5).1), Time::NEVER);
}

proptest! {
    /// On any clock and any disk: what is used once stood in the file, was whole, and has not
    /// ended; and nothing is due for ever.
    #[test]
    fn only_what_stood_there_is_used(
        steps in proptest::collection::vec((0_u64..5_000, 0_u8..6, any::<bool>()), 0..60)
    ) {
        let mut keeper = keeper();
        let mut stood = std::collections::BTreeSet::new();
        let mut second = 0;
        for (pause, version, lost) in steps {
            second += pause;
            let (now, wall) = at(second);
            let text = match version {
                0 => None,
                1 => Some(String::new()),
                2 => Some("not one\nline".to_owned()),
                3 => Some(jwt(START + second + pause)),
                other => Some(other.to_string()),
            };
            keeper.tick(now, wall);
            if lost {
                let _ = keeper.poll(now, wall);
            } else if look(&mut keeper, second, text.as_deref()).is_some() {
                stood.extend(text);
                prop_assert!(keeper.due(now, wall) > now);
            }
            if let Some(token) = shown(&keeper, second) {
                prop_assert!(stood.contains(&token) && token != "not one\nline");
                prop_assert!(claims::end(&token).is_none_or(|end| wall < end));
            }
        }
    }
}
