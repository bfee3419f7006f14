//! The tables of settings in `docs` and the configuration are one: no field without a row, no row
//! without a field, and the default that stands in a row is the one that is in force.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)] // test code

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use origin_core::config::{
    CacheConfig, Config, ConsulConfig, DiscoveryConfig, DnsConfig, IdentityConfig, RedisConfig,
    ServiceConfig, StorageConfig, VaultConfig,
};
use serde_json::Value;

/// What a file may say and nothing ever shows.
const SECRETS: [&str; 3] = ["redis.password", "storage.secret_key", "storage.session_token"];

/// Everything that can be configured, with its defaults: parts that are not there by default
/// stand as they are once somebody writes their name.
fn everything() -> Value {
    let discovery = DiscoveryConfig {
        consul: Some(ConsulConfig::default()),
        dns: Some(DnsConfig::default()),
        ..DiscoveryConfig::default()
    };
    let config = Config {
        discovery: Some(discovery),
        redis: Some(RedisConfig::default()),
        storage: Some(StorageConfig::default()),
        vault: Some(VaultConfig::default()),
        identity: Some(IdentityConfig::default()),
        cache: Some(CacheConfig::default()),
        services: [("NAME".to_owned(), ServiceConfig::default())].into(),
        ..Config::default()
    };
    serde_json::to_value(config).unwrap()
}

/// Every key with its value, as text: `–` is unset. A value that has parts of its own and is one
/// setting is a leaf.
fn keys(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() && !path.ends_with(".headroom") => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                keys(&path, value, into);
            }
        }
        Value::Null => drop(into.insert(path.to_owned(), "–".to_owned())),
        _ => drop(into.insert(path.to_owned(), value.to_string())),
    }
}

fn pages() -> Vec<PathBuf> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let policies = std::fs::read_dir(docs.join("policies")).unwrap();
    let mut pages: Vec<_> = policies.map(|entry| entry.unwrap().path()).collect();
    pages.push(docs.join("SETTINGS.md"));
    pages.sort();
    pages
}

/// Rows of tables that begin with `setting`: key and default, as they stand in all pages.
fn rows() -> BTreeMap<String, String> {
    let mut rows = BTreeMap::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let mut inside = false;
        for line in text.lines() {
            let cells: Vec<&str> =
                line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
            inside = line.starts_with("| ") && (inside || cells[0] == "setting")
                || line.starts_with("|---") && inside;
            let key = cells[0].strip_prefix('`').and_then(|key| key.strip_suffix('`'));
            let Some(key) = key.filter(|_| inside) else { continue };
            let default = cells[1].trim_matches('`');
            let default = serde_json::from_str::<Value>(default)
                .map_or_else(|_| default.to_owned(), |value| value.to_string());
            let twice = rows.insert(key.to_owned(), default);
            assert_eq!(twice, None, "{key} stands twice, the second time in {}", page.display());
        }
    }
    rows
}

#[test]
fn every_setting_has_a_row_and_every_row_a_setting_with_its_default() {
    let (mut known, mut rows) = (BTreeMap::new(), rows());
    keys("", &everything(), &mut known);
    for secret in SECRETS {
        assert!(!known.contains_key(secret), "{secret} is written");
        known.insert(secret.to_owned(), "not shown".to_owned());
    }
    // Twins are told in a line each: `policy.service_breaker.*` is as `policy.breaker.*`.
    for (twin, like) in
        [("policy.service_breaker", "policy.breaker"), ("vault.leases", "vault.token")]
    {
        let told = rows.remove(&format!("{twin}.*"));
        assert_eq!(told, Some(format!("as `{like}.*")), "{twin}");
        let prefix = format!("{like}.");
        let same: Vec<_> = rows
            .range(prefix.clone()..)
            .map_while(|(key, default)| {
                Some((format!("{twin}.{}", key.strip_prefix(&prefix)?), default.clone()))
            })
            .collect();
        for (key, default) in same {
            rows.entry(key).or_insert(default);
        }
    }
    let mut wrong = Vec::new();
    for (key, default) in &known {
        match rows.remove(key) {
            Some(said) if said == *default => {}
            Some(said) => wrong.push(format!("{key} is {default}, and its row says {said}")),
            None => wrong.push(format!("no row: | `{key}` | `{default}` | unit | what |")),
        }
    }
    wrong.extend(rows.keys().map(|key| format!("a row and no setting: {key}")));
    assert!(wrong.is_empty(), "docs/policies and docs/SETTINGS.md:\n{}", wrong.join("\n"));
    assert!(known.len() > 400, "{} settings", known.len());
}

/// Each page of a policy has the same parts, and the map of policies leads to it.
#[test]
fn every_page_has_its_parts_and_is_found() {
    let map = include_str!("../../docs/POLICIES.md");
    let all = include_str!("../../docs/SETTINGS.md");
    for page in pages() {
        let name = page.file_name().unwrap().to_str().unwrap();
        if name == "SETTINGS.md" {
            continue;
        }
        let text = std::fs::read_to_string(&page).unwrap();
        for part in [
            "**Decides** ",
            "\n```",
            "## Where it comes from",
            "## How it looks",
            "## What it does not do",
        ] {
            assert!(text.contains(part), "{name} has no {part}");
        }
        assert!(
            map.contains(&format!("(policies/{name})")),
            "docs/POLICIES.md does not name {name}"
        );
        if text.contains("| setting |") {
            assert!(
                all.contains(&format!("(policies/{name})")),
                "docs/SETTINGS.md does not name {name}"
            );
        }
    }
}

/// Whoever looks for what a page says finds it: families of metrics, names of events.
#[test]
fn metrics_and_events_that_pages_name_exist() {
    let metrics = include_str!("../../docs/METRICS.md");
    let lines = include_str!("../../docs/OBSERVING.md");
    let mut seen = 0;
    for page in pages() {
        let name = page.display();
        let text = std::fs::read_to_string(&page).unwrap();
        for code in text.split('`').skip(1).step_by(2) {
            if code.starts_with("origin_") && !code.contains("::") {
                let family = code.split('{').next().unwrap();
                assert!(metrics.contains(&format!("| `{family}` |")), "{name}: {family}");
                seen += 1;
            }
        }
        for row in text.lines().filter(|row| row.starts_with("| notice")) {
            for code in row.split('`').skip(1).step_by(2) {
                let event = code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                if event && code.contains('_') && code != "max_attempts" {
                    assert!(lines.contains(&format!("`{code}`")), "{name}: {code}");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 60, "{seen}");
}
