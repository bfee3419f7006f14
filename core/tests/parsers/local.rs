//! What the program reads at its own place: environment, files, its snapshot, its configuration;
//! and the document of Origin.

use std::collections::BTreeMap;

use origin_core::Wall;
use origin_core::config::EnvironmentConfig;
use origin_core::discovery::document::Document;
use origin_core::discovery::environment::{self as of_environment, Environment, MOST_SERVICES};
use origin_core::discovery::file::Content;
use origin_core::discovery::kept::{self as of_kept, Kept};
use origin_core::identity::Leaf;
use origin_core::policy::balance::hash;

use super::{Verdict, callable, discreet, in_proportion, judged, text};

const MOST: usize = 1 << 20;

/// PEM, or DER.
pub(super) fn certificate(_: &str, bytes: &[u8]) -> Verdict {
    let Some(leaf) = Leaf::pem(bytes).or_else(|| Leaf::der(bytes)) else {
        return Err("no certificate".to_owned());
    };
    assert!(leaf.serial.bytes().all(|c| c.is_ascii_hexdigit()) && leaf.serial.len() <= 64);
    let names = [&leaf.subject, &leaf.spiffe_id].into_iter().flatten();
    for name in names {
        assert!(name.chars().count() <= 256 && !name.chars().any(char::is_control));
    }
    assert!(leaf.spiffe_id.is_none_or(|id| id.starts_with("spiffe://")));
    Ok(())
}

pub(super) fn environment(_: &str, bytes: &[u8]) -> Verdict {
    let config = EnvironmentConfig { enabled: true, scan: true, ..EnvironmentConfig::default() };
    let settings = of_environment::Settings::of(&config, "e").unwrap();
    let read = Environment::read(&settings, of_environment::lines(bytes));
    // Refusals name the variable; of its value they must say nothing.
    let values: Vec<u8> =
        of_environment::lines(bytes).flat_map(|(_, value)| value.bytes().chain([b'\n'])).collect();
    let found = match read {
        Ok(found) => found,
        Err(error) => {
            discreet(&error.reason, &values);
            assert!(!text(&error).contains("hunter2"));
            return Err(text(&error));
        }
    };
    assert!(found.list().len() <= MOST_SERVICES + of_environment::SERVICES.len());
    for service in found.list() {
        assert_eq!(found.get(&service.name), Some(service));
        assert_eq!(found.base_url(&service.name), Ok(service.base.as_str()));
        callable(&found.instance(&service.name).unwrap());
        for url in [service.health_url(), service.ready_url()] {
            assert!(url.starts_with("http"), "{url}");
        }
    }
    for skipped in found.skipped().0 {
        discreet(&skipped.reason, &values);
    }
    Ok(())
}

pub(super) fn services_file(name: &str, bytes: &[u8]) -> Verdict {
    for name in ["services.json", "services.toml", "services.conf"] {
        let _ = content(name, bytes);
    }
    // Without the feature every list is refused, whatever it says.
    if cfg!(not(feature = "toml")) && name.ends_with(".toml") {
        assert!(content(name, bytes).is_err());
        return if name.starts_with("good") { Ok(()) } else { Err(String::new()) };
    }
    content(name, bytes)
}

fn content(name: &str, bytes: &[u8]) -> Verdict {
    let read = Content::parse(bytes, name, MOST);
    if let Ok(content) = &read {
        in_proportion(format!("{content:?}").len(), bytes);
        for service in content.services() {
            assert!(content.knows(service));
            let (instances, _) = content.instances(service, Some("alpha")).unwrap();
            instances.iter().for_each(callable);
        }
        assert_eq!(Content::parse(bytes, name, MOST).as_ref(), Ok(content));
    }
    judged(&read, bytes)
}

pub(super) fn document(_: &str, bytes: &[u8]) -> Verdict {
    let read = Document::parse(bytes, MOST);
    if let Ok(document) = &read {
        in_proportion(format!("{document:?}").len(), bytes);
        for service in document.services().take(16) {
            for local in [None, Some("alpha"), Some("beta"), Some("")] {
                let (instances, refused) = document.instances(service, local).unwrap();
                assert!(instances.len() + refused.len() <= bytes.len());
                instances.iter().for_each(callable);
                let (candidates, again) = document.candidates(service, local).unwrap();
                assert!(candidates.len() <= instances.len() && again == refused);
                for refused in refused {
                    discreet(&refused.reason, bytes);
                }
            }
        }
        // The form in which it is remembered.
        let written = serde_json::to_vec(document).unwrap();
        assert_eq!(&serde_json::from_slice::<Document>(&written).unwrap(), document);
    }
    judged(&read, bytes)
}

pub(super) fn kept(_: &str, bytes: &[u8]) -> Verdict {
    // As it is, and under a checksum that fits, which no fuzzer guesses.
    let body = bytes.get(30..).filter(|_| bytes.starts_with(b"{\"checksum\":\"")).unwrap_or(bytes);
    let mut sealed = format!("{{\"checksum\":\"{:016x}\",", hash::of(body)).into_bytes();
    sealed.extend_from_slice(body);
    let _ = snapshot(&sealed);
    snapshot(bytes)
}

fn snapshot(bytes: &[u8]) -> Verdict {
    let settings = of_kept::Settings::default();
    let now = Wall(86_401);
    let read = Kept::decode(bytes, now, Some("alpha"), &settings);
    if let Ok(restored) = &read {
        assert!(!format!("{restored:?}").contains("hunter2"));
        assert!(restored.left_out.len() <= restored.left_out_count.min(64));
        let kept = &restored.kept;
        kept.services.values().flat_map(|s| s.instances.iter()).for_each(callable);
        assert!(kept.services.values().all(|service| service.taken <= kept.written));
        // Good as it is: written again, nothing of it is lost.
        let written = kept.encode(&settings).unwrap();
        let again = Kept::decode(&written, now, Some("alpha"), &settings).unwrap();
        assert_eq!((&again.kept, again.left_out_count), (kept, 0));
        // And carried on by one that has nothing of its own.
        let mut new = Kept { written: now, local: Some("alpha".into()), services: BTreeMap::new() };
        new.carry(kept, now, &settings);
        assert_eq!(new.services, kept.services);
    }
    judged(&read, bytes)
}

#[cfg(feature = "toml")]
pub(super) fn origin_toml(_: &str, bytes: &[u8]) -> Verdict {
    use origin_core::config::Config;

    let Ok(written) = core::str::from_utf8(bytes) else { return Err("not UTF-8".to_owned()) };
    // The configuration is the operator's own: a refusal quotes the key it does not know.
    match Config::from_toml(written) {
        Ok(config) => {
            assert_eq!(Config::from_toml(written).as_ref(), Ok(&config));
            Ok(())
        }
        Err(refusal) => {
            assert!(!refusal.field.is_empty() && !refusal.reason.is_empty());
            assert!(refusal.reason.len() <= 8_192 + 4 * bytes.len());
            Err(text(&refusal))
        }
    }
}

#[cfg(not(feature = "toml"))]
pub(super) fn origin_toml(name: &str, _: &[u8]) -> Verdict {
    if name.starts_with("good") { Ok(()) } else { Err("built without toml".to_owned()) }
}
