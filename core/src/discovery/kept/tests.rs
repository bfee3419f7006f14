//! The file: what is written is read back, and nothing else is.

use proptest::prelude::*;

use super::*;
use crate::config::SnapshotConfig;

pub(super) fn config() -> SnapshotConfig {
    SnapshotConfig { path: Some("kept.json".into()), ..SnapshotConfig::default() }
}

pub(super) fn settings() -> Settings {
    Settings::of(&config(), "s").unwrap()
}

pub(super) fn instance(address: &str) -> Instance {
    Instance::new("alpha".into(), Role::Primary, Address::parse(address).unwrap())
}

pub(super) fn service(instances: &[Instance]) -> KeptService {
    KeptService {
        source: "consul".into(),
        taken: Wall(1_000),
        expires: Wall(1_030),
        instances: instances.into(),
    }
}

pub(super) fn kept(services: &[(&str, KeptService)]) -> Kept {
    Kept {
        written: Wall(1_000),
        local: Some("alpha".into()),
        services: services.iter().map(|(name, s)| ((*name).into(), s.clone())).collect(),
    }
}

fn decode(bytes: &[u8]) -> Result<Restored, BadSnapshot> {
    Kept::decode(bytes, Wall(1_000), Some("alpha"), &settings())
}

/// A file with this body and the right checksum.
fn sealed(body: &str) -> Vec<u8> {
    let rest = body.strip_prefix('{').unwrap();
    let digest = hash::of(rest.as_bytes());
    format!("{{\"checksum\":\"{digest:016x}\",{rest}").into_bytes()
}

/// The bytes are part of the format: a change of them is a change of [`FORMAT`].
#[test]
fn the_format_is_frozen() {
    let mut one = instance("http://10.0.0.1:80");
    one.metadata = [("zone".into(), "a".into())].into();
    let bytes = kept(&[("billing", service(&[one]))]).encode(&settings()).unwrap();
    assert_eq!(
        std::str::from_utf8(&bytes).unwrap(),
        "{\"checksum\":\"d8dd4fb62f567b87\",\"format\":1,\"written\":1000,\"local\":\"alpha\",\
         \"services\":{\"billing\":{\"source\":\"consul\",\"taken\":1000,\"expires\":1030,\
         \"instances\":[{\"id\":\"http://10.0.0.1:80\",\"cluster\":\"alpha\",\"role\":\"primary\",\
         \"address\":\"http://10.0.0.1:80\",\"health\":null,\"condition\":\"unknown\",\
         \"weight\":1,\"tags\":[],\"metadata\":{\"zone\":\"a\"}}]}}}"
    );
}

#[test]
fn age_future_and_cluster_decide_whether_it_is_used() {
    let bytes = kept(&[("s", service(&[instance("http://a")]))]).encode(&settings()).unwrap();
    let at = |now: u64, local| Kept::decode(&bytes, Wall(now), local, &settings());
    let secs = Duration::from_secs;
    let day = 24 * 3_600;
    assert!(at(1_000 + day, Some("alpha")).is_ok());
    let old = BadSnapshot::TooOld { age: secs(day + 1), most: secs(day) };
    assert_eq!(at(1_001 + day, Some("alpha")), Err(old));
    assert!(at(700, Some("alpha")).is_ok());
    let early = BadSnapshot::FromTheFuture { ahead: secs(301), most: secs(300) };
    assert_eq!(at(699, Some("alpha")), Err(early));
    assert_eq!(at(1_000, Some("beta")), Err(BadSnapshot::OtherCluster));
    assert_eq!(at(1_000, None), Err(BadSnapshot::OtherCluster));
    assert!(at(u64::MAX, Some("alpha")).is_err() && at(0, Some("alpha")).is_err());
    for bad in [old, early] {
        assert!(bad.to_string().contains(" more than ") || bad.to_string().contains("1d"), "{bad}");
    }
}

