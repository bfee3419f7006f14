use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::ConsulConfig;
use crate::consul::Tokens;

/// The reply of a Consul 1.8.7: web1 in warning on the address of its node, web2 in maintenance
/// on IPv6, web3 over gRPC, web4 without a port.
const WEB: &[u8] = include_bytes!("../../../tests/corpus/consul_health/web.json");
const PASSING: &[u8] = include_bytes!("../../../tests/corpus/consul_health/web_passing.json");
const ODD: &[u8] = include_bytes!("../../../tests/corpus/consul_health/odd.json");

fn settings(change: impl FnOnce(&mut ConsulConfig)) -> Settings {
    let mut config = ConsulConfig { passing_only: false, ..ConsulConfig::at("http://agent:8500") };
    change(&mut config);
    Settings::of(&config, "consul").unwrap()
}

fn read(body: &[u8]) -> Answer {
    parse(&settings(|_| {}), 200, body).unwrap()
}

#[test]
fn a_real_reply() {
    let Answer { instances, left_out } = read(WEB);
    assert_eq!(left_out, 1, "web4 has no port");
    let got: Vec<_> =
        instances.iter().map(|i| (&*i.id, i.address.as_str(), i.condition, i.weight)).collect();
    assert_eq!(
        got,
        [
            ("web1", "https://127.0.0.1:8080", Condition::Warning, 2),
            ("web2", "http://[::1]:8081", Condition::Critical, 1),
            ("web3", "http://10.0.0.9:8082", Condition::Passing, 1),
        ]
    );
    assert!(instances.iter().all(|i| &*i.cluster == "dc1" && i.role == Role::Primary));
    assert_eq!(instances[0].tags.iter().map(|t| &**t).collect::<Vec<_>>(), ["v1", "production"]);
    assert_eq!(&*instances[0].metadata["version"], "1.0.0");
    assert_eq!(instances[2].health.as_deref(), Some("/ready"));
}

#[test]
fn case_003_22_004_26_only_passing_ones() {
    let only = settings(|c| c.passing_only = true);
    let got = |body| parse(&only, 200, body).unwrap().instances;
    assert_eq!(got(WEB).iter().map(|i| &*i.id).collect::<Vec<_>>(), ["web3"]);
    assert_eq!(got(WEB), got(PASSING));
}

#[test]
fn case_003_19_what_is_asked() {
    let name = ServiceName::new("web").unwrap();
    let tokens = Tokens::default();
    let ask = |settings: &Settings, lookup: &Lookup<'_>| {
        request(&Api::new(settings, &tokens), lookup).map(|r| r.uri().to_string())
    };
    let plain = settings(|_| {});
    assert_eq!(ask(&plain, &Lookup::of(&name)).unwrap(), "http://agent:8500/v1/health/service/web");
    let cursor = Some(Cursor { index: 34, wait: Duration::from_secs(30) });
    let lookup = Lookup { datacenter: Some("dc2"), tag: Some("v1"), cursor, ..Lookup::of(&name) };
    let full = settings(|c| {
        c.passing_only = true;
        c.tags = vec!["a b".into()];
        c.filter = Some("Service.Meta.v == \"1\"".into());
        c.near = Some("_agent".into());
        c.consistency = crate::config::Consistency::Stale;
    });
    assert_eq!(
        ask(&full, &lookup).unwrap(),
        "http://agent:8500/v1/health/service/web?passing=true&tag=a%20b&tag=v1\
         &filter=Service.Meta.v%20%3D%3D%20%221%22&near=_agent&dc=dc2&stale=true&index=34&wait=30s"
    );
    let connect = Lookup { connect: true, ..Lookup::of(&name) };
    assert!(ask(&plain, &connect).unwrap().ends_with("/v1/health/connect/web"));
    for bad in [Lookup { datacenter: Some("../x"), ..lookup }, Lookup { tag: Some(""), ..lookup }] {
        assert!(matches!(ask(&plain, &bad), Err(ConsulError::Field { .. })));
    }
}

