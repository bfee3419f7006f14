//! Who signs: an access key, its secret, and for temporary credentials a session token. Never
//! printed, never serialized; what a person writes is in [`crate::config::StorageConfig`].

use std::sync::Arc;

use crate::config::field::At;
use crate::config::{ConfigError, StorageConfig};
use crate::secret::Secret;

/// Credentials that requests are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The access key: a name, not a secret; it stands in every signed request.
    pub access_key: Arc<str>,
    /// The secret of it.
    pub secret_key: Secret,
    /// The token of temporary credentials.
    pub session_token: Option<Secret>,
}

/// Where a credential is kept, for whoever can look there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// An environment variable.
    Variable(&'a str),
    /// A file.
    File(&'a str),
}

/// What requests to storage are made with: the compiled [`StorageConfig`]. [`Default`] asks as
/// nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The region in the scope of signatures.
    pub region: Arc<str>,
    /// Who signs; `None`: requests are not signed.
    pub credentials: Option<Credentials>,
    /// Whether bodies are part of the signature.
    pub sign_payload: bool,
    /// How often a download goes on after a break, until another MiB has come; and an upload after a
    /// failed call, until another part is there.
    pub resumes: u8,
}

impl Default for Settings {
    fn default() -> Self {
        let StorageConfig { region, sign_payload, resumes, .. } = StorageConfig::default();
        Settings { region: region.into(), credentials: None, sign_payload, resumes }
    }
}

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it. `read` looks up variables and
    /// files; white space around what it finds is cut off, and what is empty is not there.
    ///
    /// # Errors
    /// What [`StorageConfig::check`] refuses, a variable or file that is named and not there, and
    /// one half of the credentials without the other.
    pub fn of(
        config: &StorageConfig,
        path: &str,
        read: impl Fn(Place<'_>) -> Option<String>,
    ) -> Result<Settings, ConfigError> {
        config.check(path)?;
        let at = At(path);
        let found = |field: &str, variable: &Option<String>, file: &Option<String>| {
            for (kind, place) in [
                ("env", variable.as_deref().map(Place::Variable)),
                ("file", file.as_deref().map(Place::File)),
            ] {
                let Some(place) = place else { continue };
                return match read(place).as_deref().and_then(Secret::new) {
                    Some(text) => Ok(Some(text)),
                    None => {
                        let (Place::Variable(name) | Place::File(name)) = place;
                        let shown: String = name.chars().take(200).collect();
                        let reason = format!("{shown:?} is not there, or empty");
                        Err(at.refuse(format!("{field}_{kind}"), reason))
                    }
                };
            }
            Ok(None)
        };
        let access_key = match found("access_key", &config.access_key_env, &config.access_key_file)?
        {
            Some(found) => Some(found.expose().to_owned()),
            None => config.access_key.clone(),
        };
        let secret_key = found("secret_key", &config.secret_key_env, &config.secret_key_file)?
            .or_else(|| config.secret_key.clone());
        let session_token =
            found("session_token", &config.session_token_env, &config.session_token_file)?
                .or_else(|| config.session_token.clone());
        let credentials = match (access_key, secret_key) {
            (Some(access_key), Some(secret_key)) => {
                if !is_access_key(&access_key) {
                    return Err(at.refuse("access_key", ACCESS_KEY));
                }
                let token = session_token.as_ref().map(Secret::expose);
                if token.is_some_and(|token| !token.bytes().all(|c| c.is_ascii_graphic())) {
                    return Err(at.refuse("session_token", "contains what no header can"));
                }
                Some(Credentials { access_key: access_key.into(), secret_key, session_token })
            }
            (Some(_), None) => return Err(at.refuse("secret_key", "is missing for access_key")),
            (None, Some(_)) => return Err(at.refuse("access_key", "is missing for secret_key")),
            (None, None) if session_token.is_some() => {
                return Err(at.refuse("access_key", "is missing for session_token"));
            }
            (None, None) => None,
        };
        let StorageConfig { region, sign_payload, resumes, .. } = config;
        let (sign_payload, resumes) = (*sign_payload, *resumes);
        Ok(Settings { region: region.as_str().into(), credentials, sign_payload, resumes })
    }
}

