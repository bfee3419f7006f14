//! Configuration: what is refused, and which names a service has.

use super::*;
use crate::config::{ConfigError, DnsRecords};

fn refused(change: impl FnOnce(&mut DnsConfig)) -> String {
    let mut config = config();
    change(&mut config);
    let ConfigError { field, reason } = Settings::of(&config, "dns").unwrap_err();
    format!("{field}: {reason}")
}

fn names(config: &DnsConfig, service: &str) -> Result<Vec<String>, BadName> {
    let wanted = Settings::of(config, "dns").unwrap().wanted(service)?;
    Ok(wanted.iter().map(|w| format!("{}{}", if w.srv { "" } else { "A " }, w.name)).collect())
}

#[test]
fn bad_fields_are_named_with_their_numbers() {
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        refused(|c| c.servers[1] = "dns.example:53".into()),
        "dns.servers[1]: \"dns.example:53\" is not an IP address with or without a port"
    );
    for bad in ["", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:99999", "::1:x", "[::1", "10.0.0"] {
        assert!(refused(|c| c.servers[0] = bad.into()).starts_with("dns.servers[0]"), "{bad}");
    }
    assert_eq!(
        refused(|c| c.servers = vec!["10.0.0.1".into(); 17]),
        "dns.servers: 17 servers are more than 16"
    );
    assert!(refused(|c| c.datacenter = text("a.b")).starts_with("dns.datacenter: a label"));
    assert!(refused(|c| c.tag = text("")).starts_with("dns.tag: it has an empty label"));
    assert!(refused(|c| c.domain = text("a..b")).starts_with("dns.domain"));
    assert!(
        refused(|c| c.search = Some(vec!["ok".into(), "a b".into()])).starts_with("dns.search[1]")
    );
    assert!(refused(|c| c.search = Some(vec!["a".into(); 7])).starts_with("dns.search: 7"));
    assert_eq!(
        refused(|c| c.name = text("{servce}.x")),
        "dns.name: {servce} is not {service}, {tag}, {dc} or {domain}"
    );
    for bad in ["", ".", "a..{service}", "{service", "{service}/x", ".a"] {
        assert!(refused(|c| c.name = text(bad)).starts_with("dns.name"), "{bad}");
        assert!(refused(|c| c.address_name = text(bad)).starts_with("dns.address_name"), "{bad}");
    }
    assert_eq!(refused(|c| c.port = Some(0)), "dns.port: 0 is outside 1–65535");
    assert_eq!(
        refused(|c| c.records = DnsRecords::Address),
        "dns.port: is required where records is \"address\""
    );
    let zero = Duration::ZERO;
    assert_eq!(refused(|c| c.timeout = zero), "dns.timeout: must be longer than zero");
    assert_eq!(refused(|c| c.timeout = s(61)), "dns.timeout: 1m1s is longer than 1m");
    assert_eq!(refused(|c| c.timeout = s(16)), "dns.timeout: 16s exceeds dns.total of 15s");
    assert!(refused(|c| c.total = Duration::MAX).starts_with("dns.total"));
    for tries in [0, 11, u32::MAX] {
        assert_eq!(refused(|c| c.tries = tries), format!("dns.tries: {tries} is outside 1–10"));
    }
    assert!(refused(|c| c.min_ttl = zero).starts_with("dns.min_ttl"));
    assert_eq!(refused(|c| c.min_ttl = s(7_200)), "dns.min_ttl: 2h exceeds dns.max_ttl of 1h");
    assert!(refused(|c| c.max_ttl = Duration::MAX).starts_with("dns.max_ttl"));
    assert!(refused(|c| c.negative_ttl = zero).starts_with("dns.negative_ttl"));
    assert!(refused(|c| c.negative_ttl = s(31)).contains("exceeds dns.max_negative_ttl of 30s"));
    assert!(refused(|c| c.max_negative_ttl = s(86_401)).starts_with("dns.max_negative_ttl"));
    assert!(refused(|c| c.max_records = 0).starts_with("dns.max_records"));
    assert!(refused(|c| c.max_records = u32::MAX).starts_with("dns.max_records"));
    assert!(refused(|c| c.max_lookups = u32::MAX).starts_with("dns.max_lookups"));
    assert!(refused(|c| c.edns = 1).starts_with("dns.edns: 1 is outside 512–4096"));
    assert!(refused(|c| c.edns = u16::MAX).starts_with("dns.edns"));
    assert!(refused(|c| c.ndots = Some(255)).starts_with("dns.ndots"));
}

#[test]
fn the_extremes_that_are_allowed_compile() {
    let settings = settings(|c| {
        (c.timeout, c.total, c.tries) = (Duration::from_nanos(1), Duration::from_nanos(1), 1);
        (c.max_records, c.max_lookups, c.edns, c.ndots) = (1, 0, 0, Some(0));
        (c.min_ttl, c.max_ttl) = (s(1), s(1));
    });
    let (result, _) = drive(&settings, |_| None);
    assert!(matches!(result, Err(DnsError::NoAnswer { .. })));
    assert_eq!(Settings::default(), Settings::of(&DnsConfig::default(), "dns").unwrap());
}

