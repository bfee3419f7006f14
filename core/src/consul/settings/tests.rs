use super::*;

fn refused(change: impl FnOnce(&mut ConsulConfig)) -> String {
    let mut config = ConsulConfig::default();
    change(&mut config);
    Settings::of(&config, "consul").unwrap_err().to_string()
}

#[test]
fn case_004_09_defaults_and_presets() {
    let settings = Settings::of(&ConsulConfig::default(), "consul").unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.agents[0].as_str(), "http://consul:8500");
    let wait = |config: ConsulConfig| config.watch.wait.as_secs();
    assert_eq!((wait(ConsulConfig::standard()), wait(ConsulConfig::module())), (300, 30));
    let off = ConsulConfig { enabled: false, ..ConsulConfig::default() };
    assert!(Settings::of(&off, "consul").unwrap().is_off());
}

#[test]
fn every_field_is_checked_and_named() {
    let text = |text: &str| Some(text.to_owned());
    let template = |from: &str, to: &str| TemplateConfig {
        source: from.into(),
        destination: to.into(),
        ..TemplateConfig::default()
    };
    for (named, said) in [
        ("consul.urls: ", refused(|c| c.urls.clear())),
        ("consul.urls[0]: ", refused(|c| c.urls = vec!["consul:8500".into()])),
        ("consul.urls[0]: ", refused(|c| c.urls = vec!["http://u:hunter2@a".into()])),
        ("consul.datacenter: ", refused(|c| c.datacenter = text("a b"))),
        (
            "consul.fallback_datacenters[1]: ",
            refused(|c| c.fallback_datacenters = vec!["a".into(), "a".into()]),
        ),
        (
            "consul.fallback_datacenters: ",
            refused(|c| c.fallback_datacenters = vec!["a".into(); 17]),
        ),
        ("consul.tags[0]: ", refused(|c| c.tags = vec![String::new()])),
        ("consul.filter: ", refused(|c| c.filter = text(""))),
        ("consul.near: ", refused(|c| c.near = text("a\nb"))),
        ("consul.timeout: ", refused(|c| c.timeout = Duration::ZERO)),
        ("consul.max_stale: ", refused(|c| c.max_stale = Duration::MAX)),
        ("consul.max_age: ", refused(|c| c.max_age = Duration::ZERO)),
        (
            "consul.max_age: ",
            refused(|c| {
                (c.consistency, c.max_age) = (Consistency::Cached, Duration::from_millis(9))
            }),
        ),
        ("consul.stale_if_error: ", refused(|c| c.stale_if_error = Some(Duration::ZERO))),
        ("consul.health_meta: ", refused(|c| c.health_meta = "x".repeat(129))),
        ("consul.max_bytes: ", refused(|c| c.max_bytes = 0)),
        (
            "consul.service_token: ",
            refused(|c| c.service_token = Some(TokenSource::Env(String::new()))),
        ),
        (
            "consul.agent_token: ",
            refused(|c| c.agent_token = Secret::new("hunter2\u{1}").map(TokenSource::Text)),
        ),
        (
            "consul.templates[0].source: ",
            refused(|c| c.templates = vec![TemplateConfig::default()]),
        ),
        ("consul.templates[0].destination: ", refused(|c| c.templates = vec![template("a", "a")])),
        (
            "consul.templates[1].destination: ",
            refused(|c| c.templates = vec![template("a", "b"), template("c", "b")]),
        ),
        (
            "consul.templates[0].period: ",
            refused(|c| {
                c.templates = vec![TemplateConfig { period: Duration::ZERO, ..template("a", "b") }]
            }),
        ),
        (
            "consul.tls.cert: ",
            refused(|c| (c.urls, c.tls.key) = (vec!["https://a".into()], String::new())),
        ),
    ] {
        assert!(said.contains(named) && !said.contains("hunter2"), "{named} in {said}");
    }
}

#[test]
fn case_003_42_tokens_come_from_text_or_environment_and_are_never_printed() {
    let text = r#"{"agent_token":{"text":"s3cret-a"},"service_token":{"env":"T"}}"#;
    let config: ConsulConfig = serde_json::from_str(text).unwrap();
    let settings = Settings::of(&config, "consul").unwrap();
    let tokens = Tokens::of(&settings, |name| (name == "T").then(|| " s3cret-s\n".into())).unwrap();
    assert_eq!(tokens.agent.as_ref().unwrap(), "s3cret-a");
    assert_eq!(tokens.service.as_ref().unwrap(), "s3cret-s");
    let written = serde_json::to_string(&config).unwrap();
    let shown = format!(
        "{config:?}{settings:?}{tokens:?}{written}{}",
        serde_json::to_string(&settings).unwrap()
    );
    assert!(!shown.contains("s3cret"), "{shown}");
    let error = serde_json::from_str::<ConsulConfig>(&written).unwrap_err().to_string();
    assert!(error.contains("give it again"), "{error}");
    for value in [None, Some(" ".to_owned()), Some("a\u{1}b".to_owned())] {
        let error = Tokens::of(&settings, |_| value.clone()).unwrap_err();
        assert_eq!(error.field, "consul.service_token.env");
    }
    assert!(serde_json::from_str::<ConsulConfig>(r#"{"agent_token":{"text":""}}"#).is_err());
}

#[test]
fn datacenters_are_in_failover_order() {
    let mut config = ConsulConfig {
        fallback_datacenters: vec!["b".into(), "a".into()],
        ..ConsulConfig::default()
    };
    let order = |config: &ConsulConfig| -> Vec<Option<String>> {
        let settings = Settings::of(config, "consul").unwrap();
        settings.datacenters().map(|name| name.map(|n| n.to_string())).collect()
    };
    assert_eq!(order(&config), [None, Some("b".into()), Some("a".into())]);
    config.datacenter = Some("dc1".into());
    assert_eq!(order(&config)[0].as_deref(), Some("dc1"));
}
