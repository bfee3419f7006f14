use std::time::Duration;

use super::*;
use crate::config::{GatewayMode, WatchConfig};

fn settings() -> Settings {
    Settings::of(&WatchConfig::default(), "watch").unwrap()
}

fn proxy(request: u64) -> Entry {
    Entry::Proxy {
        local_connect: Some(Duration::from_secs(1)),
        local_request: Some(Duration::from_secs(request)),
        local_idle: Some(Duration::from_secs(3_600)),
        gateway: GatewayMode::Off,
    }
}

#[test]
fn case_003_36_37_three_lists_become_one_suggestion_a_service() {
    let (set, mut rng) = (settings(), Pcg32::new(1, 1));
    let mut defaults = Defaults::new(&set);
    assert_eq!(defaults.suggestion("web"), Suggestion::default());
    let now = Time::from_millis(1_000);
    let mut asked = Vec::new();
    while let Poll::Run(one) = defaults.poll(now, &set, &mut rng) {
        asked.push(*one);
    }
    assert_eq!(asked.iter().map(|a| a.kind).collect::<Vec<_>>(), Kind::ALL);
    let service = |name: &str, protocol: &str| Entry::Service {
        name: name.into(),
        protocol: Some(protocol.into()),
        gateway: GatewayMode::Local,
    };
    let resolver = Entry::Resolver { name: "web".into(), connect: Some(Duration::from_secs(5)) };
    let lists =
        [vec![service("api", "grpc"), service("web", "http")], vec![resolver], vec![proxy(10)]];
    for (asked, entries) in asked.iter().zip(lists) {
        let answer = Answer::Entries(Some(3), entries);
        assert_eq!(defaults.done(now, asked, answer, &set, &mut rng), Ok(true));
    }
    let web = defaults.suggestion("web");
    // The shorter one: 5 s by the resolver, 1 s by the proxies.
    assert_eq!(web.connect, Some(Duration::from_secs(1)));
    assert_eq!(web.attempt, Some(Duration::from_secs(10)));
    assert_eq!(web.protocol.as_deref(), Some("http"));
    assert_eq!(defaults.suggestion("api").protocol.as_deref(), Some("grpc"));
    assert_eq!(defaults.suggestion("third").protocol, None);
}

#[test]
fn a_consul_that_fails_changes_nothing_and_is_told_once() {
    let (set, mut rng) = (settings(), Pcg32::new(1, 1));
    let mut defaults = Defaults::new(&set);
    let mut seconds = 1;
    let mut ask = |defaults: &mut Defaults, rng: &mut Pcg32| loop {
        seconds += 200;
        let now = Time::from_millis(seconds * 1_000);
        while let Poll::Run(one) = defaults.poll(now, &set, rng) {
            if one.kind == Kind::ProxyDefaults {
                return (now, *one);
            }
        }
    };
    let (now, asked) = ask(&mut defaults, &mut rng);
    let same = Answer::Entries(Some(3), vec![proxy(10)]);
    assert_eq!(defaults.done(now, &asked, same.clone(), &set, &mut rng), Ok(true));
    let before = defaults.suggestion("web");
    let failed = || Answer::Failed(Trouble::Status(500), "no leader".into());
    let (now, asked) = ask(&mut defaults, &mut rng);
    let told = defaults.done(now, &asked, failed(), &set, &mut rng);
    assert_eq!(&*told.unwrap_err().reason, "no leader");
    let (now, asked) = ask(&mut defaults, &mut rng);
    assert_eq!(defaults.done(now, &asked, failed(), &set, &mut rng), Ok(false));
    let (now, asked) = ask(&mut defaults, &mut rng);
    assert!(defaults.done(now, &asked, Answer::Silence, &set, &mut rng).is_ok());
    assert_eq!(defaults.suggestion("web"), before);
    let (now, asked) = ask(&mut defaults, &mut rng);
    assert_eq!(defaults.done(now, &asked, same, &set, &mut rng), Ok(false), "no change");
    let (now, asked) = ask(&mut defaults, &mut rng);
    let none = Answer::Entries(Some(9), Vec::new());
    assert_eq!(defaults.done(now, &asked, none, &set, &mut rng), Ok(true));
    assert_eq!(defaults.suggestion("web"), Suggestion::default());
}
