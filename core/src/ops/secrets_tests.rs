//! The typed client over a scripted service: what is sent, what may be repeated, and that a token
//! exchanged meanwhile fails no call.

use super::*;
use crate::config::{VaultConfig, VaultList};
use crate::ops::fake::{Fake, Shared};

const PLANTED: &str = "pl4nted-t0ken";

fn fake(status: u16, body: &'static str) -> Fake {
    Fake::new(move |_| (status, body.to_owned()))
}

fn secrets(fake: &Fake) -> Secrets<Fake> {
    Secrets::new(fake.clone(), secret::Secret::new(PLANTED))
}

#[test]
fn case_000_03_and_45_no_token_no_request_and_never_printed() {
    let fake = fake(200, r#"{"data":{"k":"v4lue"},"lease_duration":7}"#);
    let none = Secrets::new(fake.clone(), None);
    assert!(none.get_secret("a").unwrap_err().to_string().contains("VAULT_CLIENT_TOKEN"));
    let error = none.kv("secret").read("a").unwrap_err();
    assert_eq!(error.vault(), Some(&VaultError::NoToken));
    assert!(error.to_string().contains("VAULT_CLIENT_TOKEN") && error.service() == Some(SERVICE));
    let bad = Secrets::new(fake.clone(), secret::Secret::new("a\u{1}b"));
    assert!(matches!(bad.get_secret("a"), Err(Error::Credential { .. })));
    assert!(matches!(secrets(&fake).get_secret("/"), Err(Error::Request { .. })));
    assert!(fake.sent().is_empty(), "nothing was sent");

    let client = secrets(&fake);
    let secret = client.get_secret("/a b/../c/").unwrap();
    assert_eq!((secret.get("k"), secret.lease_seconds), (Some("v4lue"), 7));
    let sent = fake.sent();
    assert_eq!(sent[0].path, "/v1/a%20b/%2E%2E/c");
    assert_eq!(sent[0].headers["x-vault-token"], PLANTED);
    let content = client.kv("secret").read("a").unwrap();
    let shown = format!(
        "{client:?} {:?} {:?} {secret:?} {content:?} {sent:?} {:?}",
        client.kv("secret"),
        client.leases(),
        sent[0].headers
    );
    assert!(!shown.contains(PLANTED) && !shown.contains("v4lue"), "{shown}");
}

#[test]
fn get_secret_keeps_its_errors() {
    for status in [301, 307, 400, 403, 404, 503] {
        let error = secrets(&fake(status, "{}")).get_secret("a").unwrap_err();
        assert!(matches!(error, Error::Status { status: s, .. } if s == status), "{error:?}");
    }
    for body in ["", "{", "[]", "{}", r#"{"data":5}"#, r#"{"errors":["hunter2"]}"#] {
        let error = secrets(&fake(200, body)).get_secret("a").unwrap_err();
        assert!(
            matches!(error, Error::Decode { .. }) && !error.to_string().contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn paths_follow_the_version_of_their_mount() {
    let mounts = [("team/kv".to_owned(), KvVersion::V2)].into_iter().collect();
    let config = VaultConfig {
        mounts,
        list: VaultList::Query,
        namespace: Some("n/s".into()),
        ..VaultConfig::default()
    };
    let settings = Settings::of(&config, "vault").unwrap();
    let v2 = r#"{"data":{"data":{"k":"v"},"metadata":{"version":2}}}"#;
    let fake = fake(200, v2);
    let client = Secrets::with(fake.clone(), settings, Box::new(secret::Secret::new(PLANTED)));
    assert_eq!(client.get_secret("team/kv/app").unwrap().get("k"), Some("v"));
    let sent = fake.sent();
    assert_eq!(
        (sent[0].path.as_str(), &sent[0].headers["x-vault-namespace"]),
        ("/v1/team/kv/data/app", &"n/s".parse::<http::HeaderValue>().unwrap())
    );
    let content = client.kv("team/kv").read("app").unwrap();
    assert_eq!(content.version.unwrap().version, 2);
    assert_eq!(fake.line(), "GET /v1/team/kv/data/app");
    let _ = client.kv("team/kv").list("app");
    assert_eq!(fake.line(), "GET /v1/team/kv/metadata/app?list=true");
    let _ = client.kv("team").read("app");
    assert_eq!(fake.line(), "GET /v1/team/app");
}

#[test]
fn what_may_have_taken_effect_is_repeated_only_where_that_is_harmless() {
    let fake = fake(204, "");
    let client = secrets(&fake);
    let repeats = |_: &dyn std::fmt::Debug| fake.sent()[0].spec.idempotent == Some(true);
    let (one, two) = (client.kv_of("s", KvVersion::V1), client.kv_of("s", KvVersion::V2));
    let data = Data::new();
    let id = LeaseId::new("a/b").unwrap();
    assert!(repeats(&one.read("a")) && repeats(&two.read("a")) && repeats(&one.list("a")));
    assert!(repeats(&one.write("a", &data)) && !repeats(&two.write("a", &data)));
    assert!(!repeats(&two.write_if("a", &data, 0)));
    assert!(repeats(&one.delete("a")) && repeats(&two.change(Change::Destroy, "a", &[1])));
    assert!(!repeats(&client.create("database/creds/app")) && !repeats(&client.write("a", &data)));
    assert!(repeats(&client.leases().renew(&id, None)) && repeats(&client.leases().revoke(&id)));
    assert!(repeats(&client.health()) && repeats(&client.token()));
}

#[test]
fn health_is_asked_without_a_token() {
    let fake = fake(503, r#"{"initialized":true,"sealed":true,"standby":true}"#);
    let health = secrets(&fake).health().unwrap();
    assert_eq!(health.condition, crate::vault::health::Condition::Sealed);
    assert!(secrets(&fake).seal_status().is_err());
    let none = Secrets::new(fake.clone(), None);
    assert!(none.health().is_ok());
    assert!(fake.sent().iter().all(|sent| !sent.headers.contains_key("x-vault-token")));
}

struct Rotating(Shared<(u32, Vec<&'static str>)>);

impl Tokens for Arc<Rotating> {
    fn token(&self) -> Option<secret::Secret> {
        let guard = self.0.lock().unwrap();
        guard.1.first().and_then(|text| secret::Secret::new(text))
    }

    fn doubted(&self) {
        let mut guard = self.0.lock().unwrap();
        guard.0 += 1;
        if guard.1.len() > 1 {
            guard.1.remove(0);
        }
    }
}

#[test]
fn case_000_a_token_exchanged_under_way_fails_no_call_and_a_denial_is_asked_once() {
    let only_new = |request: &Request| match request.headers["x-vault-token"].to_str() {
        Ok("new") => (200, r#"{"data":{"k":"v"}}"#.to_owned()),
        _ => (403, r#"{"errors":["permission denied"]}"#.to_owned()),
    };
    let rotating = |tokens: &[&'static str]| Arc::new(Rotating(Shared::new((0, tokens.to_vec()))));
    let fake = Fake::new(only_new);
    let client = |tokens: &Arc<Rotating>| {
        Secrets::with(fake.clone(), Settings::default(), Box::new(tokens.clone()))
    };
    let tokens = rotating(&["old", "new"]);
    assert!(client(&tokens).get_secret("a").is_ok());
    let tokens = rotating(&["old", "new"]);
    assert!(client(&tokens).kv("s").read("a").is_ok());
    assert_eq!(fake.sent().len(), 4);
    // The same token again would be of no use, and a third one is not tried.
    let tokens = rotating(&["old"]);
    let error = client(&tokens).kv("s").read("a").unwrap_err();
    assert_eq!((error.vault(), error.is_retryable()), (Some(&VaultError::Denied), false));
    assert_eq!((fake.sent().len(), tokens.0.lock().unwrap().0), (1, 1));
    let tokens = rotating(&["a", "b", "c", "new"]);
    assert!(client(&tokens).kv("s").read("a").is_err());
    assert_eq!(fake.sent().len(), 2);
}
