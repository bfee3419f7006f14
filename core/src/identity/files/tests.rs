use proptest::prelude::*;

use super::*;
use crate::job::Poll;

const NAMES: [&str; 3] = ["/etc/consul/ca.pem", "/etc/consul/cert.pem", "/etc/consul/key.pem"];
const POLL: Duration = Duration::from_secs(30);

fn settings() -> Settings {
    Settings::of(NAMES, POLL, "tls").unwrap()
}

fn content(ca: &str, cert: &str, key: &str) -> Content {
    let bytes = |text: &str| Some(Bytes::copy_from_slice(text.as_bytes()));
    Content { ca: bytes(ca), cert: bytes(cert), key: bytes(key) }
}

/// Reads everything from what is on disk, as long as something is due at `now`.
fn look(files: &mut Files, now: Time, disk: &Content) -> Option<Content> {
    let set = settings();
    let mut found = None;
    while let Poll::Run(look) = files.poll(now, &set) {
        let Look { id, path, .. } = *look;
        let part = match &*path {
            "/etc/consul/ca.pem" => &disk.ca,
            "/etc/consul/cert.pem" => &disk.cert,
            _ => &disk.key,
        };
        if let Ok(Some(new)) = files.done(now, id, Ok(part.clone()), &set) {
            assert!(found.replace(new).is_none());
        }
    }
    found
}

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

#[test]
fn case_003_47_a_change_counts_when_it_holds_still() {
    let (old, half, new) = (content("a", "b", "c"), content("a", "B", "c"), content("a", "B", "C"));
    let mut files = Files::new(at(0), old.digest(), &settings());
    assert_eq!(look(&mut files, at(29_999), &new), None, "not before its time");
    assert_eq!(look(&mut files, at(30_000), &old), None);
    assert_eq!(look(&mut files, at(60_000), &half), None);
    // A second later it is another one.
    assert_eq!(look(&mut files, at(61_000), &new), None);
    assert_eq!(look(&mut files, at(62_000), &new), Some(new.clone()));
    assert_eq!(look(&mut files, at(92_000), &new), None, "told once");
    assert!(!format!("{files:?} {new:?}").contains('B'));
}

#[test]
fn what_cannot_be_read_is_told_once_and_changes_nothing() {
    let (old, new) = (content("a", "b", "c"), content("a", "B", "C"));
    let gone = Content { key: None, ..new.clone() };
    let mut files = Files::new(at(0), old.digest(), &settings());
    let set = settings();
    let mut told = 0;
    for round in 1..5_u64 {
        let now = at(round * 30_000);
        while let Poll::Run(look) = files.poll(now, &set) {
            let read = match &*look.path {
                "/etc/consul/key.pem" => Err(Arc::from("/etc/consul/key.pem: denied")),
                _ => Ok(Some(Bytes::from_static(b"x"))),
            };
            if let Err(reason) = files.done(now, look.id, read, &set) {
                assert_eq!(&*reason, "/etc/consul/key.pem: denied");
                told += 1;
            }
        }
    }
    assert_eq!(told, 1);
    assert_eq!(look(&mut files, at(150_000), &gone), None);
    assert_eq!(look(&mut files, at(180_000), &new), None);
    assert_eq!(look(&mut files, at(181_000), &new), Some(new));
}

#[test]
fn files_that_are_not_configured_are_not_read() {
    let set = Settings::of(["ca", "", ""], POLL, "tls").unwrap();
    let mut files = Files::new(at(0), 0, &set);
    for now in [at(30_000), at(31_000)] {
        let Poll::Run(only) = files.poll(now, &set) else { panic!() };
        assert_eq!(&*only.path, "ca");
        let read = files.done(now, only.id, Ok(Some(Bytes::from_static(b"x"))), &set).unwrap();
        assert_eq!(read.is_some(), now == at(31_000));
        assert!(read.is_none_or(|read| read.cert.is_none() && read.key.is_none()));
    }
    let set = Settings::of(["", "", ""], POLL, "tls").unwrap();
    assert!(!set.any() && settings().any());
    let mut files = Files::new(at(0), 0, &set);
    assert!(matches!(files.poll(at(30_000), &set), Poll::Wait(until) if until == at(60_000)));
}

#[test]
fn bad_settings_are_refused_by_their_field() {
    let field = |files, poll| Settings::of(files, poll, "tls").unwrap_err().field;
    assert_eq!(field(NAMES, Duration::ZERO), "tls.poll");
    assert_eq!(field(NAMES, Duration::from_millis(99)), "tls.poll");
    assert_eq!(field(NAMES, Duration::MAX), "tls.poll");
    assert_eq!(field(["", "cert", ""], POLL), "tls.cert");
    assert_eq!(field(["", "", "key"], POLL), "tls.cert");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let set = settings();
    let mut files = Files::new(at(0), 0, &set);
    let Poll::Run(look) = files.poll(at(30_000), &set) else { panic!() };
    let reason = files.done(at(30_000), look.id, Ok(None), &set).unwrap_err();
    assert_eq!(&*reason, "\"/etc/consul/ca.pem\" is not there");
}

proptest! {
    /// On any clock and any disk: only what was on disk at two looks is told, and a lost read
    /// costs its lease.
    #[test]
    fn only_what_holds_still_is_told(
        steps in proptest::collection::vec((prop_oneof![0_u64..200_000, Just(u64::MAX)], 0_u8..4, any::<bool>()), 0..40)
    ) {
        let set = settings();
        let mut files = Files::new(at(0), 0, &set);
        for (millis, version, lost) in steps {
            let now = Time::from_millis(millis);
            let disk = content("a", &version.to_string(), &version.to_string());
            if lost {
                let _ = files.poll(now, &set);
            } else if let Some(told) = look(&mut files, now, &disk) {
                prop_assert_eq!(told, disk);
            }
        }
    }
}
