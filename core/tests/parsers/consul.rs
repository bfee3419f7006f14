//! Replies of Consul, and templates rendered from them. Every reply is given to every parser of
//! its part of the API, as a success and as failures: a proxy may answer anything to anything.

use std::fmt::Debug;
use std::sync::LazyLock;

use origin_core::consul::error::Phrase;
use origin_core::consul::template::{Data, Template, Unrendered};
use origin_core::consul::{
    ConsulError, ServiceName, Settings, agent as of_agent, catalogue as of_catalogue,
    connect as of_connect, entries as of_entries, health as of_health, intention, kv as of_kv,
};
use origin_core::discovery::{Instance, Role};
use origin_core::{Address, config::ConsulConfig};

use super::{Verdict, callable, discreet, in_proportion, judged, text};

/// A success, one that some parsers know, and a failure; [`error`] tries all others.
const STATUSES: [u16; 3] = [200, 404, 500];

static SETTINGS: LazyLock<[Settings; 2]> = LazyLock::new(|| {
    [false, true].map(|passing_only| {
        let config = ConsulConfig { passing_only, ..ConsulConfig::default() };
        Settings::of(&config, "consul").unwrap()
    })
});

fn settings(passing_only: bool) -> &'static Settings {
    &SETTINGS[usize::from(passing_only)]
}

/// A refusal that may name the field a server complains about, of forty characters at most.
fn refused(error: &ConsulError, input: &[u8]) -> String {
    let mut refusal = text(error);
    if let ConsulError::Refused { field: Some(field), .. } = error {
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(field.len() <= 40 && field.chars().all(fine), "{field:?}");
        refusal = refusal.replace(&**field, "");
    }
    discreet(&refusal, input);
    refusal
}

/// Whether `parse` read it as a success. Reads it twice, and as other statuses.
fn tried<T: Debug + PartialEq>(
    bytes: &[u8],
    parse: impl Fn(u16, &[u8]) -> Result<T, ConsulError>,
    check: impl Fn(&T),
) -> Verdict {
    let mut verdict = Err(String::new());
    for status in STATUSES {
        match parse(status, bytes) {
            Ok(read) => {
                in_proportion(format!("{read:?}").len(), bytes);
                check(&read);
                if status == 200 {
                    assert_eq!(parse(status, bytes).as_ref(), Ok(&read));
                    verdict = Ok(());
                }
            }
            Err(error) => {
                let refusal = refused(&error, bytes);
                if status == 200 {
                    verdict = Err(refusal);
                }
            }
        }
    }
    verdict
}

/// Read by one of them.
fn any(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    verdicts.into_iter().reduce(|all, next| all.or(next)).unwrap_or(Ok(()))
}

fn instances(all: &[Instance]) {
    all.iter().for_each(callable);
}

pub(super) fn health(_: &str, bytes: &[u8]) -> Verdict {
    let (all, passing) = (settings(false), settings(true));
    let verdict = tried(
        bytes,
        |status, body| of_health::parse(all, status, body),
        |answer| instances(&answer.instances),
    );
    let some = tried(
        bytes,
        |status, body| of_health::parse(passing, status, body),
        |answer| instances(&answer.instances),
    );
    assert_eq!(some.is_ok(), verdict.is_ok());
    if let (Ok(some), Ok(all)) =
        (of_health::parse(passing, 200, bytes), of_health::parse(all, 200, bytes))
    {
        assert!(some.instances.len() <= all.instances.len() && some.left_out <= all.left_out);
    }
    verdict
}

pub(super) fn catalogue(_: &str, bytes: &[u8]) -> Verdict {
    let s = settings(false);
    any([
        tried(bytes, |status, body| of_catalogue::parse_services(s, status, body), |_| {}),
        tried(
            bytes,
            |status, body| of_catalogue::parse_service(s, status, body),
            |answer| instances(&answer.instances),
        ),
        tried(bytes, |status, body| of_catalogue::parse_nodes(s, status, body), |_| {}),
        tried(bytes, |status, body| of_catalogue::parse_datacenters(s, status, body), |_| {}),
    ])
}

pub(super) fn agent(_: &str, bytes: &[u8]) -> Verdict {
    let s = settings(false);
    let _ = tried(bytes, of_agent::parse_deregister, |_| {});
    any([
        tried(bytes, |status, body| of_agent::parse_self(s, status, body), |_| {}),
        tried(bytes, |status, body| of_agent::parse_members(s, status, body), |_| {}),
        tried(bytes, |status, body| of_agent::parse_own(s, status, body), |_| {}),
    ])
}