#[test]
fn what_is_old_or_odd_in_it_is_left_out_alone() {
    let body = r#"{"format":1,"written":100000,"later":[7],"services":{
        "good":{"source":"dns","taken":99999,"expires":18446744073709551615,"instances":[
            {"id":"a","cluster":"c","address":"http://a","weight":1,"tags":null,"metadata":null,"new":1},
            {"id":"b","cluster":"c","address":"http://b:0","weight":1},
            {"id":"c","cluster":"c","address":"http://secret:pw@b","weight":1},
            {"id":"d","cluster":"c","address":"db:5432","weight":4000000000},
            {"id":"e","cluster":"c","address":"db:5432","weight":0,"health":"//up","role":"primary"}]},
        "null":{"source":"dns","taken":99999,"expires":0,"instances":null},
        "old":{"source":"dns","taken":100,"expires":130,"instances":[]},
        "late":{"source":"dns","taken":100001,"expires":130,"instances":[]},
        "a b":{"source":"dns","taken":99999,"expires":130,"instances":[]},
        "token":{"source":"http://u:p@consul","taken":99999,"expires":130,"instances":[]}}}"#;
    let restored = Kept::decode(&sealed(body), Wall(100_000), None, &settings()).unwrap();
    let names: Vec<&str> = restored.kept.services.keys().map(|name| &**name).collect();
    assert_eq!(names, ["good", "null"]);
    let good = &restored.kept.services["good"];
    let got: Vec<&str> = good.instances.iter().map(|i| &*i.id).collect();
    assert_eq!(got, ["a", "e"]);
    assert_eq!(good.instances[1].health.as_deref(), Some("//up"));
    assert_eq!(
        restored.left_out,
        [
            LeftOut::Name,
            LeftOut::Instance(Unsound::Address),
            LeftOut::Instance(Unsound::Address),
            LeftOut::Instance(Unsound::Weight(4_000_000_000)),
            LeftOut::Future,
            LeftOut::Old { age: Duration::from_secs(99_900) },
            LeftOut::Name,
        ]
    );
    assert_eq!(restored.left_out_count, 7);
    assert!(!format!("{restored:?}").contains("secret"));
}

