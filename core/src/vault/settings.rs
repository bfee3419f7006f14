//! The compiled settings of Vault. Free of secrets: what a login needs is read when it is needed.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use serde::{Deserialize, Serialize};

use super::error::VaultError;
use super::schedule;
use super::wire;
use crate::address::Address;
use crate::config::field::{At, WEEK};
use crate::config::{ConfigError, KvVersion, VaultAuth, VaultConfig, VaultList};

/// How the token is had, compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// It is given.
    #[default]
    Given,
    /// It stands in this variable.
    Env(Arc<str>),
    /// It stands in a file.
    File {
        /// Its path.
        path: Arc<str>,
        /// From one look to the next.
        poll: Duration,
    },
    /// By role id and secret id.
    AppRole {
        /// Where the method is mounted, encoded.
        mount: Arc<str>,
        /// The role id.
        role_id: Arc<str>,
        /// The file that holds the secret id.
        file: Option<Arc<str>>,
        /// The variable that holds it.
        env: Option<Arc<str>>,
    },
    /// By the token of a service account.
    Kubernetes {
        /// Where the method is mounted, encoded.
        mount: Arc<str>,
        /// The role.
        role: Arc<str>,
        /// The file that holds the token of the service account.
        file: Arc<str>,
    },
    /// By the certificate of the connection.
    Cert {
        /// Where the method is mounted, encoded.
        mount: Arc<str>,
        /// The role, if one is named.
        name: Option<Arc<str>>,
    },
}

impl Auth {
    /// The file that is read for it.
    #[must_use]
    pub fn file(&self) -> Option<&Arc<str>> {
        match self {
            Auth::File { path, .. } => Some(path),
            Auth::AppRole { file, .. } => file.as_ref(),
            Auth::Kubernetes { file, .. } => Some(file),
            Auth::Given | Auth::Env(_) | Auth::Cert { .. } => None,
        }
    }

    /// The environment variable that is read for it, once.
    #[must_use]
    pub fn env(&self) -> Option<&Arc<str>> {
        match self {
            Auth::Env(name) => Some(name),
            Auth::AppRole { env, .. } => env.as_ref(),
            _ => None,
        }
    }

    /// One word for notices.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Auth::Given => "given",
            Auth::Env(_) => "environment",
            Auth::File { .. } => "file",
            Auth::AppRole { .. } => "approle",
            Auth::Kubernetes { .. } => "kubernetes",
            Auth::Cert { .. } => "cert",
        }
    }
}

/// A checked [`VaultConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    enabled: bool,
    urls: Vec<Address>,
    namespace: Option<Arc<str>>,
    auth: Auth,
    /// The longest names first.
    mounts: Vec<(Arc<str>, KvVersion)>,
    list_by_query: bool,
    timeout: Duration,
    max_bytes: usize,
    token: schedule::Settings,
    leases: schedule::Settings,
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field that cannot be meant.
    pub fn of(config: &VaultConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.within("urls", config.urls.len(), 0..=16)?;
        let mut urls = Vec::new();
        for (index, url) in config.urls.iter().enumerate() {
            let field = format!("urls[{index}]");
            let address = Address::parse(url).map_err(|e| at.refuse(&field, e.to_string()))?;
            if !address.is_http() {
                return Err(at.refuse(field, "must begin with http:// or https://"));
            }
            urls.push(address);
        }
        if let Some(name) = &config.namespace {
            let fine = HeaderValue::from_str(name).is_ok() && !name.is_empty() && name.len() <= 512;
            if !fine {
                return Err(at.refuse("namespace", "is empty, too long, or cannot be a header"));
            }
        }
        at.within("mounts", config.mounts.len(), 0..=64)?;
        let mut mounts: Vec<(Arc<str>, KvVersion)> = Vec::new();
        for (name, version) in &config.mounts {
            let clean = name.trim_end_matches('/');
            wire::path("mounts", clean)
                .map_err(|e| at.refuse(format!("mounts.{}", short(name)), why(e)))?;
            mounts.push((Arc::from(clean), *version));
        }
        mounts.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        Ok(Settings {
            enabled: config.enabled,
            urls,
            namespace: config.namespace.as_deref().map(Arc::from),
            auth: auth(&config.auth, &format!("{path}.auth"))?,
            mounts,
            list_by_query: config.list == VaultList::Query,
            timeout: at.within(
                "timeout",
                config.timeout,
                Duration::from_millis(10)..=Duration::from_secs(300),
            )?,
            max_bytes: at.within("max_bytes", config.max_bytes, 1 << 10..=256 << 20)?,
            token: schedule::Settings::of(&config.token, &format!("{path}.token"))?,
            leases: schedule::Settings::of(&config.leases, &format!("{path}.leases"))?,
        })
    }

    /// Whether tokens and leases are looked after at all.
    #[must_use]
    pub const fn enabled(&self) -> bool {
        self.enabled
    }

    /// Where the client logs in; empty: at the endpoints of the service.
    #[must_use]
    pub fn urls(&self) -> &[Address] {
        &self.urls
    }

    /// How the token is had.
    #[must_use]
    pub const fn auth(&self) -> &Auth {
        &self.auth
    }

    pub(super) fn namespace(&self) -> Option<HeaderValue> {
        self.namespace.as_deref().and_then(|name| HeaderValue::from_str(name).ok())
    }

    pub(super) const fn list_by_query(&self) -> bool {
        self.list_by_query
    }

    /// The mount a path is below, its version, and the rest of the path.
    #[must_use]
    pub fn mount<'a>(&self, path: &'a str) -> Option<(&'a str, KvVersion, &'a str)> {
        self.mounts.iter().find_map(|(name, version)| {
            let rest = path.strip_prefix(&**name)?.strip_prefix('/')?;
            Some((path.get(..name.len())?, *version, rest))
        })
    }

    /// Deadline of one exchange of the background.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Largest reply, in bytes: the `max_body` of the job.
    #[must_use]
    pub const fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// When the token is renewed.
    #[must_use]
    pub const fn token(&self) -> &schedule::Settings {
        &self.token
    }

    /// When leases are renewed.
    #[must_use]
    pub const fn leases(&self) -> &schedule::Settings {
        &self.leases
    }
}

