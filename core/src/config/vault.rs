//! Vault as a person writes it: how the client gets its token and keeps it alive, where secrets
//! are, how leases are looked after. No secret stands here: credentials are files and variables.
//! What is done with it is in [`crate::vault`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::optional;

/// How a client gets its token. In TOML: `auth = { token_env = "VAULT_CLIENT_TOKEN" }`,
/// `auth = { kubernetes = { role = "app" } }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum VaultAuth {
    /// It is given by the program (`vault_token()` on the builder).
    #[default]
    Given,
    /// Name of the environment variable that holds it; read once, when the client is built. Unset
    /// or empty is no token.
    TokenEnv(String),
    /// A file that holds it, and is read again.
    TokenFile(TokenFileConfig),
    /// A login by role id and secret id.
    Approle(AppRoleConfig),
    /// A login by the token of a Kubernetes service account.
    Kubernetes(KubernetesAuthConfig),
    /// A login by the client certificate of the connection (the identity of the client).
    Cert(CertAuthConfig),
}

/// A token in a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TokenFileConfig {
    /// Its path. Required.
    pub path: String,
    /// From one look to the next, 1 s – 7 days. Default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub poll: Duration,
}

impl Default for TokenFileConfig {
    fn default() -> Self {
        TokenFileConfig { path: String::new(), poll: Duration::from_secs(10) }
    }
}

/// A login by `AppRole`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AppRoleConfig {
    /// The role id. Required.
    pub role_id: String,
    /// A file that holds the secret id; read before each login.
    pub secret_id_file: Option<String>,
    /// An environment variable that holds the secret id; read once, when the client is built.
    /// Without either the role must not ask for one.
    pub secret_id_env: Option<String>,
    /// Where the method is mounted below `auth/`. Default `approle`.
    pub mount: String,
}

impl Default for AppRoleConfig {
    fn default() -> Self {
        AppRoleConfig {
            role_id: String::new(),
            secret_id_file: None,
            secret_id_env: None,
            mount: "approle".to_owned(),
        }
    }
}

/// A login by the token of a Kubernetes service account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesAuthConfig {
    /// The role. Required.
    pub role: String,
    /// The file that holds the token of the service account; read before each login. Default
    /// `/var/run/secrets/kubernetes.io/serviceaccount/token`.
    pub jwt_file: String,
    /// Where the method is mounted below `auth/`. Default `kubernetes`.
    pub mount: String,
}

impl Default for KubernetesAuthConfig {
    fn default() -> Self {
        KubernetesAuthConfig {
            role: String::new(),
            jwt_file: "/var/run/secrets/kubernetes.io/serviceaccount/token".to_owned(),
            mount: "kubernetes".to_owned(),
        }
    }
}

/// A login by certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct CertAuthConfig {
    /// The role to log in to. `None`: Vault tries them all.
    pub name: Option<String>,
    /// Where the method is mounted below `auth/`. Default `cert`.
    pub mount: String,
}

impl Default for CertAuthConfig {
    fn default() -> Self {
        CertAuthConfig { name: None, mount: "cert".to_owned() }
    }
}

/// How secrets are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum VaultList {
    /// By the method `LIST`.
    #[default]
    Method,
    /// By `GET` with `?list=true`, where a proxy does not let the method through.
    Query,
}

/// Which version a mount of the key-value engine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum KvVersion {
    /// One value for each path.
    V1,
    /// A history of versions for each path.
    V2,
}

/// When what expires is renewed. The client's token and leases of secrets have one each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct VaultRenewConfig {
    /// What can be renewed is renewed at a random point of its lease, from this share of it on.
    /// 0.01–0.9, default 1/6.
    pub from: f64,
    /// … up to this one. Default 1/3.
    pub to: f64,
    /// What cannot be renewed is replaced, or said to expire, from this share of it on. 0.01–0.99,
    /// default 0.8.
    pub replace_from: f64,
    /// … up to this one. Default 0.95.
    pub replace_to: f64,
    /// Wait after the first failure, twice as long after each further one; at most half of what
    /// is left of the lease. At least 1 s, default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub backoff: Duration,
    /// The longest such wait. Default 5 min.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub backoff_max: Duration,
    /// Wait after a refusal that repeating does not change, such as wrong credentials. Default
    /// 1 min.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub forbidden: Duration,
    /// For how long renewals ask. `None`: for what the role says.
    #[serde(with = "optional")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::config::schema::Span>"))]
    pub increment: Option<Duration>,
    /// Whether it is revoked when the client is closed; a token that was given never is. Default
    /// `true`.
    pub revoke_on_close: bool,
}

impl Default for VaultRenewConfig {
    fn default() -> Self {
        VaultRenewConfig {
            from: 1.0 / 6.0,
            to: 1.0 / 3.0,
            replace_from: 0.8,
            replace_to: 0.95,
            backoff: Duration::from_secs(10),
            backoff_max: Duration::from_secs(300),
            forbidden: Duration::from_secs(60),
            increment: None,
            revoke_on_close: true,
        }
    }
}

/// Vault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct VaultConfig {
    /// `false`: nothing is done ahead; a token that is given is used as it is. Default `true`.
    pub enabled: bool,
    /// Base URLs where the client logs in and renews, at most 16. Empty (default): the endpoints
    /// of the service `secrets`.
    pub urls: Vec<String>,
    /// The namespace of all requests (Vault Enterprise).
    pub namespace: Option<String>,
    /// How the client gets its token.
    pub auth: VaultAuth,
    /// Mounts of the key-value engine with their version, at most 64; reading a path below one of
    /// version 2 needs no `data` segment then. Paths below no mount named here are taken
    /// literally.
    pub mounts: BTreeMap<String, KvVersion>,
    /// How secrets are listed. Default by the method `LIST`.
    pub list: VaultList,
    /// Deadline of one login, renewal or revocation, 10 ms – 5 min. Default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub timeout: Duration,
    /// Largest reply, in bytes, 1 KiB – 256 MiB. Default 16 MiB.
    pub max_bytes: usize,
    /// When the token is renewed.
    pub token: VaultRenewConfig,
    /// When leases of secrets are renewed.
    pub leases: VaultRenewConfig,
}

impl Default for VaultConfig {
    fn default() -> Self {
        VaultConfig {
            enabled: true,
            urls: Vec::new(),
            namespace: None,
            auth: VaultAuth::Given,
            mounts: BTreeMap::new(),
            list: VaultList::Method,
            timeout: Duration::from_secs(10),
            max_bytes: 16 << 20,
            token: VaultRenewConfig::default(),
            leases: VaultRenewConfig::default(),
        }
    }
}
