use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::config::{CheckStatus, ConsulCheckConfig, InstanceScheme};
use crate::secret::Secret;

const RANDOM: [u8; 16] = [0xff; 16];

fn module() -> RegistrationConfig {
    RegistrationConfig::module("api", "api.local", 8080)
}

fn standard() -> RegistrationConfig {
    RegistrationConfig {
        service_version: Some("1.2".into()),
        service_type: Some("gateway".into()),
        environment: Some("test".into()),
        ..RegistrationConfig::standard("api", 8080)
    }
}

fn body(config: &RegistrationConfig) -> Value {
    serde_json::from_slice(Registration::of(config, "r", RANDOM).unwrap().body()).unwrap()
}

fn refused(base: RegistrationConfig, change: impl FnOnce(&mut RegistrationConfig)) -> String {
    let mut config = base;
    change(&mut config);
    let error = Registration::of(&config, "r", RANDOM).unwrap_err();
    format!("{}: {}", error.field, error.reason)
}

/// Contracts §5.2, right column: exactly what seed 004 sends, and its example.
#[test]
fn case_004_15_to_20_35_36_96_the_body_of_the_module() {
    let mut config = module();
    config.tags = vec!["v1".into(), "production".into()];
    config.meta.insert("version".into(), "1.0.0".into());
    let expected = json!({
        "ID": "api-api.local-8080", "Name": "api", "Address": "api.local", "Port": 8080,
        "Tags": ["v1", "production"], "Meta": {"version": "1.0.0"},
        "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": false,
        "Check": {
            "CheckID": "service:api-api.local-8080", "Name": "http check of api",
            "HTTP": "http://api.local:8080/health", "Method": "GET", "Interval": "10s",
            "Timeout": "5s", "DeregisterCriticalServiceAfter": "1m"
        }
    });
    assert_eq!(body(&config), expected);
}

/// Contracts §5.2, left column, without its defects.
#[test]
fn case_003_01_to_08_the_body_of_the_standard() {
    let got = body(&standard());
    let made = "ffffffff-ffff-4fff-bfff-ffffffffffff";
    assert_eq!(got["ID"], format!("api-{made}"));
    assert_eq!(
        got["Meta"],
        json!({"version": "1.2", "type": "gateway", "environment": "test", "instance_id": made})
    );
    assert_eq!(got["Tags"], json!([]));
    assert!(got.get("Address").is_none() && got["Port"] == 8080);
    let check = &got["Check"];
    assert_eq!(check["HTTP"], "http://localhost:8080/health");
    assert_eq!((&check["Interval"], &check["Timeout"]), (&json!("30s"), &json!("10s")));
    for (field, drop) in [
        ("r.service_version", (|c| c.service_version = None) as fn(&mut RegistrationConfig)),
        ("r.service_type", |c| c.service_type = None),
        ("r.environment", |c| c.environment = Some(String::new())),
    ] {
        assert!(refused(standard(), drop).starts_with(field), "{field}");
    }
}

#[test]
fn case_003_03_every_registration_is_made_an_id_of_its_own() {
    let id = |random| Registration::of(&standard(), "r", random).unwrap().id().clone();
    assert_ne!(id([1; 16]), id([2; 16]));
    let given = RegistrationConfig { instance_id: Some("i-7".into()), ..standard() };
    assert_eq!(&**Registration::of(&given, "r", RANDOM).unwrap().id(), "api-i-7");
    assert_eq!(body(&given)["Meta"]["instance_id"], "i-7");
    let fixed = RegistrationConfig { id: IdRule::Given("x:1".into()), ..standard() };
    assert_eq!(body(&fixed)["ID"], "x:1");
}

#[test]
fn case_003_02_05_optional_and_custom_metadata() {
    let mut config = RegistrationConfig {
        region: Some("eu".into()),
        zone: Some(String::new()),
        capabilities: vec!["read".into(), "write".into()],
        ..standard()
    };
    config.meta.insert("version".into(), "custom".into());
    let meta = body(&config)["Meta"].clone();
    assert_eq!((&meta["region"], &meta["capabilities"]), (&json!("eu"), &json!("read,write")));
    assert_eq!(meta["version"], "custom", "the custom entry wins");
    assert!(meta.get("zone").is_none() && meta.get("deployment_id").is_none());
    assert_eq!(body(&RegistrationConfig { checks: vec![], ..module() })["Meta"], json!({}));
}