#[test]
fn traps_and_odd_replies() {
    let odd = read(ODD);
    // Port -1, a node address with a space, and no address at all.
    assert_eq!((odd.instances.len(), odd.left_out), (0, 3));
    assert_eq!(read(b"[]"), Answer::default());
    assert_eq!(read(b"null"), Answer::default());
    let one = |node: &str, service: &str, checks: &str| {
        let body = format!(
            "[{{\"Node\":{{{node}}},\"Service\":{{{service}}},\"Checks\":[{checks}],\"x\":[1]}}]"
        );
        read(body.as_bytes()).instances.pop()
    };
    let node = "\"Node\":\"n1\",\"Address\":\"10.0.0.1\",\"Datacenter\":\"dc1\"";
    let plain = one(node, "\"ID\":\"a\",\"Port\":80", "").unwrap();
    assert_eq!((plain.condition, plain.weight), (Condition::Passing, 1), "no checks pass");
    let status =
        |word: &str| format!("{{\"CheckID\":\"c\",\"Status\":\"{word}\",\"Output\":\"\"}}");
    for (words, expected) in [
        (&["passing"][..], Condition::Passing),
        (&["passing", "warning"], Condition::Warning),
        (&["critical", "passing"], Condition::Critical),
        (&["maintenance", "warning"], Condition::Critical),
        (&["unheard-of"], Condition::Warning),
    ] {
        let checks: Vec<String> = words.iter().map(|w| status(w)).collect();
        assert_eq!(
            one(node, "\"Port\":80", &checks.join(",")).unwrap().condition,
            expected,
            "{words:?}"
        );
    }
    let heavy = "\"Port\":80,\"Weights\":{\"Passing\":99999999999,\"Warning\":-4}";
    assert_eq!(one(node, heavy, "").unwrap().weight, 1_000_000);
    assert_eq!(one(node, heavy, &status("warning")).unwrap().weight, 0);
    let protocol = |p: &str| {
        one(node, &format!("\"Port\":80,\"Meta\":{{\"protocol\":\"{p}\",\"health\":\"x\"}}"), "")
    };
    let tcp = protocol("tcp").unwrap();
    assert!(tcp.address.as_str() == "tcp://10.0.0.1:80" && !tcp.address.is_http());
    assert!(tcp.health.is_none(), "a path begins with a slash");
    assert!(protocol("HTTPS").unwrap().address.as_str().starts_with("https://"));
    assert!(protocol("a b").is_none());
    for host in ["user@10.0.0.1", "a/b", "fe80::1%eth0", "a?x", ""] {
        assert!(one("", &format!("\"Address\":\"{host}\",\"Port\":80"), "").is_none(), "{host}");
    }
}

#[test]
fn ids_of_several_nodes_are_told_apart() {
    let entry = |node: &str, id: &str| {
        format!(
            "{{\"Node\":{{\"Node\":\"{node}\",\"Address\":\"10.0.0.1\"}},\"Service\":{{\"ID\":\"{id}\",\"Port\":80}}}}"
        )
    };
    let body = format!("[{},{},{}]", entry("n1", "web"), entry("n2", "web"), entry("n2", "other"));
    let ids: Vec<String> =
        read(body.as_bytes()).instances.iter().map(|i| i.id.to_string()).collect();
    assert_eq!(ids, ["n1/web", "n2/web", "other"]);
}

#[test]
fn fallback_datacenters_are_backups() {
    let settings = settings(|c| c.fallback_datacenters = vec!["dc1".into()]);
    let got = parse(&settings, 200, WEB).unwrap().instances;
    assert!(got.iter().all(|i| i.role == Role::Backup));
}

#[test]
fn refusals_are_typed() {
    let settings = settings(|c| c.max_bytes = 1 << 20);
    let read = |status, body: &[u8]| parse(&settings, status, body).unwrap_err();
    assert!(read(403, b"Permission denied").is_permission());
    assert_eq!(read(500, b"No cluster leader"), ConsulError::NoLeader);
    for wrong in [
        &b"{}"[..],
        b"[1]",
        b"[{}]",
        b"[{\"Node\":{\"Address\":7},\"Service\":{}}]",
        b"<html>",
        b"",
        b"[{",
    ] {
        assert!(matches!(read(200, wrong), ConsulError::Unreadable { .. }), "{wrong:?}");
    }
    let deep = format!(
        "[{{\"Node\":{{\"x\":{}{}}},\"Service\":{{}}}}]",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    // Ignored fields are skipped without recursion, or refused; the stack is not used up.
    let _ = parse(&settings, 200, deep.as_bytes());
    assert!(matches!(read(200, &vec![b' '; (1 << 20) + 1]), ConsulError::TooLarge { .. }));
}

#[test]
fn the_digest_sees_content_and_not_order() {
    let mut list = read(WEB).instances;
    let before = digest(&list);
    list.reverse();
    assert_eq!(digest(&list), before);
    for change in [
        |i: &mut Instance| i.condition = Condition::Unknown,
        |i: &mut Instance| i.weight += 1,
        |i: &mut Instance| i.tags.push("x".into()),
        |i: &mut Instance| drop(i.metadata.insert("k".into(), "v".into())),
        |i: &mut Instance| i.id = "other".into(),
        |i: &mut Instance| i.health = Some("/other".into()),
    ] {
        let mut other = list.clone();
        change(&mut other[0]);
        assert_ne!(digest(&other), before);
    }
    assert_ne!(digest(&list[1..]), before);
    assert_ne!(digest(&[]), digest(&list[..1]));
    let twice: Vec<_> = list.iter().chain(&list).cloned().collect();
    assert_ne!(digest(&twice), before);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&Settings::default(), 200, &bytes);
    }

    /// Real replies with bytes overwritten, doubled or cut: an answer or a typed error, and every
    /// instance of an answer can be called or is kept as it is.
    #[test]
    fn mutated_replies_are_survived(
        edits in proptest::collection::vec((0_usize..10_000, any::<u8>()), 0..6), cut in 0_usize..10_000, whole: bool,
    ) {
        let mut body = WEB.to_vec();
        for (at, byte) in edits {
            let at = at % body.len();
            body[at] = byte;
        }
        if !whole {
            body.truncate(cut % body.len());
        }
        if let Ok(answer) = parse(&settings(|_| {}), 200, &body) {
            for instance in answer.instances {
                prop_assert!(!instance.id.is_empty());
                prop_assert_eq!(Address::parse(instance.address.as_str()), Ok(instance.address));
            }
        }
    }
}
