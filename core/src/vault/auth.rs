//! Logging in, and the client's own token: looking it up, renewing and revoking it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Unreadable, VaultError};
use super::settings::{Auth, Settings};
use super::wire::{Api, Envelope, Exchange, Object, data, open, or_default};
use crate::secret::Secret;

/// A token with what Vault says about it. `Debug` does not show it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The token.
    pub token: Secret,
    /// How long it lasts; zero is forever.
    pub lease: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// How often it can be used; 0 is any number of times.
    pub uses: u64,
    /// Its policies.
    pub policies: Vec<Arc<str>>,
}

/// What Vault knows about a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Own {
    /// How long it still lasts; zero is forever.
    pub ttl: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// How often it can still be used; 0 is any number of times.
    pub uses: u64,
    /// Its policies.
    pub policies: Vec<Arc<str>>,
    /// The longest it can live, renewals and all; zero is what the mount says.
    pub max_ttl: Duration,
    /// A periodic token: each renewal is for this long, without end. Zero: it is none.
    pub period: Duration,
}

#[derive(Serialize)]
struct AppRole<'a> {
    role_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Kubernetes<'a> {
    role: &'a str,
    jwt: &'a str,
}

#[derive(Serialize)]
struct Cert<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

/// `POST /v1/auth/{mount}/login`, without a token. `credential` is the secret id or the JWT, where
/// the method takes one; a certificate is that of the connection.
///
/// # Errors
/// A way of getting a token that is no login; a JWT that is missing.
pub fn login(settings: &Settings, credential: Option<&Secret>) -> Result<Exchange, VaultError> {
    let api = Api::anonymous(settings);
    let secret = credential.map(Secret::expose);
    match settings.auth() {
        Auth::AppRole { mount, role_id, .. } => {
            api.post(&format!("auth/{mount}/login"), &AppRole { role_id, secret_id: secret })
        }
        Auth::Kubernetes { mount, role, .. } => {
            let jwt = secret.ok_or_else(|| VaultError::field("jwt", "there is none"))?;
            api.post(&format!("auth/{mount}/login"), &Kubernetes { role, jwt })
        }
        Auth::Cert { mount, name } => {
            api.post(&format!("auth/{mount}/login"), &Cert { name: name.as_deref() })
        }
        Auth::Given | Auth::Env(_) | Auth::File { .. } => {
            Err(VaultError::field("auth", "this is no login: the token is there already"))
        }
    }
}

/// `GET /v1/auth/token/lookup-self`.
///
/// # Errors
/// A token that cannot be sent.
pub fn look_up(api: &Api<'_>) -> Result<Exchange, VaultError> {
    api.get("auth/token/lookup-self")
}

#[derive(Serialize)]
struct Renew {
    #[serde(skip_serializing_if = "Option::is_none")]
    increment: Option<String>,
}

/// `POST /v1/auth/token/renew-self`.
///
/// # Errors
/// A token that cannot be sent.
pub fn renew(api: &Api<'_>, increment: Option<Duration>) -> Result<Exchange, VaultError> {
    let increment = increment.map(|span| format!("{}s", span.as_secs().max(1)));
    api.post("auth/token/renew-self", &Renew { increment })
}

/// `POST /v1/auth/token/revoke-self`: the token, and every lease that was had with it.
///
/// # Errors
/// A token that cannot be sent.
pub fn revoke(api: &Api<'_>) -> Result<Exchange, VaultError> {
    api.post("auth/token/revoke-self", &serde_json::Map::new())
}

#[derive(Deserialize)]
struct RawGrant {
    client_token: String,
    #[serde(default, deserialize_with = "or_default")]
    lease_duration: u64,
    #[serde(default, deserialize_with = "or_default")]
    renewable: bool,
    #[serde(default, deserialize_with = "or_default")]
    num_uses: u64,
    #[serde(default, deserialize_with = "or_default")]
    policies: Vec<Arc<str>>,
}

/// The token of a reply to [`login`].
///
/// # Errors
/// [`VaultError::LoginRefused`] also for a success without a token: some servers answer a wrong
/// password so.
pub fn parse_login(settings: &Settings, status: u16, body: &[u8]) -> Result<Grant, VaultError> {
    match status {
        400 | 401 | 403 => return Err(VaultError::LoginRefused { status }),
        _ => {}
    }
    match grant(settings, "the answer to the login", status, body)? {
        Some(grant) => Ok(grant),
        None => Err(VaultError::LoginRefused { status }),
    }
}

/// The lease of a reply to [`renew`].
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_renew(settings: &Settings, status: u16, body: &[u8]) -> Result<Grant, VaultError> {
    let what = "the answer to the renewal";
    let grant = grant(settings, what, status, body)?;
    grant.ok_or_else(|| VaultError::unreadable(what, Unreadable::Missing))
}

fn grant(
    settings: &Settings,
    what: &str,
    status: u16,
    body: &[u8],
) -> Result<Option<Grant>, VaultError> {
    let envelope: Envelope<serde::de::IgnoredAny, RawGrant> = open(settings, what, status, body)?;
    let Some(Object(raw)) = envelope.auth else { return Ok(None) };
    let token = Secret::read(raw.client_token.as_bytes()).filter(|token| token.header().is_some());
    Ok(Some(Grant {
        token: token.ok_or_else(|| VaultError::unreadable(what, Unreadable::Token))?,
        lease: Duration::from_secs(raw.lease_duration),
        renewable: raw.renewable,
        uses: raw.num_uses,
        policies: raw.policies,
    }))
}