#[test]
fn case_003_07_10_each_kind_has_exactly_its_target() {
    let targets = ["HTTP", "TCP", "GRPC", "Args", "TTL"];
    for (kind, target, value) in [
        (ConsulCheckKind::Http, "HTTP", json!("http://api.local:8080/health")),
        (ConsulCheckKind::Tcp, "TCP", json!("api.local:8080")),
        (ConsulCheckKind::Grpc, "GRPC", json!("api.local:8080/a.B")),
        (ConsulCheckKind::Script, "Args", json!(["/bin/true", "x"])),
        (ConsulCheckKind::Ttl, "TTL", json!("30s")),
    ] {
        let check = ConsulCheckConfig {
            service: "a.B".into(),
            args: vec!["/bin/true".into(), "x".into()],
            status: Some(CheckStatus::Passing),
            ..ConsulCheckConfig::of(kind)
        };
        let config = RegistrationConfig { checks: vec![check], allow_scripts: true, ..module() };
        let got = body(&config)["Check"].clone();
        assert_eq!(got[target], value);
        let found: Vec<_> = targets.iter().filter(|t| got.get(**t).is_some()).collect();
        assert_eq!(found, [&target]);
        assert_eq!(got.get("Interval").is_none(), kind == ConsulCheckKind::Ttl);
        assert!(got.get("Script").is_none() && got["Status"] == "passing");
    }
    let script = ConsulCheckConfig {
        args: vec!["x".into()],
        ..ConsulCheckConfig::of(ConsulCheckKind::Script)
    };
    assert!(refused(module(), |c| c.checks = vec![script]).starts_with("r.checks[0].kind: "));
}

#[test]
fn several_checks_and_beats() {
    let ttl = ConsulCheckConfig::of(ConsulCheckKind::Ttl);
    let config = RegistrationConfig { checks: vec![ConsulCheckConfig::default(), ttl], ..module() };
    let made = Registration::of(&config, "r", RANDOM).unwrap();
    let id: Arc<str> = "service:api-api.local-8080:2".into();
    assert_eq!(made.beats(), [(id.clone(), Duration::from_secs(30))]);
    assert_eq!(made.checks()[1], id);
    let got = body(&config);
    assert!(got.get("Check").is_none() && got["Checks"].as_array().unwrap().len() == 2);
    assert!(body(&RegistrationConfig { checks: vec![], ..module() }).get("Checks").is_none());
}

#[test]
fn case_004_80_checks_stay_on_the_registered_host() {
    let with = |host: &str, own: &str, elsewhere: bool| {
        let check = ConsulCheckConfig {
            host: Some(host.into()),
            elsewhere,
            ..ConsulCheckConfig::default()
        };
        let config = RegistrationConfig {
            address: own.into(),
            checks: vec![check],
            id: IdRule::Uuid,
            ..module()
        };
        Registration::of(&config, "r", RANDOM)
            .map(|r| String::from_utf8(r.body().to_vec()).unwrap())
    };
    for (host, own) in [
        ("api.local", "API.local"),
        ("localhost", "x"),
        ("127.0.0.9", "x"),
        ("::1", ""),
        ("10.0.0.1", "10.0.0.1"),
    ] {
        assert!(with(host, own, false).is_ok(), "{host} for {own}");
    }
    for (host, own) in [
        ("169.254.169.254", "10.0.0.1"),
        ("evil.example", "api.local"),
        ("10.0.0.1", ""),
        ("localhost.evil", "x"),
    ] {
        assert_eq!(
            with(host, own, false).unwrap_err().field,
            "r.checks[0].host",
            "{host} for {own}"
        );
        assert!(with(host, own, true).is_ok());
    }
    for host in ["a/b", "u@h", "h:1", "a b"] {
        assert!(with(host, "x", true).is_err(), "{host}");
    }
    assert!(with("::1", "x", false).unwrap().contains("http://[::1]:8080/health"));
}

