//! The other Origin vault over real sockets: found by its variable, one session for all handles of
//! a client, another one when it is refused, and nothing printed.

use std::sync::{Arc, Mutex, PoisonError};

use origin_core::ops::origin_vault::{self, Credentials, SERVICE};
use origin_core::{Error, Secret};
use origin_driver::{Builder, Client};
use origin_lab::{Answer, FaultServer, Request};
use serde_json::{Value, json};

use crate::subject::Subject;

on_every_runtime! {
    the_other_vault_is_where_its_variable_says_with_one_session
    case_000_45_the_other_vault_without_credentials_is_asked_nothing
}

const FACTOR: &str = "pl4nted-factor";
const SESSION: &str = "pl4nted-session";
const VALUE: &str = "pl4nted-value";

#[derive(Default)]
struct State {
    logins: u32,
    /// Whether sessions of before are not known any more.
    forgotten: bool,
}

/// As its client of contracts §2.8 speaks, below a base path.
fn server(state: &Arc<Mutex<State>>) -> FaultServer {
    let state = state.clone();
    FaultServer::with_handler(Arc::new(move |request: &Request| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{} {}", request.method, request.route());
        if line == "POST /vault/auth" {
            let sent: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            if sent["user_id"] != "app" || sent["auth_factors"]["token"] != FACTOR {
                return Answer::json(401, &json!({ "error": "unknown user" }));
            }
            (state.logins, state.forgotten) = (state.logins + 1, false);
            let token = format!("{SESSION}-{}", state.logins);
            let life = json!({ "access_token": token, "token_type": "bearer", "expires_in": 1800 });
            return Answer::json(200, &life);
        }
        let session = format!("Bearer {SESSION}-{}", state.logins);
        if state.forgotten || request.header("authorization") != Some(&session) {
            return Answer::json(401, &json!({ "error": "Token expired" }));
        }
        match &*line {
            "GET /vault/secrets/app/db" => {
                Answer::json(200, &json!({ "key": "app/db", "value": VALUE }))
            }
            "GET /vault/secrets" => {
                Answer::json(200, &json!({ "secrets": ["app/db"], "count": 1 }))
            }
            _ => Answer::json(404, &json!({ "error": "Secret not found" })),
        }
    }))
    .unwrap()
}

fn builder<S: Subject>(url: &str) -> Builder<S> {
    let at = format!("{url}/vault/");
    let builder = Client::<S>::builder().seed(7);
    builder.configure(|config| {
        let name = origin_vault::URL_VARIABLE;
        origin_vault::configure(config, |asked| (asked == name).then(|| at.clone()));
    })
}

fn credentials(factor: &str) -> Credentials {
    Credentials::of(|name| match name {
        origin_vault::USER_VARIABLE => Some("app".into()),
        origin_vault::FACTOR_VARIABLE => Some(factor.into()),
        _ => None,
    })
    .unwrap()
}

fn the_other_vault_is_where_its_variable_says_with_one_session<S: Subject>() {
    let state = Arc::<Mutex<State>>::default();
    let server = server(&state);
    let builder = builder::<S>(&server.url()).origin_vault_as(credentials(FACTOR));
    let mut printed = format!("{builder:?}");
    let client = builder.build().unwrap();
    for _ in 0..3 {
        let vault = client.origin_vault();
        let entry = S::wait(vault.get("app/db")).unwrap().unwrap();
        assert_eq!(entry.value, VALUE);
        assert_eq!(S::wait(vault.list("")).unwrap(), ["app/db"]);
        assert_eq!(S::wait(vault.get("none")).unwrap(), None);
        printed.push_str(&format!("{vault:?} {entry:?}"));
    }
    assert_eq!(state.lock().unwrap().logins, 1);
    // A session that is not known any more is replaced, and no call fails.
    state.lock().unwrap().forgotten = true;
    assert!(S::wait(client.origin_vault().get("app/db")).unwrap().is_some());
    assert_eq!(state.lock().unwrap().logins, 2);
    // The wrong factor is said to be wrong.
    let wrong = self::builder::<S>(&server.url()).origin_vault_as(credentials("pl4nted-wrong"));
    let wrong = wrong.build().unwrap();
    let error = S::wait(wrong.origin_vault().get("app/db")).unwrap_err();
    assert_eq!(error.status(), Some(401), "{error:?}");
    for client in [&client, &wrong] {
        printed.push_str(&format!("{error} {error:?} {client:?} {:?}", client.snapshot()));
        printed.push_str(&format!("{:?} {:?}", client.notices(), client.config()));
    }
    assert!(!printed.contains("pl4nted"), "{printed}");
    // The factor goes into logins, the session into the header, and neither anywhere else.
    for request in server.requests() {
        let login = request.path == "/vault/auth";
        assert_eq!(request.header("authorization").is_none(), login, "{}", request.path);
        assert!(!request.path.contains("pl4nted"));
    }
}

fn case_000_45_the_other_vault_without_credentials_is_asked_nothing<S: Subject>() {
    let server = server(&Arc::default());
    let client = builder::<S>(&server.url()).build().unwrap();
    let error = S::wait(client.origin_vault().get("app/db")).unwrap_err();
    assert!(matches!(&error, Error::Credential { service, .. } if &**service == SERVICE));
    assert!(error.to_string().contains(origin_vault::FACTOR_VARIABLE), "{error}");
    assert_eq!(server.request_count(), 0);
    // What was configured wins over the variable; what is no address is refused by its field.
    let other = FaultServer::start().unwrap();
    let configured = Client::<S>::builder().endpoint(SERVICE, other.url()).configure(|config| {
        origin_vault::configure(config, |_| Some("http://127.0.0.1:9".to_owned()));
    });
    let vault = configured.origin_vault_as(credentials(FACTOR)).build().unwrap().origin_vault();
    let _ = S::wait(vault.get("a"));
    assert!(other.request_count() > 0);
    let bad = Client::<S>::builder()
        .configure(|config| origin_vault::configure(config, |_| Some("no address".into())));
    let error = bad.build().unwrap_err();
    assert!(error.field.starts_with("services.origin-vault"), "{error}");
    // A token that was given for Vault is not for this one.
    let token = Secret::new("pl4nted-vault-token").unwrap();
    let client = builder::<S>(&server.url()).vault_token(token.expose()).build().unwrap();
    assert!(S::wait(client.origin_vault().get("app/db")).is_err());
    assert_eq!(server.request_count(), 0);
}