pub(crate) const ACCESS_KEY: &str =
    "has 1 to 128 visible ASCII characters, and neither '/' nor ','";

/// Whether a text can be an access key: it stands between slashes and commas in a header.
pub(crate) fn is_access_key(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b'/' | b','))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn nothing(_: Place<'_>) -> Option<String> {
        None
    }

    fn keyed(access: &str, secret: &str) -> StorageConfig {
        StorageConfig {
            access_key: Some(access.to_owned()),
            secret_key: Secret::new(secret),
            ..StorageConfig::default()
        }
    }

    #[test]
    fn nobody_is_the_default() {
        let settings = Settings::of(&StorageConfig::default(), "storage", nothing).unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.credentials, None);
    }

    #[test]
    fn credentials_come_from_variables_files_or_the_configuration() {
        let mut config = keyed("from-config", "s3cret-of-config");
        let settings = Settings::of(&config, "storage", nothing).unwrap();
        assert_eq!(&*settings.credentials.unwrap().access_key, "from-config");
        config.access_key_env = Some("KEY".to_owned());
        config.secret_key_file = Some("/run/secret".to_owned());
        config.session_token_file = Some("/run/token".to_owned());
        let read = |place: Place<'_>| match place {
            Place::Variable("KEY") => Some("from-variable".to_owned()),
            Place::File("/run/secret") => Some("from-file\n".to_owned()),
            Place::File("/run/token") => Some("t0ken".to_owned()),
            _ => None,
        };
        let credentials = Settings::of(&config, "storage", read).unwrap().credentials.unwrap();
        assert_eq!(&*credentials.access_key, "from-variable");
        assert_eq!(credentials.secret_key.expose(), "from-file");
        assert_eq!(credentials.session_token.as_ref().unwrap().expose(), "t0ken");
        let shown = format!("{credentials:?}");
        assert!(!shown.contains("from-file") && !shown.contains("t0ken"), "{shown}");
    }

    #[test]
    fn what_is_missing_or_odd_is_refused_by_its_field() {
        let refused = |change: &dyn Fn(&mut StorageConfig)| {
            let mut config = keyed("key", "s3cret");
            change(&mut config);
            let error = Settings::of(&config, "storage", nothing).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
            error.field
        };
        assert_eq!(refused(&|c| c.secret_key = None), "storage.secret_key");
        assert_eq!(refused(&|c| c.access_key = None), "storage.access_key");
        let only_token = |c: &mut StorageConfig| {
            (c.access_key, c.secret_key) = (None, None);
            c.session_token = Secret::new("t");
        };
        assert_eq!(refused(&only_token), "storage.access_key");
        assert_eq!(refused(&|c| c.secret_key_env = Some("NO".into())), "storage.secret_key_env");
        assert_eq!(refused(&|c| c.access_key_file = Some("/n".into())), "storage.access_key_file");
        for odd in ["", "a/b", "a,b", "a b", "ä", &"k".repeat(129)] {
            assert_eq!(refused(&|c| c.access_key = Some(odd.into())), "storage.access_key");
        }
        let odd = |c: &mut StorageConfig| c.session_token = Secret::new("a\nb");
        assert_eq!(refused(&odd), "storage.session_token");
        for odd in ["", "a/b", "a b", &"r".repeat(65)] {
            assert_eq!(refused(&|c| c.region = odd.into()), "storage.region");
        }
        assert_eq!(refused(&|c| c.resumes = 101), "storage.resumes");
        for span in [0, 999, 700_000_000] {
            assert_eq!(refused(&|c| c.poll = Duration::from_millis(span)), "storage.poll");
        }
    }
}