#[test]
fn case_004_80_check_endpoints_may_need_a_token_or_tls() {
    let token = Secret::new("s3cret").unwrap();
    let check = ConsulCheckConfig {
        scheme: InstanceScheme::Https,
        headers: [("Authorization".to_owned(), token)].into(),
        tls_skip_verify: true,
        tls_server_name: Some("api.internal".into()),
        ..ConsulCheckConfig::default()
    };
    let config = RegistrationConfig { checks: vec![check], ..module() };
    let got = body(&config)["Check"].clone();
    assert_eq!(got["Header"], json!({"Authorization": ["s3cret"]}));
    assert_eq!(
        (&got["TLSSkipVerify"], &got["TLSServerName"]),
        (&json!(true), &json!("api.internal"))
    );
    assert!(got["HTTP"].as_str().unwrap().starts_with("https://"));
    let made = Registration::of(&config, "r", RANDOM).unwrap();
    let written = serde_json::to_string(&config).unwrap();
    assert!(!format!("{made:?}{config:?}{written}").contains("s3cret"));
    let error = serde_json::from_str::<RegistrationConfig>(&written).unwrap_err().to_string();
    assert!(error.contains("give it again"), "{error}");
}

#[test]
fn case_003_35_the_mesh_block() {
    let with = |connect, gateway| {
        let mut config = module();
        (config.mesh.connect, config.mesh.gateway) = (connect, gateway);
        body(&config).get("Connect").cloned()
    };
    assert_eq!(with(ConnectMode::Off, GatewayMode::Local), None);
    assert_eq!(with(ConnectMode::Native, GatewayMode::Off), Some(json!({"Native": true})));
    assert_eq!(with(ConnectMode::Sidecar, GatewayMode::Off), Some(json!({"SidecarService": {}})));
    let local = json!({"SidecarService": {"Proxy": {"MeshGateway": {"Mode": "local"}}}});
    assert_eq!(with(ConnectMode::Sidecar, GatewayMode::Local), Some(local));
}

