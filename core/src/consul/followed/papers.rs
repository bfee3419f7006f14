//! The files of TLS towards the agents, read again now and then (003-47): a certificate that
//! somebody renews on disk is used without a restart. How they are looked at is [`crate::files`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Failure;
use crate::config::field::{At, WEEK};
use crate::config::{ConfigError, ConsulTlsConfig};
use crate::files::{self, Files};
use crate::time::Time;

pub use crate::files::{Look, MOST};

/// A checked [`ConsulTlsConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings(files::Settings<3>);

impl Settings {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// The first field that cannot be meant.
    pub fn of(config: &ConsulTlsConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.within("poll", config.poll, Duration::from_secs(1)..=WEEK)?;
        if config.cert.is_empty() != config.key.is_empty() {
            let reason = "a certificate needs its key, and a key its certificate";
            return Err(at.refuse("cert", reason));
        }
        let path = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
        let paths = [path(&config.ca), path(&config.cert), path(&config.key)];
        Ok(Settings(files::Settings { paths, poll: config.poll }))
    }
}

/// The content of the files; `None` for one that is not configured.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Of the authority.
    pub ca: Option<Bytes>,
    /// The certificate.
    pub cert: Option<Bytes>,
    /// Its key.
    pub key: Option<Bytes>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content(\u{2026})")
    }
}

impl Content {
    /// A number that differs when the content does.
    #[must_use]
    pub fn digest(&self) -> u64 {
        files::Content([self.ca.clone(), self.cert.clone(), self.key.clone()]).digest()
    }
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Papers(Files<3>);

impl Papers {
    /// For content that is in use since now, by its digest.
    #[must_use]
    pub fn new(now: Time, used: u64, settings: &Settings) -> Papers {
        Papers(Files::new(now, used, &settings.0))
    }

    /// The next file to read, if one is due; else when to ask again.
    pub fn poll(&mut self, now: Time, settings: &Settings) -> crate::job::Poll<Look> {
        self.0.poll(now, &settings.0)
    }

    /// Takes what was read. Yields content that is new and holds still: to be put in force.
    ///
    /// # Errors
    /// A file that cannot be read, the first of a row.
    pub fn done(
        &mut self,
        now: Time,
        id: u64,
        read: Result<Bytes, Arc<str>>,
        settings: &Settings,
    ) -> Result<Option<Content>, Failure> {
        let retry_in: Duration = settings.0.poll;
        let found = self.0.done(now, id, read, &settings.0);
        let content = found.map_err(|reason| Failure { reason, retry_in })?;
        Ok(content.map(|files::Content([ca, cert, key])| Content { ca, cert, key }))
    }
}

#[cfg(test)]
mod tests;