impl Default for Settings {
    fn default() -> Self {
        let config = VaultConfig::default();
        Settings {
            enabled: true,
            urls: Vec::new(),
            namespace: None,
            auth: Auth::Given,
            mounts: Vec::new(),
            list_by_query: false,
            timeout: config.timeout,
            max_bytes: config.max_bytes,
            token: schedule::Settings::default(),
            leases: schedule::Settings::default(),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn why(error: VaultError) -> String {
    match error {
        VaultError::Field { reason, .. } => reason.to_string(),
        other => other.to_string(),
    }
}

fn auth(config: &VaultAuth, path: &str) -> Result<Auth, ConfigError> {
    let file = |at: At<'_>, field: &str, text: &str| {
        if text.is_empty() || text.len() > 4_096 || text.contains('\0') {
            return Err(at.refuse(field, "names a file: 1 to 4096 bytes and no zero byte"));
        }
        Ok(Arc::<str>::from(text))
    };
    let env = |at: At<'_>, field: &str, name: &str| {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(at.refuse(field, "does not name an environment variable"));
        }
        Ok(Arc::<str>::from(name))
    };
    let name = |at: At<'_>, field: &str, text: &str| {
        if text.is_empty() || text.len() > 512 || text.chars().any(char::is_control) {
            return Err(at.refuse(field, "is required: 1 to 512 bytes without control characters"));
        }
        Ok(Arc::<str>::from(text))
    };
    let mount = |at: At<'_>, text: &str| {
        let encoded = wire::path("mount", text.trim_end_matches('/'));
        encoded.map(Arc::<str>::from).map_err(|e| at.refuse("mount", why(e)))
    };
    Ok(match config {
        VaultAuth::Given => Auth::Given,
        VaultAuth::TokenEnv(variable) => Auth::Env(env(At(path), "token_env", variable)?),
        VaultAuth::TokenFile(own) => {
            let path = format!("{path}.token_file");
            let at = At(&path);
            let poll = at.within("poll", own.poll, Duration::from_secs(1)..=WEEK)?;
            Auth::File { path: file(at, "path", &own.path)?, poll }
        }
        VaultAuth::Approle(own) => {
            let path = format!("{path}.approle");
            let at = At(&path);
            if own.secret_id_file.is_some() && own.secret_id_env.is_some() {
                return Err(
                    at.refuse("secret_id_env", "stands beside secret_id_file; name one of them")
                );
            }
            let text = own.secret_id_file.as_deref();
            let variable = own.secret_id_env.as_deref();
            Auth::AppRole {
                mount: mount(at, &own.mount)?,
                role_id: name(at, "role_id", &own.role_id)?,
                file: text.map(|text| file(at, "secret_id_file", text)).transpose()?,
                env: variable.map(|text| env(at, "secret_id_env", text)).transpose()?,
            }
        }
        VaultAuth::Kubernetes(own) => {
            let path = format!("{path}.kubernetes");
            let at = At(&path);
            Auth::Kubernetes {
                mount: mount(at, &own.mount)?,
                role: name(at, "role", &own.role)?,
                file: file(at, "jwt_file", &own.jwt_file)?,
            }
        }
        VaultAuth::Cert(own) => {
            let path = format!("{path}.cert");
            let at = At(&path);
            let role = own.name.as_deref();
            Auth::Cert {
                mount: mount(at, &own.mount)?,
                name: role.map(|text| name(at, "name", text)).transpose()?,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::vault::{
        AppRoleConfig, CertAuthConfig, KubernetesAuthConfig, TokenFileConfig,
    };

    fn refused(change: impl FnOnce(&mut VaultConfig)) -> String {
        let mut config = VaultConfig::default();
        change(&mut config);
        Settings::of(&config, "vault").unwrap_err().field
    }

    #[test]
    fn every_field_is_checked_and_named() {
        assert_eq!(Settings::of(&VaultConfig::default(), "vault").unwrap(), Settings::default());
        let ms = Duration::from_millis;
        assert_eq!(refused(|c| c.urls = vec!["http://a".into(); 17]), "vault.urls");
        assert_eq!(refused(|c| c.urls = vec!["redis://a".into()]), "vault.urls[0]");
        assert_eq!(
            refused(|c| c.urls = vec!["https://a:1".into(), String::new()]),
            "vault.urls[1]"
        );
        for bad in ["", "a\nb", &"x".repeat(513)] {
            assert_eq!(refused(|c| c.namespace = Some(bad.to_owned())), "vault.namespace");
        }
        assert_eq!(
            refused(|c| c.mounts = [("a//b".to_owned(), KvVersion::V2)].into()),
            "vault.mounts.a//b"
        );
        for span in [Duration::ZERO, ms(9), Duration::MAX] {
            assert_eq!(refused(|c| c.timeout = span), "vault.timeout");
        }
        for size in [0, 1_023, usize::MAX] {
            assert_eq!(refused(|c| c.max_bytes = size), "vault.max_bytes");
        }
        assert_eq!(refused(|c| c.token.from = f64::NAN), "vault.token.from");
        assert_eq!(refused(|c| c.leases.backoff = ms(1)), "vault.leases.backoff");
        assert_eq!(refused(|c| c.auth = VaultAuth::TokenEnv("A=B".into())), "vault.auth.token_env");
        let file = TokenFileConfig { path: "/t".into(), poll: ms(999) };
        assert_eq!(refused(|c| c.auth = VaultAuth::TokenFile(file)), "vault.auth.token_file.poll");
        let file = TokenFileConfig::default();
        assert_eq!(refused(|c| c.auth = VaultAuth::TokenFile(file)), "vault.auth.token_file.path");
        let role = AppRoleConfig::default();
        assert_eq!(refused(|c| c.auth = VaultAuth::Approle(role)), "vault.auth.approle.role_id");
        let role = AppRoleConfig {
            role_id: "r".into(),
            secret_id_file: Some("/s".into()),
            secret_id_env: Some("S".into()),
            ..AppRoleConfig::default()
        };
        assert_eq!(
            refused(|c| c.auth = VaultAuth::Approle(role)),
            "vault.auth.approle.secret_id_env"
        );
        let role = KubernetesAuthConfig::default();
        assert_eq!(refused(|c| c.auth = VaultAuth::Kubernetes(role)), "vault.auth.kubernetes.role");
        let cert = CertAuthConfig { name: None, mount: "../x".into() };
        assert_eq!(refused(|c| c.auth = VaultAuth::Cert(cert)), "vault.auth.cert.mount");
    }

    #[test]
    fn a_path_belongs_to_the_longest_mount() {
        let mounts = [("kv".to_owned(), KvVersion::V1), ("kv/team/".to_owned(), KvVersion::V2)];
        let config = VaultConfig { mounts: mounts.into_iter().collect(), ..VaultConfig::default() };
        let settings = Settings::of(&config, "vault").unwrap();
        assert_eq!(settings.mount("kv/team/a/b"), Some(("kv/team", KvVersion::V2, "a/b")));
        assert_eq!(settings.mount("kv/teams"), Some(("kv", KvVersion::V1, "teams")));
        assert_eq!((settings.mount("kv"), settings.mount("kvx/a")), (None, None));
    }
}
