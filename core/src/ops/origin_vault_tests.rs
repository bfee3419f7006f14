//! The other vault over a scripted service (contracts §2.8).

use proptest::prelude::*;

use super::*;
use crate::ops::fake::{Fake, Shared};

const FACTOR: &str = "pl4nted-factor";
const TOKEN: &str = "pl4nted-session";

#[derive(Default)]
struct Pocket(Shared<Session>, Shared<Time>);

impl Wallet for Arc<Pocket> {
    fn token(&self) -> Option<Secret> {
        self.0.lock().unwrap().token(*self.1.lock().unwrap()).cloned()
    }

    fn keep(&self, token: Secret, life: Duration) {
        self.0.lock().unwrap().keep(*self.1.lock().unwrap(), token, life);
    }
}

fn credentials() -> Credentials {
    Credentials::of(|name| match name {
        USER_VARIABLE => Some("u".to_owned()),
        FACTOR_VARIABLE => Some(FACTOR.to_owned()),
        _ => None,
    })
    .unwrap()
}

/// Logs in, and answers everything else so.
fn server(status: u16, body: &'static str) -> Fake {
    Fake::new(move |request| match request.path.path() {
        "/auth" => (
            200,
            format!(r#"{{"access_token":"{TOKEN}","token_type":"bearer","expires_in":1800}}"#),
        ),
        _ => (status, body.to_owned()),
    })
}

fn vault(fake: &Fake) -> (OriginVault<Fake>, Arc<Pocket>) {
    let pocket = Arc::new(Pocket::default());
    (OriginVault::new(fake.clone(), credentials(), Box::new(pocket.clone())), pocket)
}

#[test]
fn one_login_serves_many_calls_until_nine_tenths_of_its_life() {
    let fake = server(200, r#"{"key":"a/b","value":"v4lue"}"#);
    let (vault, pocket) = vault(&fake);
    let entry = vault.get("a/b").unwrap().unwrap();
    assert_eq!(entry.value, "v4lue");
    let sent = fake.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!(&sent[0].body[..], br#"{"user_id":"u","auth_factors":{"token":"pl4nted-factor"}}"#);
    assert!(!sent[0].headers.contains_key(AUTHORIZATION));
    assert_eq!(sent[1].headers[AUTHORIZATION], format!("Bearer {TOKEN}"));
    *pocket.1.lock().unwrap() = Time::from_millis(1_619_999);
    vault.get("a/b").unwrap();
    assert_eq!(fake.line(), "GET /secrets/a/b");
    *pocket.1.lock().unwrap() = Time::from_millis(1_620_000);
    vault.get("a/b").unwrap();
    assert_eq!(fake.sent().len(), 2, "a new login");
    let shown = format!(
        "{vault:?} {entry:?} {sent:?} {:?} {:?} {:?}",
        sent[1].headers,
        credentials(),
        pocket.0
    );
    for secret in [FACTOR, TOKEN, "v4lue"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn operations_are_as_the_contract_has_them() {
    let fake = server(
        200,
        r#"{"secrets":["a"],"count":1,"key":"k","value":"v","active":true,"timestamp":5}"#,
    );
    let (vault, _) = vault(&fake);
    assert_eq!(vault.list("").unwrap(), ["a"]);
    fake.sent();
    vault.list("a b").unwrap();
    assert_eq!(fake.line(), "GET /secrets?prefix=a%20b");
    vault.put("a", "v").unwrap();
    assert_eq!(fake.line(), r#"PUT /secrets/a {"value":"v"}"#);
    vault.delete("a").unwrap();
    assert_eq!(fake.line(), "DELETE /secrets/a");
    vault.sync_kubernetes(None, Some("p")).unwrap();
    assert_eq!(
        fake.line(),
        r#"POST /sync/kubernetes {"namespace":"governance-system","prefix":"p"}"#
    );
    assert_eq!(vault.killswitch().unwrap(), KillSwitch { active: true, timestamp: "5".into() });
    assert_eq!(fake.line(), "GET /killswitch/status");
    vault.activate_killswitch().unwrap();
    assert_eq!(fake.line(), "POST /killswitch/activate {}");
    vault.deactivate_killswitch(&Secret::new("k").unwrap()).unwrap();
    let sent = fake.sent();
    assert_eq!(&sent[0].body[..], br#"{"master_override_key":"k"}"#);
    assert_eq!(sent[0].spec.idempotent, Some(false));
}

#[test]
fn absence_is_none_and_refusals_are_errors() {
    let missing = server(404, r#"{"error":"Secret not found"}"#);
    let (origin, _) = vault(&missing);
    assert_eq!(origin.get("a").unwrap(), None);
    assert!(origin.delete("a").is_ok());
    assert_eq!(origin.list("").unwrap_err().status(), Some(404));
    // Nothing of what the service says about its inside is in the error.
    let broken = server(500, r#"{"error":"hunter2 at db01"}"#);
    let error = vault(&broken).0.get("a").unwrap_err();
    assert!(error.status() == Some(500) && !format!("{error} {error:?}").contains("hunter2"));
    for bad in ["", "/", "a//b", "../a", "a/.", "a\n", &"x".repeat(1_025)] {
        assert!(matches!(vault(&broken).0.get(bad), Err(Error::Request { .. })), "{bad}");
    }
}

#[test]
fn a_session_that_ended_early_is_renewed_once_for_a_call() {
    let fake = server(401, r#"{"error":"Token expired"}"#);
    let (origin, pocket) = vault(&fake);
    pocket.keep(Secret::new("old").unwrap(), Duration::from_secs(1_800));
    assert_eq!(origin.get("a").unwrap_err().status(), Some(401));
    assert_eq!(fake.sent().len(), 3, "asked, logged in, asked again, and no further");
    // A login that is refused is said so.
    let closed = Fake::new(|_| (401, r#"{"error":"Invalid credentials"}"#.to_owned()));
    assert_eq!(vault(&closed).0.get("a").unwrap_err().status(), Some(401));
    assert_eq!(closed.sent().len(), 1);
}

#[test]
fn an_incomplete_environment_is_no_credential() {
    assert!(Credentials::of(|_| None).is_none());
    assert!(Credentials::of(|_| Some(" ".to_owned())).is_none());
    assert!(Credentials::of(|name| (name == USER_VARIABLE).then(|| "u".to_owned())).is_none());
}

proptest! {
    /// Any answer to any operation is a whole value or an error that repeats none of it.
    #[test]
    fn any_answer_is_survived(body in "[a-z0-9{}\\[\\]\":, ]{0,60}", status in 200_u16..600) {
        let script = body.clone();
        let fake = Fake::new(move |request| match request.path.path() {
            "/auth" => (200, r#"{"access_token":"t"}"#.to_owned()),
            _ => (status, script.clone()),
        });
        let (vault, _) = vault(&fake);
        let _ = (vault.get("a"), vault.list(""), vault.killswitch());
        let _ = parse_session(body.as_bytes());
    }
}
