//! The PEM files of an identity (authorities, certificate, key), read again now and then (003-47): a
//! certificate that somebody renews on disk is used without a restart. One machine for whatever has
//! such files: the client itself ([`Desk`](super::Desk)) and Consul's agents
//! ([`followed`](crate::consul::followed)). Whether the content is any good is for the driver to say.
//!
//! How files that belong together are looked at is [`crate::files`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::ConfigError;
use crate::config::field::{At, WEEK};
use crate::files;
use crate::job::Poll;
use crate::time::Time;

pub use crate::files::{Look, MOST, read};

/// Shortest span between two looks.
pub const SHORTEST: Duration = Duration::from_millis(100);

/// Which files, and how often they are looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings(files::Settings<3>);

impl Settings {
    /// The files of the authorities, the certificate and the key, each empty for none, as they
    /// stand at `path`, and the span between two looks, 100 ms to 7 days.
    ///
    /// # Errors
    /// The first field that cannot be meant: `poll`, or `cert` without `key` and the reverse.
    pub fn of(
        [ca, cert, key]: [&str; 3],
        poll: Duration,
        path: &str,
    ) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.within("poll", poll, SHORTEST..=WEEK)?;
        if cert.is_empty() != key.is_empty() {
            let reason = "a certificate needs its key, and a key its certificate";
            return Err(at.refuse("cert", reason));
        }
        let path = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
        Ok(Settings(files::Settings { paths: [path(ca), path(cert), path(key)], poll }))
    }

    /// Whether there is any file.
    #[must_use]
    pub fn any(&self) -> bool {
        self.0.paths.iter().any(Option::is_some)
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

/// The machine: [`crate::files::Files`] over three files that have names.
#[derive(Clone, Debug)]
pub struct Files(files::Files<3>);

impl Files {
    /// For content that is in use since now, by its digest.
    #[must_use]
    pub fn new(now: Time, used: u64, settings: &Settings) -> Files {
        Files(files::Files::new(now, used, &settings.0))
    }

    /// When [`Files::poll`] has something to do.
    #[must_use]
    pub fn due(&self) -> Time {
        self.0.due()
    }

    /// The next file to read, if one is due; else when to ask again.
    pub fn poll(&mut self, now: Time, settings: &Settings) -> Poll<Look> {
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
        read: Result<Option<Bytes>, Arc<str>>,
        settings: &Settings,
    ) -> Result<Option<Content>, Arc<str>> {
        let content = self.0.done(now, id, read, &settings.0)?;
        Ok(content.map(|files::Content([ca, cert, key])| Content { ca, cert, key }))
    }
}

#[cfg(test)]
mod tests;
