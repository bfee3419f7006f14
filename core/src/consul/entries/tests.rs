use proptest::prelude::*;

use super::*;
use crate::consul::Tokens;

const SERVICE: &[u8] = include_bytes!("../../../tests/corpus/consul_entries/service_defaults.json");
const RESOLVER: &[u8] =
    include_bytes!("../../../tests/corpus/consul_entries/service_resolver.json");
const PROXY: &[u8] = include_bytes!("../../../tests/corpus/consul_entries/proxy_defaults.json");
const LIST: &[u8] = include_bytes!("../../../tests/corpus/consul_entries/list.json");

fn web() -> ServiceName {
    ServiceName::new("web").unwrap()
}

#[test]
fn case_003_36_37_what_consul_keeps_is_what_was_written() {
    let s = Settings::default();
    let [service, resolver] = Entry::standard_service(&web());
    assert_eq!(parse(&s, 200, SERVICE).unwrap(), Some(service.clone()));
    assert_eq!(parse(&s, 200, RESOLVER).unwrap(), Some(resolver));
    assert_eq!(parse_list(&s, 200, LIST).unwrap(), [service]);
    let Some(Entry::Proxy { local_connect, local_request, local_idle, gateway }) =
        parse(&s, 200, PROXY).unwrap()
    else {
        panic!()
    };
    let secs = |n| Some(Duration::from_secs(n));
    assert_eq!((local_connect, local_request, local_idle), (secs(1), secs(10), secs(3_600)));
    assert_eq!(gateway, GatewayMode::Local);
    assert_eq!(parse(&s, 404, b"").unwrap(), None);
    assert_eq!(parse(&s, 200, br#"{"Kind":"unheard-of","Name":"x"}"#).unwrap(), None);
    let odd = br#"{"Kind":"proxy-defaults","Config":{"local_connect_timeout_ms":"1000","local_request_timeout_ms":-1,"local_idle_timeout_ms":0}}"#;
    let odd = parse(&s, 200, odd).unwrap().unwrap();
    assert!(
        matches!(odd, Entry::Proxy { local_connect: Some(c), local_request: None, local_idle: None, .. } if c.as_secs() == 1)
    );
}

#[test]
fn case_003_35_to_37_what_is_written() {
    let [service, resolver] = Entry::standard_service(&web());
    assert_eq!(
        service.body(),
        json!({"Kind": "service-defaults", "Name": "web", "Protocol": "http", "MeshGateway": {"Mode": "local"}})
    );
    assert_eq!(
        resolver.body(),
        json!({"Kind": "service-resolver", "Name": "web", "ConnectTimeout": "5s"})
    );
    let config = json!({"local_connect_timeout_ms": 1000, "local_request_timeout_ms": 10000, "local_idle_timeout_ms": 3_600_000});
    assert_eq!(
        Entry::standard_proxy().body(),
        json!({"Kind": "proxy-defaults", "Name": "global", "Config": config})
    );
    let mesh = |connect, gateway| MeshConfig { connect, gateway, ..MeshConfig::default() };
    assert!(Entry::wanted(&web(), &mesh(ConnectMode::Off, GatewayMode::Off)).is_empty());
    let local = Entry::wanted(&web(), &mesh(ConnectMode::Native, GatewayMode::Local));
    assert_eq!(local, Entry::standard_service(&web()));
    let plain = Entry::wanted(&web(), &mesh(ConnectMode::Sidecar, GatewayMode::Off));
    assert!(plain[0].body().get("MeshGateway").is_none());
}

#[test]
fn case_003_37_applied_to_the_client() {
    let mut entries = Entry::standard_service(&web()).to_vec();
    entries.push(Entry::standard_proxy());
    let suggestion = Suggestion::of(&entries);
    assert_eq!(suggestion.protocol.as_deref(), Some("http"));
    let (mut deadline, mut limits) = (DeadlineConfig::default(), Limits::default());
    suggestion.apply(&mut deadline, &mut limits);
    let secs = Duration::from_secs;
    assert_eq!((deadline.connect, deadline.attempt), (Some(secs(1)), Some(secs(10))));
    assert_eq!((deadline.total, limits.idle_timeout), (secs(30), secs(3_600)));
    // Only the service's: its 5 s.
    let mut other = DeadlineConfig::default();
    Suggestion::of(&entries[..2]).apply(&mut other, &mut Limits::default());
    assert_eq!((other.connect, other.attempt), (Some(secs(5)), None));
    // What is configured stays, and a short call bounds the rest.
    let mut short =
        DeadlineConfig { total: secs(2), connect: Some(secs(2)), ..DeadlineConfig::default() };
    suggestion.apply(&mut short, &mut limits);
    assert_eq!((short.connect, short.attempt), (Some(secs(2)), Some(secs(2))));
}

#[test]
fn requests() {
    let (s, t) = (Settings::default(), Tokens::default());
    let api = Api::new(&s, &t);
    let line = |r: Result<Request<Bytes>, ConsulError>| {
        let r = r.unwrap();
        format!("{} {}", r.method(), r.uri().path_and_query().unwrap())
    };
    assert_eq!(line(put(&api, &Entry::standard_proxy(), Some(7))), "PUT /v1/config?cas=7");
    assert_eq!(line(service(&api, &web(), None)), "GET /v1/config/service-defaults/web");
    assert_eq!(line(resolver(&api, &web(), None)), "GET /v1/config/service-resolver/web");
    assert_eq!(line(proxy(&api, None)), "GET /v1/config/proxy-defaults/global");
    assert_eq!(
        line(delete(&api, &Entry::standard_proxy())),
        "DELETE /v1/config/proxy-defaults/global"
    );
    let named = |name: &str, protocol: &str| Entry::Service {
        name: name.into(),
        protocol: Some(protocol.into()),
        gateway: GatewayMode::Off,
    };
    assert!(
        put(&api, &named("../x", "http"), None).is_err()
            && put(&api, &named("x", "ftp"), None).is_err()
    );
    assert!(
        put(&api, &Entry::Resolver { name: "x".into(), connect: Some(Duration::ZERO) }, None)
            .is_err()
    );
    assert_eq!(parse_put(200, b"false\n"), Ok(false));
}

#[test]
fn case_003_36_37_defaults_fill_what_a_configuration_leaves_open() {
    use crate::config::{Config, Policy, ServiceConfig};
    let span = Duration::from_millis;
    let all = Suggestion::of(&[Entry::standard_proxy()]);
    let mut config = Config::default();
    let one = |config: &Config| all.rules(config, "web").unwrap().0;
    assert_eq!(one(&config).attempt, Duration::from_secs(10));
    let slow = Entry::Proxy {
        local_connect: Some(span(300)),
        local_request: Some(span(700)),
        local_idle: Some(span(5_000)),
        gateway: GatewayMode::Off,
    };
    let slow = Suggestion::of(&[slow]);
    assert_eq!(slow.rules(&config, "web").unwrap().0.attempt, span(700));
    assert_eq!(slow.client(&config), Ok((span(300), span(5_000))));
    assert_eq!(Suggestion::default().client(&config), Ok((span(1_000), span(60_000))));
    // Profiles, too, and a policy of its own; what is set there wins.
    config.profiles.insert("fast".to_owned(), Policy::default());
    let mut own = ServiceConfig { policy: Some(Policy::default()), ..ServiceConfig::default() };
    own.policy.as_mut().unwrap().deadline.attempt = Some(span(2_000));
    config.services.insert("own".to_owned(), own);
    let (rules, profiles) = slow.rules(&config, "own").unwrap();
    assert_eq!((rules.attempt, profiles[0].1.attempt), (span(2_000), span(700)));
    config.policy.deadline.connect = Some(span(400));
    config.limits.idle_timeout = span(9_000);
    assert_eq!(slow.client(&config), Ok((span(400), span(9_000))));
}

proptest! {
    /// What is written is read back the same, and what is suggested never contradicts itself.
    #[test]
    fn round_trip(connect in 1_u64..100_000, request in proptest::option::of(1_u64..100_000), total in 1_u64..100_000) {
        let span = Duration::from_millis;
        let entries = [
            Entry::Resolver { name: "web".into(), connect: Some(span(connect)) },
            Entry::Proxy { local_connect: None, local_request: request.map(span), local_idle: None, gateway: GatewayMode::Remote },
        ];
        for entry in &entries {
            let body = serde_json::to_vec(&entry.body()).unwrap();
            let read = parse(&Settings::default(), 200, &body).unwrap();
            prop_assert_eq!(read.as_ref(), Some(entry));
        }
        let mut deadline = DeadlineConfig { total: span(total), ..DeadlineConfig::default() };
        Suggestion::of(&entries).apply(&mut deadline, &mut Limits::default());
        let attempt = deadline.attempt.unwrap_or(deadline.total);
        prop_assert!(attempt <= deadline.total && deadline.connect.unwrap() <= attempt);
    }

    #[test]
    fn mutated_replies_are_survived(at in 0_usize..1_000, byte: u8) {
        for reply in [SERVICE, RESOLVER, PROXY, LIST] {
            let mut body = reply.to_vec();
            let at = at % body.len();
            body[at] = byte;
            let _ = (parse(&Settings::default(), 200, &body), parse_list(&Settings::default(), 200, &body));
        }
    }
}
