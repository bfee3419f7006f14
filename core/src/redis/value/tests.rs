//! The form as the contract has it, and everything that is not believed.

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { bytes: 1 << 20, instances: 1_000, foreign: false };
const FOREIGN: Bounds = Bounds { foreign: true, ..BOUNDS };

fn instance(address: &str) -> Instance {
    Instance::new("alpha".into(), Role::Primary, Address::parse(address).unwrap())
}

fn full() -> Instance {
    Instance {
        id: "web-1".into(),
        health: Some("/health".into()),
        condition: Condition::Warning,
        weight: 7,
        tags: vec!["blue".into(), "a\"b:c".into()],
        metadata: [("zone".into(), "a".into())].into_iter().collect(),
        ..instance("https://[::1]:8443/base/")
    }
}

#[test]
fn the_form_is_that_of_the_contract() {
    let text = encode("web", &[full()], Wall(130), &BOUNDS).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let endpoint = value[0].as_object().unwrap();
    let keys: Vec<&String> = endpoint.keys().collect();
    assert_eq!(keys, ["address", "healthy", "id", "last_check", "metadata", "port"]);
    assert_eq!(endpoint["address"], "::1");
    assert_eq!(endpoint["port"], 8443);
    assert_eq!(endpoint["healthy"], true);
    // The metadata is a map of texts.
    assert!(endpoint["metadata"].as_object().unwrap().values().all(serde_json::Value::is_string));
    assert_eq!(
        endpoint["metadata"][EXTRA],
        r#"{"v":1,"service":"web","expires":130,"cluster":"alpha","role":"primary","url":"https://[::1]:8443/base/","health":"/health","condition":"warning","weight":7,"tags":["blue","a\"b:c"]}"#
    );
    let decoded = decode(&text, "web", &BOUNDS).unwrap();
    assert_eq!(decoded, Decoded { instances: vec![full()], expires: Some(Wall(130)) });
}

#[test]
fn a_value_of_seed_004_is_read_where_that_is_allowed() {
    let text = br#"[{"id":"web-10.0.0.1-80","address":"10.0.0.1","port":80,"healthy":true,
        "last_check":"2024-01-01T00:00:00","metadata":{"protocol":"https"}},
        {"id":"x","address":"::1","port":81,"healthy":false,"last_check":null,"metadata":null}]"#;
    assert_eq!(decode(text, "web", &BOUNDS), Err(Mistrust::Foreign));
    let decoded = decode(text, "web", &FOREIGN).unwrap();
    let shown: Vec<_> =
        decoded.instances.iter().map(|i| (i.address.as_str(), i.condition)).collect();
    assert_eq!(
        shown,
        [("https://10.0.0.1:80", Condition::Unknown), ("http://[::1]:81", Condition::Critical)]
    );
    assert_eq!(decoded.expires, None);
}

#[test]
fn the_earliest_expiry_in_a_list_is_that_of_the_list() {
    let part = |expires| {
        let text = encode("web", &[full()], Wall(expires), &BOUNDS).unwrap();
        String::from_utf8(text[1..text.len() - 1].to_vec()).unwrap()
    };
    let text = format!("[{},{},{}]", part(130), part(120), part(140));
    let decoded = decode(text.as_bytes(), "web", &BOUNDS).unwrap();
    assert_eq!((decoded.instances.len(), decoded.expires), (3, Some(Wall(120))));
}

#[test]
fn an_empty_list_is_a_value() {
    let text = encode("web", &[], Wall(1), &BOUNDS).unwrap();
    assert_eq!(&text[..], b"[]");
    assert_eq!(decode(&text, "web", &BOUNDS).unwrap().instances, []);
}

