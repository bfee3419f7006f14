//! A stand-in for Vault, written from its public API documentation (1.12): logins by `AppRole`,
//! tokens with leases, the key-value engine in both versions, leases of dynamic secrets, sealing.
//! No more of it than the client asks for; real servers are in `tests/real`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use origin_lab::{Answer, FaultServer, Request};
use serde_json::{Value, json};

/// What the cluster knows; its nodes share it.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) secret_id: String,
    /// Begins every token that is made here.
    pub(crate) prefix: String,
    /// How long a token lives, in seconds, as is said of it.
    pub(crate) lease: u64,
    pub(crate) tokens: BTreeSet<String>,
    pub(crate) leases: BTreeSet<String>,
    pub(crate) secrets: BTreeMap<String, Value>,
    pub(crate) refuse_renewals: bool,
    made: u32,
    /// Every request that a node has got: its line, its token, its body.
    pub(crate) book: Vec<Entry>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) line: String,
    pub(crate) token: Option<String>,
    pub(crate) body: String,
}

/// A cluster of nodes.
pub(crate) struct Vault {
    pub(crate) nodes: Vec<FaultServer>,
    sealed: Vec<Arc<Mutex<bool>>>,
    state: Arc<Mutex<State>>,
}

impl Vault {
    pub(crate) fn start(nodes: usize) -> Vault {
        let state = State { prefix: "hvs.".into(), lease: 3_600, ..State::default() };
        let state = Arc::new(Mutex::new(State { secret_id: "right".into(), ..state }));
        let sealed: Vec<Arc<Mutex<bool>>> = (0..nodes).map(|_| Arc::default()).collect();
        let node = |sealed: &Arc<Mutex<bool>>| {
            let (sealed, state) = (sealed.clone(), state.clone());
            FaultServer::with_handler(Arc::new(move |request: &Request| {
                let sealed = *sealed.lock().unwrap_or_else(PoisonError::into_inner);
                answer(&mut state.lock().unwrap_or_else(PoisonError::into_inner), sealed, request)
            }))
        };
        Vault { nodes: sealed.iter().map(|sealed| node(sealed).unwrap()).collect(), sealed, state }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn seal(&self, node: usize, sealed: bool) {
        *self.sealed[node].lock().unwrap() = sealed;
    }

    /// How often it was asked this.
    pub(crate) fn asked(&self, line: &str) -> usize {
        self.with(|state| state.book.iter().filter(|entry| entry.line == line).count())
    }

    pub(crate) fn logins(&self) -> usize {
        self.asked("POST /v1/auth/approle/login")
    }
}

fn answer(state: &mut State, sealed: bool, request: &Request) -> Answer {
    let line = format!("{} {}", request.method, request.route());
    let token = request.header("x-vault-token").map(str::to_owned);
    let body = String::from_utf8_lossy(&request.body).into_owned();
    state.book.push(Entry { line: line.clone(), token: token.clone(), body: body.clone() });
    if line == "GET /v1/sys/health" {
        let health = json!({ "initialized": true, "sealed": sealed, "standby": false });
        return Answer::json(if sealed { 503 } else { 200 }, &health);
    }
    if line == "GET /v1/sys/seal-status" {
        return Answer::json(200, &json!({ "sealed": sealed, "t": 1, "n": 1, "progress": 0 }));
    }
    if sealed {
        return Answer::json(503, &json!({ "errors": ["Vault is sealed"] }));
    }
    let sent: Value = serde_json::from_str(&body).unwrap_or_default();
    if line == "POST /v1/auth/approle/login" {
        if sent["secret_id"] != state.secret_id.as_str() {
            return Answer::json(400, &json!({ "errors": ["invalid secret id"] }));
        }
        state.made += 1;
        let token = format!("{}{}", state.prefix, state.made);
        state.tokens.insert(token.clone());
        return Answer::json(200, &json!({ "auth": auth(&token, state.lease) }));
    }
    let Some(token) = token.filter(|token| state.tokens.contains(token)) else {
        let errors = ["permission denied", "invalid token"];
        return Answer::json(403, &json!({ "errors": errors }));
    };
    let lease_id = || sent["lease_id"].as_str().unwrap_or_default().to_owned();
    match line.split_once(' ').unwrap_or_default() {
        ("GET", "/v1/auth/token/lookup-self") => {
            let own = json!({ "ttl": state.lease, "creation_ttl": state.lease, "renewable": true });
            Answer::json(200, &json!({ "data": own }))
        }
        ("POST" | "PUT", "/v1/auth/token/renew-self") if state.refuse_renewals => {
            Answer::json(400, &json!({ "errors": ["token is not renewable"] }))
        }
        ("POST" | "PUT", "/v1/auth/token/renew-self") => {
            Answer::json(200, &json!({ "auth": auth(&token, state.lease) }))
        }
        ("POST" | "PUT", "/v1/auth/token/revoke-self") => {
            state.tokens.remove(&token);
            Answer::new(204)
        }
        ("GET", "/v1/database/creds/app") => {
            state.made += 1;
            let id = format!("database/creds/app/{}", state.made);
            state.leases.insert(id.clone());
            let data = json!({ "username": "u", "password": "p" });
            let lease = json!({ "lease_id": id, "lease_duration": 6, "renewable": true });
            let mut all = lease;
            all["data"] = data;
            Answer::json(200, &all)
        }
        ("POST" | "PUT", "/v1/sys/leases/renew") if state.leases.contains(&lease_id()) => {
            let lease = json!({ "lease_id": lease_id(), "lease_duration": 6, "renewable": true });
            Answer::json(200, &lease)
        }
        ("POST" | "PUT", "/v1/sys/leases/revoke") => {
            state.leases.remove(&lease_id());
            Answer::new(204)
        }
        ("GET", path) => match state.secrets.get(path) {
            Some(value) => Answer::json(200, &json!({ "data": value })),
            None => Answer::json(404, &json!({ "errors": [] })),
        },
        ("POST" | "PUT", path) if path.starts_with("/v1/secret/data/") => {
            let before = state.secrets.get(path).map_or(0, version);
            let data = json!({ "data": sent["data"], "metadata": { "version": before + 1 } });
            state.secrets.insert(path.to_owned(), data);
            Answer::json(200, &json!({ "data": { "version": before + 1 } }))
        }
        ("POST" | "PUT", path) => {
            state.secrets.insert(path.to_owned(), sent);
            Answer::new(204)
        }
        _ => Answer::json(405, &json!({ "errors": ["unsupported operation"] })),
    }
}

fn version(secret: &Value) -> u64 {
    secret["metadata"]["version"].as_u64().unwrap_or_default()
}

fn auth(token: &str, lease: u64) -> Value {
    json!({ "client_token": token, "lease_duration": lease, "renewable": true })
}