#[test]
fn ports_follow_the_form() {
    let servers = |form| {
        let list = ["10.0.0.1", "10.0.0.1:99", "::1", "[::1]", "[::1]:99"];
        let config = DnsConfig { form, servers: list.map(str::to_owned).to_vec(), ..config() };
        let settings = Settings::of(&config, "dns").unwrap();
        settings.servers().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(servers(DnsForm::Plain), "10.0.0.1:53 10.0.0.1:99 [::1]:53 [::1]:53 [::1]:99");
    assert_eq!(
        servers(DnsForm::Consul),
        "10.0.0.1:8600 10.0.0.1:99 [::1]:8600 [::1]:8600 [::1]:99"
    );
    assert_eq!(Settings::of(&DnsConfig::consul(), "dns").unwrap().servers().len(), 1);
}

/// Row 23 of the contracts: both forms are understood, the standard one is asked for.
#[test]
fn case_003_16_both_forms_of_a_consul_name() {
    let config = DnsConfig::consul();
    for (text, name) in [
        ("web", "web.service.consul"),
        ("web.dc1.consul", "web.service.dc1.consul"),
        ("web.service.dc1.consul", "web.service.dc1.consul"),
        ("Web.Service.DC1.Consul.", "web.service.dc1.consul"),
        ("web.service.consul", "web.service.consul"),
        ("v2.web.service.consul", "v2.web.service.consul"),
        ("v2.web.service.dc1.consul", "v2.web.service.dc1.consul"),
    ] {
        assert_eq!(names(&config, text), Ok(vec![name.to_owned()]), "{text}");
    }
    for bad in
        ["web.consul", "web.dc1.example", "a.b.c.consul", "consul", ".consul", "a.b.c.d.e.consul"]
    {
        let refused = names(&config, bad);
        assert!(refused == Err(BadName::NotConsul) || bad == "consul", "{bad}: {refused:?}");
    }
    let here =
        DnsConfig { datacenter: Some("dc1".into()), tag: Some("v1".into()), ..config.clone() };
    assert_eq!(names(&here, "web").unwrap(), ["v1.web.service.dc1.consul"]);
    assert_eq!(names(&here, "web.dc2.consul").unwrap(), ["v1.web.service.dc2.consul"]);
    let short = DnsConfig { form: DnsForm::Short, ..here };
    assert_eq!(names(&short, "web").unwrap(), ["v1.web.dc1.consul"]);
    for bad in ["", "-a", "a b", "a/b", "ä", "a\u{0}"] {
        assert!(names(&config, bad).is_err(), "{bad:?}");
    }
    assert_eq!(names(&config, &"a".repeat(64)), Err(BadName::LongLabel(64)));
}

#[test]
fn templates_and_search_lists() {
    let rfc =
        DnsConfig { form: DnsForm::Rfc2782, domain: Some("x.y".into()), ..DnsConfig::default() };
    assert_eq!(names(&rfc, "web").unwrap(), ["_web._tcp.x.y"]);
    let both = DnsConfig { port: Some(80), ..rfc.clone() };
    assert_eq!(names(&both, "web").unwrap(), ["_web._tcp.x.y", "A web.x.y"]);
    let own = DnsConfig { name: Some("api-{service}.{dc}.{domain}".into()), ..rfc };
    assert_eq!(names(&own, "web").unwrap(), ["api-web.x.y"]);
    assert_eq!(names(&own, "a.b"), Err(BadName::Character));
    // One name for whatever service; nothing of it is asked for then.
    let fixed = DnsConfig { name: Some("db.x".into()), ..own };
    assert_eq!(names(&fixed, "a.b").unwrap(), ["db.x"]);

    let plain = DnsConfig { form: DnsForm::Plain, ..DnsConfig::default() };
    let mut settings = Settings::of(&plain, "dns").unwrap();
    let list = |settings: &Settings| {
        let names = settings.wanted("web").unwrap();
        names.iter().map(|w| w.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list(&settings), "web");
    settings.system(&resolv_conf("nameserver 10.0.0.2\nsearch a.b c\noptions ndots:5"));
    assert_eq!(list(&settings), "web.a.b web.c web");
    assert_eq!(settings.servers().len(), 1);
    settings.system(&resolv_conf("nameserver 10.0.0.3\nsearch a.b\noptions ndots:0"));
    assert_eq!(list(&settings), "web web.a.b");
    // Configured servers and lists are not the system's.
    let own = DnsConfig { search: Some(vec![]), ndots: Some(1), ..plain };
    let mut settings = Settings::of(&own, "dns").unwrap();
    settings.system(&resolv_conf("nameserver 10.0.0.2\nsearch a.b"));
    assert_eq!(list(&settings), "web");
    let mut settings = self::settings(|_| {});
    let before = settings.clone();
    settings.system(&resolv_conf("nameserver 10.0.0.2\nsearch a.b"));
    assert_eq!(settings, before);
}

#[test]
fn the_state_survives_being_written_and_read() {
    let settings = settings(|_| {});
    let mut lookup = Lookup::new(Time::ZERO, &settings, "web", &mut Pcg32::new(1, 1));
    let step = lookup.next(Time::ZERO, &settings);
    let text = serde_json::to_string(&(&lookup, &settings)).unwrap();
    let (mut back, same): (Lookup, Settings) = serde_json::from_str(&text).unwrap();
    assert_eq!((&back, &same), (&lookup, &settings));
    assert_eq!(back.next(Time::ZERO, &same), step);
}