pub(super) fn kv(_: &str, bytes: &[u8]) -> Verdict {
    let s = settings(false);
    let _ = tried(bytes, of_kv::parse_changed, |_| {});
    any([
        tried(bytes, |status, body| of_kv::parse_list(s, status, body), |_| {}),
        tried(bytes, |status, body| of_kv::parse_get(s, status, body), |_| {}),
        tried(bytes, |status, body| of_kv::parse_keys(s, status, body), |_| {}),
    ])
}

pub(super) fn connect(_: &str, bytes: &[u8]) -> Verdict {
    let s = settings(false);
    let web = ServiceName::new("web").unwrap();
    let _ = tried(bytes, intention::parse_exact, |_| {});
    let again = |list: &Vec<intention::Intention>| {
        let written = serde_json::to_vec(list).unwrap();
        assert_eq!(intention::parse_list(s, 200, &written).as_ref(), Ok(list));
    };
    any([
        tried(bytes, |status, body| of_connect::parse_roots(s, status, body), |_| {}),
        tried(
            bytes,
            |status, body| of_connect::parse_leaf(s, status, body),
            |leaf| {
                let secret = leaf
                    .key
                    .expose()
                    .lines()
                    .find(|line| line.len() > 30 && !line.starts_with('-'));
                let shown = format!("{leaf:?}");
                assert!(secret.is_none_or(|line| !shown.contains(line)), "the key is shown");
            },
        ),
        tried(bytes, |status, body| of_connect::parse_authorized(s, status, body), |_| {}),
        tried(bytes, |status, body| intention::parse_list(s, status, body), again),
        tried(bytes, |status, body| intention::parse_matching(s, &web, status, body), again),
        tried(bytes, |status, body| intention::parse_check(s, status, body), |_| {}),
        tried(bytes, |status, body| intention::parse_created(s, status, body), |_| {}),
    ])
}

pub(super) fn entries(_: &str, bytes: &[u8]) -> Verdict {
    let s = settings(false);
    let again = |entry: &of_entries::Entry| {
        let written = serde_json::to_vec(&entry.body()).unwrap();
        assert_eq!(of_entries::parse(s, 200, &written).as_ref(), Ok(&Some(entry.clone())));
    };
    let _ = tried(bytes, of_entries::parse_put, |_| {});
    any([
        tried(
            bytes,
            |status, body| of_entries::parse(s, status, body),
            |entry| entry.iter().for_each(again),
        ),
        tried(
            bytes,
            |status, body| of_entries::parse_list(s, status, body),
            |list| list.iter().for_each(again),
        ),
    ])
}

pub(super) fn error(_: &str, bytes: &[u8]) -> Verdict {
    for status in [0, 199, 301, 400, 401, 403, 404, 405, 413, 429, 500, 503, u16::MAX] {
        refused(&ConsulError::of(status, bytes), bytes);
    }
    let phrase = Phrase::of(bytes).to_string();
    assert!(
        phrase.len() <= 160 && phrase.bytes().all(|c| c == b' ' || c.is_ascii_graphic()),
        "{phrase:?}"
    );
    discreet(&phrase, bytes);
    Ok(())
}

pub(super) fn template(_: &str, bytes: &[u8]) -> Verdict {
    let Ok(written) = core::str::from_utf8(bytes) else { return Err("not UTF-8".to_owned()) };
    // A template is the operator's own: a refusal quotes the word it does not know.
    let template = match Template::parse(written) {
        Ok(template) => template,
        Err(bad) => {
            assert!(bad.line >= 1 && bad.line as usize <= 1 + written.matches('\n').count());
            let refusal = bad.to_string();
            assert!(refusal.len() <= 1_024, "a refusal of {} bytes", refusal.len());
            return Err(refusal);
        }
    };
    let mut data = Data::default();
    // Whatever is missing is brought, and then nothing of it may be missing again.
    for _ in 0..4 {
        match template.render(&data) {
            Ok(output) => {
                assert!(output.len() <= 16 << 20);
                assert_eq!(template.render(&data).as_ref(), Ok(&output));
                return Ok(());
            }
            Err(Unrendered::Missing(missing)) => {
                assert!(
                    missing.catalogue || !missing.services.is_empty() || !missing.keys.is_empty()
                );
                for query in missing.services {
                    let at = Address::parse("http://10.0.0.1:80").unwrap();
                    let one = Instance::new("dc1".into(), Role::Primary, at);
                    assert!(data.services.insert(query, vec![one]).is_none(), "asked for twice");
                }
                for key in missing.keys {
                    assert!(data.keys.insert(key, Some("v".into())).is_none(), "asked for twice");
                }
                if missing.catalogue {
                    assert!(data.catalogue.is_none(), "asked for twice");
                    data.catalogue = Some([("web".into(), vec!["a".into(), "b".into()])].into());
                }
            }
            Err(other) => return judged(&Err::<(), _>(other), b""),
        }
    }
    panic!("there is always something missing");
}