#[test]
fn case_004_86_every_endpoint_is_checked_before_use() {
    let good = encode("web", &[full()], Wall(130), &BOUNDS).unwrap();
    let good = String::from_utf8(good.to_vec()).unwrap();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} in {good}");
        decode(good.replacen(from, to, 1).as_bytes(), "web", &FOREIGN).unwrap_err()
    };
    let bad = |bad| Mistrust::Instance { index: 0, bad };
    for port in ["0", "-1", "65536", "99999999999"] {
        assert_eq!(with("\"port\":8443", &format!("\"port\":{port}")), bad(BadInstance::Port));
    }
    assert!(matches!(with("\"port\":8443", "\"port\":\"8443\""), Mistrust::WrongShape { .. }));
    assert_eq!(with("\"port\":8443", "\"port\":8444"), bad(BadInstance::Contradiction));
    assert_eq!(with("\"address\":\"::1\"", "\"address\":\"::2\""), bad(BadInstance::Contradiction));
    assert_eq!(with("\"address\":\"::1\"", "\"address\":\"\""), bad(BadInstance::Address));
    assert_eq!(with("https://[", "https://u@["), bad(BadInstance::Address));
    assert_eq!(with("\"id\":\"web-1\"", "\"id\":\"\""), bad(BadInstance::Id));
    assert_eq!(
        with("\\\"service\\\":\\\"web", "\\\"service\\\":\\\"wob"),
        bad(BadInstance::Service)
    );
    assert_eq!(with("\\\"weight\\\":7", "\\\"weight\\\":7000000"), bad(BadInstance::Weight));
    assert_eq!(with("\\\"weight\\\":7", "\\\"weight\\\":-7"), bad(BadInstance::Extra));
    assert_eq!(with("{\\\"v\\\":1", "{"), bad(BadInstance::Extra));
    assert_eq!(with("{\\\"v\\\":1", "{\\\"v\\\":2"), Mistrust::Version { found: 2 });
    // Another version in another shape is told from garbage.
    assert_eq!(with("\\\"expires\\\":130", "\\\"v2\\\":1"), bad(BadInstance::Extra));
    let other = r#"[{"id":"a","address":"h","port":1,"metadata":{"x-origin":"{\"v\":9}"}}]"#;
    assert_eq!(decode(other.as_bytes(), "web", &BOUNDS), Err(Mistrust::Version { found: 9 }));
    // An address that tries to be more than a host.
    for address in ["a/b", "a:80", "u@a", "a?x", "a#x", " a", "a\\u0000", "[", "http://a"] {
        let text = format!(r#"[{{"id":"a","address":"{address}","port":80}}]"#);
        assert!(decode(text.as_bytes(), "web", &FOREIGN).is_err(), "{address}");
    }
}

#[test]
fn garbage_is_told_by_kind_and_not_repeated() {
    for (text, json) in [
        ("", false),
        ("hunter2", false),
        ("[{\"id\":\"hunter2", false),
        ("{\"hunter2\":1}", true),
        ("7", true),
        ("null", true),
        ("[7]", true),
        ("[null]", true),
        ("[{}]", true),
    ] {
        let mistrust = decode(text.as_bytes(), "web", &BOUNDS).unwrap_err();
        assert_eq!(matches!(mistrust, Mistrust::WrongShape { .. }), json, "{text}");
        assert!(!format!("{mistrust} {mistrust:?}").contains("hunter2"));
    }
    let nested = "[".repeat(100_000);
    assert!(matches!(
        decode(nested.as_bytes(), "web", &BOUNDS),
        Err(Mistrust::NotJson { .. } | Mistrust::WrongShape { .. })
    ));
    assert!(matches!(decode(b"[\xff]", "web", &BOUNDS), Err(Mistrust::NotJson { .. })));
    let small = Bounds { bytes: 10, instances: 1, foreign: true };
    assert_eq!(decode(&[b' '; 11], "web", &small), Err(Mistrust::TooLarge { most: 10 }));
    let two = br#"[{"id":"a","address":"a","port":1},{"id":"b","address":"b","port":1}]"#;
    let one = Bounds { instances: 1, ..FOREIGN };
    assert_eq!(decode(two, "web", &one), Err(Mistrust::TooMany { count: 2, most: 1 }));
}