#[test]
fn x_11_each_kind_of_wrong_file_has_its_reason() {
    let shape = |body: &str| match decode(&sealed(body)) {
        Err(BadSnapshot::WrongShape { line, column }) => (line, column),
        other => panic!("{body}: {other:?}"),
    };
    assert_eq!(decode(b""), Err(BadSnapshot::NotASnapshot));
    assert_eq!(decode(b"<html>"), Err(BadSnapshot::NotASnapshot));
    assert_eq!(decode(br#"{"format":1}"#), Err(BadSnapshot::NotASnapshot));
    assert_eq!(decode(br#"{"checksum":""#), Err(BadSnapshot::Damaged { bytes: 13 }));
    assert_eq!(
        decode(br#"{"checksum":"0123456789abcdef"}"#),
        Err(BadSnapshot::Damaged { bytes: 31 })
    );
    assert_eq!(decode(&sealed(r#"{"format":2,"x":[]}"#)), Err(BadSnapshot::Format { found: 2 }));
    let later = sealed(r#"{"format":2,"written":1000,"services":{}}"#);
    assert_eq!(decode(&later), Err(BadSnapshot::Format { found: 2 }));
    for wrong in [
        "{}",
        r#"{"format":1}"#,
        r#"{"format":"1","written":1000}"#,
        r#"{"format":1,"written":-1}"#,
        r#"{"format":1,"written":1e99}"#,
        r#"{"format":1,"written":1000,"services":[]}"#,
        r#"{"format":1,"written":1000,"services":{"s":{"source":"x","taken":1}}}"#,
        r#"{"format":1,"written":1000,"services":{"s":{"source":"x","taken":1,"expires":1,"instances":[7]}}}"#,
        r#"{"format":1,"written":1000"#,
        "{\"format\":1,\"written\":1000}}",
    ] {
        assert_eq!(shape(wrong).0, 1);
    }
    let deep = format!("{{\"format\":{}", "[".repeat(100_000));
    assert_eq!(shape(&deep).0, 1);
    let small = Settings::of(&SnapshotConfig { max_bytes: 1024, ..config() }, "s").unwrap();
    let large = Kept::decode(&[b'{'; 1025], Wall(0), None, &small);
    assert_eq!(large, Err(BadSnapshot::TooLarge { bytes: 1025, most: 1024 }));
    let many: Vec<Instance> = (0..20).map(|n| instance(&format!("http://h{n}"))).collect();
    let full = kept(&[("s", service(&many))]).encode(&small);
    assert!(matches!(full, Err(BadSnapshot::TooLarge { most: 1024, .. })), "{full:?}");
}

#[test]
fn counts_are_bounded_on_both_ways() {
    let services = |n: usize| -> Kept {
        let mut all = kept(&[]);
        all.services = (0..n).map(|n| (format!("s{n}").into(), service(&[]))).collect();
        all
    };
    assert_eq!(services(10_001).encode(&settings()), Err(BadSnapshot::TooManyServices(10_001)));
    let bytes = services(10_000).encode(&settings()).unwrap();
    assert_eq!(decode(&bytes).unwrap().kept.services.len(), 10_000);
    let one = r#""s0":{"source":"x","taken":1,"expires":1}"#;
    let many: Vec<String> = (0..10_001).map(|n| one.replace("s0", &format!("s{n}"))).collect();
    let body = format!(
        r#"{{"format":1,"written":1000,"local":"alpha","services":{{{}}}}}"#,
        many.join(",")
    );
    assert_eq!(decode(&sealed(&body)), Err(BadSnapshot::TooManyServices(10_001)));
    let full = kept(&[("s", service(&vec![instance("http://a"); 100_001]))]);
    assert_eq!(full.encode(&settings()), Err(BadSnapshot::TooManyInstances(100_001)));
}

/// There is no way to write a credential: what could hold one is left out.
#[test]
fn a_snapshot_holds_no_credentials() {
    let mut named = service(&[instance("http://a")]);
    named.source = "http://user:hunter2@consul".into();
    let mut tagged = instance("http://b");
    tagged.id = "".into(); // unsound: left out, not written as it is
    let all = kept(&[("s", named), ("hunter2 ", service(&[])), ("t", service(&[tagged]))]);
    let bytes = all.encode(&settings()).unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    assert!(!text.contains("hunter2") && text.contains("\"t\""), "{text}");
    assert_eq!(decode(&bytes).unwrap().left_out_count, 0);
    assert!(Address::parse("http://user:hunter2@a").is_err());
}

#[test]
fn what_was_not_asked_for_yet_is_carried_on() {
    let at = |address: &str, taken: u64| KeptService {
        taken: Wall(taken),
        ..service(&[instance(address)])
    };
    let mut now = kept(&[("a", at("http://new", 200_000))]);
    let older = kept(&[
        ("a", at("http://old", 1)),
        ("b", at("http://b", 150_000)),
        ("c", at("http://c", 1_000)),
    ]);
    now.carry(&older, Wall(200_000), &settings());
    let names: Vec<&str> = now.services.keys().map(|name| &**name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(now.services["a"].instances[0].address.as_str(), "http://new");
    assert_eq!(now.services["b"].taken, Wall(150_000));
    let elsewhere = Kept { local: None, ..older };
    let before = now.clone();
    now.carry(&elsewhere, Wall(150_000), &settings());
    assert_eq!(now, before);
}

#[test]
fn x_09_bad_settings_name_the_field() {
    assert_eq!(Settings::of(&SnapshotConfig::default(), "s"), Ok(Settings::default()));
    let field = |change: &dyn Fn(&mut SnapshotConfig)| {
        let mut config = config();
        change(&mut config);
        Settings::of(&config, "s").map_or_else(|e| e.field, |_| "fine".to_owned())
    };
    let secs = Duration::from_secs;
    for (span, every) in [
        (secs(0), "s.every"),
        (secs(1), "fine"),
        (secs(3_601), "s.every"),
        (Duration::MAX, "s.every"),
    ] {
        assert_eq!(field(&|c| c.every = span), every, "{span:?}");
    }
    for (span, refresh) in [
        (secs(0), "s.refresh"),
        (secs(9), "s.every"),
        (secs(43_200), "fine"),
        (secs(43_201), "s.refresh"),
        (Duration::MAX, "s.refresh"),
    ] {
        assert_eq!(field(&|c| c.refresh = span), refresh, "{span:?}");
    }
    for span in [secs(0), secs(59), Duration::MAX] {
        assert_eq!(field(&|c| c.max_age = span), "s.max_age");
    }
    assert_eq!(field(&|c| c.skew = Duration::ZERO), "fine");
    assert_eq!(field(&|c| c.skew = Duration::MAX), "s.skew");
    for bytes in [0, 1_023, usize::MAX] {
        assert_eq!(field(&|c| c.max_bytes = bytes), "s.max_bytes");
    }
    assert_eq!(field(&|c| c.path = Some(String::new())), "s.path");
}

fn any_instance() -> impl Strategy<Value = Instance> {
    let address = prop_oneof![
        "http://[a-z]{1,5}(:[1-9][0-9]{0,3})?(/[a-z]{0,3})?",
        "https://\\[::[1-9]\\]:[1-9]",
        "[a-z]{1,5}:[0-9]{0,6}",
    ];
    let text = || "[ -~é\n]{0,6}";
    (
        (text(), text(), any::<bool>(), address, 0_u32..2_000_000),
        proptest::option::of("/{0,2}[a-z]{0,3}"),
        proptest::collection::vec(text(), 0..3),
        proptest::collection::btree_map(text(), text(), 0..3),
    )
        .prop_map(|((id, cluster, primary, address, weight), health, tags, metadata)| {
            let role = if primary { Role::Primary } else { Role::Backup };
            let pair = |(key, value): (String, String)| (key.into(), value.into());
            Instance {
                id: id.into(),
                weight,
                health: health.map(Into::into),
                condition: if primary { Condition::Warning } else { Condition::Passing },
                tags: tags.into_iter().map(Into::into).collect(),
                metadata: metadata.into_iter().map(pair).collect(),
                ..Instance::new(cluster.into(), role, Address::parse(&address).unwrap())
            }
        })
}

fn any_kept() -> impl Strategy<Value = Kept> {
    let service = (
        "[a-z@]{0,6}",
        0_u64..2_000,
        any::<u64>(),
        proptest::collection::vec(any_instance(), 0..4),
    );
    let services = proptest::collection::btree_map("[a-z .é-]{0,6}", service, 0..5);
    (services, any::<bool>()).prop_map(|(services, local)| Kept {
        written: Wall(1_000),
        local: local.then(|| "alpha".into()),
        services: (services.into_iter())
            .map(|(name, (source, taken, expires, instances))| {
                let (taken, expires) = (Wall(taken), Wall(expires));
                let instances = instances.into();
                (name.into(), KeptService { source: source.into(), taken, expires, instances })
            })
            .collect(),
    })
}

proptest! {
    /// What comes back is what was put in, less what the rules leave out; and it is a fixed point.
    #[test]
    fn what_is_written_is_read_back(all in any_kept()) {
        let bytes = all.encode(&settings()).unwrap();
        let restored = Kept::decode(&bytes, Wall(1_000), all.local.as_deref(), &settings()).unwrap();
        let mut want = all.clone();
        want.services.retain(|name, s| {
            let name_fine = !name.is_empty() && !name.starts_with('.')
                && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
            name_fine && !s.source.contains('@') && s.taken <= Wall(1_000)
        });
        for service in want.services.values_mut() {
            service.instances = service.instances.iter().filter(|i| sound::check(i).is_ok()).cloned().collect();
        }
        prop_assert_eq!(&restored.kept, &want);
        let again = restored.kept.encode(&settings()).unwrap();
        let twice = Kept::decode(&again, Wall(1_000), all.local.as_deref(), &settings()).unwrap();
        prop_assert_eq!((twice.kept, twice.left_out_count), (want, 0));
    }

    /// One changed byte, or any cut, is noticed before anything is believed.
    #[test]
    fn damage_is_noticed(all in any_kept(), at: prop::sample::Index, bit in 0..8_u8, cut: prop::sample::Index) {
        let bytes = all.encode(&settings()).unwrap();
        let mut flipped = bytes.to_vec();
        flipped[at.index(bytes.len())] ^= 1 << bit;
        let local = all.local.as_deref();
        for wrong in [&flipped[..], &bytes[..cut.index(bytes.len())]] {
            let got = Kept::decode(wrong, Wall(1_000), local, &settings());
            prop_assert!(matches!(got, Err(BadSnapshot::Damaged { .. } | BadSnapshot::NotASnapshot)), "{:?}", got);
        }
    }

    /// A checksum is no proof of good will.
    #[test]
    fn any_sealed_bytes_are_survived(body in "\\{(\"format\":1|\"written\":[0-9]{1,4}|\"services\":|[{}\\[\\],:\"a-z0-9]){0,20}") {
        let _ = decode(&sealed(&body));
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), now: u64) {
        let _ = Kept::decode(&bytes, Wall(now), None, &settings());
    }
}