#[test]
fn every_field_is_checked_and_named() {
    let secs = Duration::from_secs;
    let meta = |key: &str, value: &str| {
        let (key, value) = (key.to_owned(), value.to_owned());
        move |c: &mut RegistrationConfig| drop(c.meta.insert(key, value))
    };
    for (field, said) in [
        ("r.name", refused(module(), |c| c.name = "a:b".into())),
        ("r.address", refused(module(), |c| c.address = "a b".into())),
        ("r.address", refused(module(), |c| c.address = "0.0.0.0".into())),
        ("r.port", refused(module(), |c| c.port = 0)),
        ("r.id", refused(module(), |c| c.address = String::new())),
        ("r.id", refused(module(), |c| c.id = IdRule::Given("../x".into()))),
        ("r.tags", refused(module(), |c| c.tags = vec!["x".into(); 51])),
        ("r.tags[1]", refused(module(), |c| c.tags = vec!["x".into(), String::new()])),
        ("r.passing_weight", refused(module(), |c| c.passing_weight = 0)),
        ("r.warning_weight", refused(module(), |c| c.warning_weight = u32::MAX)),
        ("r.meta: key \"consul-x\" is reserved", refused(module(), meta("consul-x", "1"))),
        ("r.meta: key \"a.b\"", refused(module(), meta("a.b", "1"))),
        ("r.meta: key \"\"", refused(module(), meta("", "1"))),
        ("r.meta: key", refused(module(), meta(&"k".repeat(129), "1"))),
        ("r.meta.k", refused(module(), meta("k", &"v".repeat(513)))),
        ("r.meta.k", refused(module(), meta("k", "a\nb"))),
        (
            "r.meta: 65 pairs",
            refused(module(), |c| {
                c.meta = (0..65).map(|n| (format!("k{n}"), String::new())).collect()
            }),
        ),
        ("r.region", refused(module(), |c| c.region = Some("\u{1}".into()))),
        ("r.capabilities", refused(module(), |c| c.capabilities = vec!["a,b".into()])),
        ("r.checks", refused(module(), |c| c.checks = vec![ConsulCheckConfig::default(); 17])),
        ("r.checks[0].timeout: 11s exceeds", refused(module(), |c| c.checks[0].timeout = secs(11))),
        ("r.checks[0].timeout", refused(module(), |c| c.checks[0].timeout = Duration::ZERO)),
        (
            "r.checks[0].interval",
            refused(module(), |c| c.checks[0].interval = Duration::from_millis(200)),
        ),
        ("r.checks[0].interval", refused(module(), |c| c.checks[0].interval = Duration::MAX)),
        (
            "r.checks[0].deregister_after: 59s",
            refused(module(), |c| c.checks[0].deregister_after = Some(secs(59))),
        ),
        ("r.checks[0].path", refused(module(), |c| c.checks[0].path = "//evil".into())),
        ("r.checks[0].path", refused(module(), |c| c.checks[0].path = "/a b".into())),
        ("r.checks[0].method", refused(module(), |c| c.checks[0].method = "get".into())),
        ("r.checks[0].port", refused(module(), |c| c.checks[0].port = Some(0))),
        ("r.checks[0].name", refused(module(), |c| c.checks[0].name = Some(String::new()))),
        (
            "r.checks[0].headers",
            refused(module(), |c| {
                drop(c.checks[0].headers.insert("a b".into(), Secret::new("x").unwrap()))
            }),
        ),
        (
            "r.checks[0].tls_server_name",
            refused(module(), |c| c.checks[0].tls_server_name = Some("/".into())),
        ),
        (
            "r.checks[0].ttl",
            refused(module(), |c| {
                (c.checks[0].kind, c.checks[0].ttl) = (ConsulCheckKind::Ttl, Duration::ZERO)
            }),
        ),
        (
            "r.checks[0].service",
            refused(module(), |c| {
                (c.checks[0].kind, c.checks[0].service) = (ConsulCheckKind::Grpc, "a/b".into())
            }),
        ),
        (
            "r.checks[0].args",
            refused(module(), |c| {
                (c.checks[0].kind, c.allow_scripts) = (ConsulCheckKind::Script, true)
            }),
        ),
    ] {
        assert!(said.starts_with(field), "{field} in {said}");
    }
}

#[test]
fn case_004_07_deregistration_is_configurable_and_can_be_left_out() {
    let with = |after| {
        let mut config = module();
        config.checks[0].deregister_after = after;
        body(&config)["Check"].get("DeregisterCriticalServiceAfter").cloned()
    };
    assert_eq!(with(Some(Duration::from_secs(5_400))), Some(json!("1h30m")));
    assert_eq!(with(None), None);
}

proptest! {
    /// Whatever is accepted obeys the limits of Consul.
    #[test]
    fn case_004_81_accepted_metadata_is_within_the_limits(
        pairs in proptest::collection::btree_map("[a-zA-Z0-9_.-]{0,10}|consul-[a-z]{1,3}|k{120,130}", "[ -~]{0,8}|v{505,515}|\\PC{0,4}\\n?", 0..70),
    ) {
        let config = RegistrationConfig { meta: pairs.clone(), ..module() };
        let key = |k: &str| !k.is_empty() && k.len() <= 128 && !k.starts_with("consul-")
            && k.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
        let value = |v: &str| v.len() <= 512 && !v.chars().any(char::is_control);
        let fine = pairs.len() <= 64 && pairs.iter().all(|(k, v)| key(k) && value(v));
        prop_assert_eq!(Registration::of(&config, "r", RANDOM).is_ok(), fine);
    }

    #[test]
    fn uuids_are_version_4(random: [u8; 16]) {
        let text = uuid(random);
        let parts: Vec<&str> = text.split('-').collect();
        prop_assert_eq!(parts.iter().map(|p| p.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        prop_assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']));
        prop_assert!(text.bytes().all(|c| c == b'-' || c.is_ascii_digit() || (b'a'..=b'f').contains(&c)));
    }
}