#[derive(Deserialize)]
struct RawOwn {
    ttl: u64,
    #[serde(default, deserialize_with = "or_default")]
    renewable: bool,
    #[serde(default, deserialize_with = "or_default")]
    num_uses: u64,
    #[serde(default, deserialize_with = "or_default")]
    policies: Vec<Arc<str>>,
    #[serde(default, deserialize_with = "or_default")]
    explicit_max_ttl: u64,
    #[serde(default, deserialize_with = "or_default")]
    period: u64,
}

/// What a reply to [`look_up`] says.
///
/// # Errors
/// A status that is no success, and a reply that is too large or of another shape.
pub fn parse_own(settings: &Settings, status: u16, body: &[u8]) -> Result<Own, VaultError> {
    let raw: RawOwn = data(settings, "the token's description", status, body)?;
    Ok(Own {
        ttl: Duration::from_secs(raw.ttl),
        renewable: raw.renewable,
        uses: raw.num_uses,
        policies: raw.policies,
        max_ttl: Duration::from_secs(raw.explicit_max_ttl),
        period: Duration::from_secs(raw.period),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::vault::{AppRoleConfig, CertAuthConfig, KubernetesAuthConfig};
    use crate::config::{VaultAuth, VaultConfig};

    const LOGIN: &[u8] = include_bytes!("../../tests/corpus/vault_auth/good-approle-login.json");
    const OWN: &[u8] = include_bytes!("../../tests/corpus/vault_auth/lookup-self.json");

    fn settings(auth: VaultAuth) -> Settings {
        Settings::of(&VaultConfig { auth, ..VaultConfig::default() }, "vault").unwrap()
    }

    fn shown(exchange: &Exchange) -> (String, String) {
        let line = format!("{} {}", exchange.method(), exchange.path());
        (line, String::from_utf8(exchange.body().to_vec()).unwrap())
    }

    #[test]
    fn logins_are_as_the_api_documents_them_and_carry_no_token() {
        let secret = Secret::new("pl4nted-secret").unwrap();
        let role = AppRoleConfig {
            role_id: "r".into(),
            mount: "team/app".into(),
            ..AppRoleConfig::default()
        };
        let s = settings(VaultAuth::Approle(role));
        let exchange = login(&s, Some(&secret)).unwrap();
        let expected = r#"{"role_id":"r","secret_id":"pl4nted-secret"}"#;
        assert_eq!(shown(&exchange), ("POST /v1/auth/team/app/login".into(), expected.into()));
        assert!(!exchange.headers().contains_key("x-vault-token"));
        assert!(
            !format!("{exchange:?} {:?}", exchange.clone().call(&s, false)).contains("pl4nted")
        );
        assert_eq!(shown(&login(&s, None).unwrap()).1, r#"{"role_id":"r"}"#);
        let role = KubernetesAuthConfig { role: "app".into(), ..KubernetesAuthConfig::default() };
        let s = settings(VaultAuth::Kubernetes(role));
        let (line, body) = shown(&login(&s, Some(&secret)).unwrap());
        assert_eq!(
            (&*line, &*body),
            ("POST /v1/auth/kubernetes/login", r#"{"role":"app","jwt":"pl4nted-secret"}"#)
        );
        assert!(login(&s, None).is_err());
        let cert = CertAuthConfig { name: Some("web".into()), ..CertAuthConfig::default() };
        let s = settings(VaultAuth::Cert(cert));
        assert_eq!(
            shown(&login(&s, None).unwrap()),
            ("POST /v1/auth/cert/login".into(), r#"{"name":"web"}"#.into())
        );
        assert!(login(&Settings::default(), None).is_err());
    }

    #[test]
    fn the_own_token() {
        let s = Settings::default();
        let token = Secret::new("t").unwrap();
        let api = Api::with(&s, &token);
        assert_eq!(shown(&look_up(&api).unwrap()).0, "GET /v1/auth/token/lookup-self");
        let (line, body) = shown(&renew(&api, Some(Duration::from_secs(60))).unwrap());
        assert_eq!((&*line, &*body), ("POST /v1/auth/token/renew-self", r#"{"increment":"60s"}"#));
        assert_eq!(shown(&renew(&api, None).unwrap()).1, "{}");
        assert_eq!(shown(&revoke(&api).unwrap()).0, "POST /v1/auth/token/revoke-self");
    }

    #[test]
    fn replies_are_read_whole_or_not_at_all() {
        let s = Settings::default();
        let grant = parse_login(&s, 200, LOGIN).unwrap();
        assert_eq!((grant.lease, grant.renewable), (Duration::from_secs(1_200), true));
        assert!(!format!("{grant:?}").contains(grant.token.expose()));
        let own = parse_own(&s, 200, OWN).unwrap();
        assert!(own.renewable && own.ttl > Duration::ZERO && !own.policies.is_empty());
        // RustyVault says so of a wrong password.
        let wrong = br#"{"data":{"error":"invalid username or password"},"auth":null}"#;
        assert_eq!(parse_login(&s, 200, wrong), Err(VaultError::LoginRefused { status: 200 }));
        for status in [400, 401, 403] {
            assert_eq!(parse_login(&s, status, b""), Err(VaultError::LoginRefused { status }));
        }
        assert_eq!(parse_login(&s, 503, b"Vault is sealed"), Err(VaultError::Sealed));
        for bad in [
            &b"{}"[..],
            b"null",
            br#"{"auth":{"client_token":""}}"#,
            br#"{"auth":{"client_token":"a\nb"}}"#,
            br#"{"auth":{"client_token":5}}"#,
            br#"{"auth":{"lease_duration":5}}"#,
            br#"{"auth":{"client_token":"a","lease_duration":-1}}"#,
        ] {
            assert!(parse_renew(&s, 200, bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert!(
            parse_own(&s, 200, br#"{"data":{"renewable":true}}"#).is_err(),
            "without a ttl it is nothing"
        );
    }
}