#[test]
fn what_cannot_be_said_is_not_written() {
    let none = |address: &str| encode("s", &[instance(address)], Wall(1), &BOUNDS);
    assert_eq!(none("postgresql.alpha.origin.internal"), Err(Unwritable::Address { index: 0 }));
    assert!(none("postgres:5432").is_ok() && none("http://a").is_ok());
    let tiny = Bounds { bytes: 100, ..BOUNDS };
    let refused = encode("s", &[instance("http://a:1")], Wall(1), &tiny).unwrap_err();
    assert!(matches!(refused, Unwritable::TooLarge { most: 100, .. }), "{refused}");
    let one = Bounds { instances: 1, ..BOUNDS };
    let two = [instance("http://a:1"), instance("http://b:1")];
    assert_eq!(encode("s", &two, Wall(1), &one), Err(Unwritable::TooMany { count: 2, most: 1 }));
}

#[test]
fn the_calendar_bounds_a_life_and_tells_wrong_clocks() {
    let s = Duration::from_secs;
    let left = |expires, wall| remaining(Wall(expires), Wall(wall), s(30), s(5));
    assert_eq!(left(130, 100), Ok(Some(s(30))));
    assert_eq!(left(130, 129), Ok(Some(s(1))));
    assert_eq!(left(130, 130), Ok(None));
    assert_eq!(left(130, 135), Ok(None));
    assert_eq!(left(130, 136), Err(Mistrust::Behind { by_s: 6 }));
    assert_eq!(left(136, 100), Ok(Some(s(36))));
    assert_eq!(left(137, 100), Err(Mistrust::Ahead { ahead_s: 1 }));
    assert!(left(u64::MAX, 0).is_err() && left(0, u64::MAX).is_err());
    assert!(left(u64::MAX, u64::MAX) == Ok(None));
    assert!(remaining(Wall(u64::MAX), Wall(1), Duration::MAX, Duration::MAX).is_ok());
}

fn text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof!["[a-z]{1,6}", "\\PC{1,6}", Just("x-origin".to_owned())].prop_map(Arc::from)
}

prop_compose! {
    fn any_instance()(
        id in text(), cluster in text(), tags in proptest::collection::vec(text(), 0..3),
        metadata in proptest::collection::btree_map(text(), text(), 0..3), weight in 0..=MOST_WEIGHT,
        health in proptest::option::of(text()), kind in 0..4_u8, primary: bool,
        address in proptest::sample::select(vec![
            "http://a", "https://a", "http://a:80", "http://10.0.0.1:8080", "https://b:1/c/", "d:5432",
            "postgres://d:5432/db", "http://[::1]:9", "https://[fe80::1]",
        ]),
    ) -> Instance {
        let condition = match kind {
            0 => Condition::Unknown, 1 => Condition::Passing, 2 => Condition::Warning, _ => Condition::Critical,
        };
        let role = if primary { Role::Primary } else { Role::Backup };
        let mut metadata = metadata;
        metadata.remove(EXTRA);
        let address = Address::parse(address).unwrap();
        Instance { id, cluster, role, address, health, condition, weight, tags, metadata }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        instances in proptest::collection::vec(any_instance(), 0..5), expires in any::<u32>(),
    ) {
        let expires = Wall(expires.into());
        let text = encode("web", &instances, expires, &BOUNDS).unwrap();
        let decoded = decode(&text, "web", &BOUNDS).unwrap();
        prop_assert_eq!(decoded.expires, (!instances.is_empty()).then_some(expires));
        prop_assert_eq!(&decoded.instances, &instances);
        // For no other service.
        prop_assert!(instances.is_empty() || decode(&text, "wob", &BOUNDS).is_err());
    }

    /// One byte changed, cut or doubled: refused, or a list whose every address is one.
    #[test]
    fn a_damaged_value_is_survived(
        instances in proptest::collection::vec(any_instance(), 1..3), at: prop::sample::Index, byte: u8, how in 0..3_u8,
    ) {
        let mut text = encode("web", &instances, Wall(9), &BOUNDS).unwrap().to_vec();
        let at = at.index(text.len());
        match how {
            0 => text[at] = byte,
            1 => text.truncate(at),
            _ => text.insert(at, byte),
        }
        if let Ok(decoded) = decode(&text, "web", &FOREIGN) {
            prop_assert!(how != 1);
            for instance in decoded.instances {
                prop_assert!(instance.address.host_and_port().is_some_and(|(host, port)| !host.is_empty() && port > 0));
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, "web", &FOREIGN);
    }
}
