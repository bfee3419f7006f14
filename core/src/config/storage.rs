//! Storage as a person configures it: who signs, for which region. Where storage is, discovery or
//! the configured endpoints of the service `storage` tell. Addresses are in path style, always:
//! `{endpoint}/{bucket}/{key}`. What is done with it is in [`crate::s3`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::field::{At, WEEK};
use crate::s3::credentials::{ACCESS_KEY, is_access_key};
use crate::secret::Secret;

/// How requests to the service `storage` are signed. Without an access key they are not: storage
/// is then asked as nobody.
///
/// Of each credential a variable wins over a file and a file over the text. Neither `Debug` nor a
/// serialized configuration shows secrets; one that was serialized has to be given them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// The region in the scope of signatures. MinIO takes `us-east-1` unless told otherwise,
    /// which is the default.
    pub region: String,
    /// The access key: a name, not a secret.
    pub access_key: Option<String>,
    /// Name of the environment variable that holds it. Read once, when the client is built.
    pub access_key_env: Option<String>,
    /// File that holds it, read again every `poll`.
    pub access_key_file: Option<String>,
    /// The secret of the access key.
    #[serde(skip_serializing)]
    pub secret_key: Option<Secret>,
    /// Name of the environment variable that holds it.
    pub secret_key_env: Option<String>,
    /// File that holds it.
    pub secret_key_file: Option<String>,
    /// The token of temporary credentials.
    #[serde(skip_serializing)]
    pub session_token: Option<Secret>,
    /// Name of the environment variable that holds it.
    pub session_token_env: Option<String>,
    /// File that holds it.
    pub session_token_file: Option<String>,
    /// From one look at the files to the next, 1 s – 7 days. Default 30 s. What has changed, and is
    /// still the same a second later, signs what is sent from then on.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub poll: Duration,
    /// Whether the body is part of the signature, so that nobody on the way can change it. `false`
    /// saves hashing it, and should be left to `https`. Default `true`.
    pub sign_payload: bool,
    /// How often a download goes on after a break, until another MiB has come; and an upload after a
    /// failed call, until another part is there. 0–100, default 5; 0: a break is the caller's.
    pub resumes: u8,
}

impl Default for StorageConfig {
    fn default() -> Self {
        StorageConfig {
            region: "us-east-1".to_owned(),
            access_key: None,
            access_key_env: None,
            access_key_file: None,
            secret_key: None,
            secret_key_env: None,
            secret_key_file: None,
            session_token: None,
            session_token_env: None,
            session_token_file: None,
            poll: Duration::from_secs(30),
            sign_payload: true,
            resumes: 5,
        }
    }
}

impl StorageConfig {
    /// Checks what can be checked without looking at variables and files. `path` is where it
    /// stands.
    ///
    /// # Errors
    /// The first refused field.
    pub fn check(&self, path: &str) -> Result<(), ConfigError> {
        let at = At(path);
        let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        if !(1..=64).contains(&self.region.len()) || !self.region.bytes().all(fine) {
            return Err(at.refuse("region", "has 1 to 64 letters, digits, '-' and '_'"));
        }
        if self.access_key.as_deref().is_some_and(|key| !is_access_key(key)) {
            return Err(at.refuse("access_key", ACCESS_KEY));
        }
        at.within("poll", self.poll, Duration::from_secs(1)..=WEEK)?;
        let elsewhere =
            |env: &Option<String>, file: &Option<String>| env.is_some() || file.is_some();
        let access =
            self.access_key.is_some() || elsewhere(&self.access_key_env, &self.access_key_file);
        let secret =
            self.secret_key.is_some() || elsewhere(&self.secret_key_env, &self.secret_key_file);
        let token = self.session_token.is_some()
            || elsewhere(&self.session_token_env, &self.session_token_file);
        match (access, secret) {
            (true, false) => Err(at.refuse("secret_key", "is missing for access_key")),
            (false, true) => Err(at.refuse("access_key", "is missing for secret_key")),
            (false, false) if token => Err(at.refuse("access_key", "is missing for session_token")),
            _ => at.within("resumes", self.resumes, 0..=100).map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_000_45_secrets_are_neither_shown_nor_serialized() {
        let config = StorageConfig {
            access_key: Some("key".to_owned()),
            secret_key: Secret::new("s3cret"),
            session_token: Secret::new("t0ken"),
            ..StorageConfig::default()
        };
        let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
        assert!(shown.contains("us-east-1"), "{shown}");
        assert!(!shown.contains("s3cret") && !shown.contains("t0ken"), "{shown}");
    }

    #[test]
    fn fields_are_read_and_unknown_ones_refused() {
        let read = |text: &str| serde_json::from_str::<StorageConfig>(text);
        let config = read(r#"{"access_key":"k","secret_key":"s","sign_payload":false}"#).unwrap();
        assert_eq!(config.secret_key, Secret::new("s"));
        assert!(!config.sign_payload && config.check("storage").is_ok());
        for bad in [r#"{"endpoint":"x"}"#, r#"{"secret_key":""}"#, r#"{"resumes":300}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
