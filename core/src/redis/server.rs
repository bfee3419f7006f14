//! Where Redis is and how one logs in. A URL may carry a password, so its text is a type that
//! shows itself without it; what logs in ([`Login`]) is apart from what may be printed and
//! stored ([`Server`]).

use core::net::Ipv6Addr;
use std::fmt;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::secret::Secret;

/// Port of Redis where the URL names none.
pub const DEFAULT_PORT: u16 = 6379;
/// Longest URL, user name and password accepted, in bytes.
const MOST: usize = 2048;

/// The text of a URL as a person writes it. It shows and serializes itself without the password;
/// [`RedisUrl::parse`] reads all of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RedisUrl(Arc<str>);

impl RedisUrl {
    /// Any text; it is checked when it is parsed.
    #[must_use]
    pub fn new(text: &str) -> RedisUrl {
        RedisUrl(text.into())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads `redis://[user[:password]@]host[:port][/db]`, `rediss://` for TLS, or
    /// `unix:///path[?db=n]`.
    ///
    /// # Errors
    /// [`BadUrl`], which repeats nothing of the text.
    pub fn parse(&self) -> Result<(Server, Login), BadUrl> {
        let text = &*self.0;
        if text.is_empty() {
            return Err(BadUrl::Empty);
        }
        if text.len() > MOST {
            return Err(BadUrl::TooLong(text.len()));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(BadUrl::Space);
        }
        let (scheme, rest) = text.split_once("://").ok_or(BadUrl::Scheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "redis" => tcp(rest, false),
            "rediss" => tcp(rest, true),
            "unix" | "redis+unix" => Ok((unix(rest)?, Login::default())),
            _ => Err(BadUrl::Scheme),
        }
    }
}

fn tcp(rest: &str, tls: bool) -> Result<(Server, Login), BadUrl> {
    if rest.contains(['?', '#']) {
        return Err(BadUrl::Query);
    }
    // A password may contain '@' where nobody encoded it; a host cannot.
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    };
    let (place, db) = place.split_once('/').unwrap_or((place, ""));
    let (host, port) = if let Some(inner) = place.strip_prefix('[') {
        let (host, port) = inner.split_once(']').ok_or(BadUrl::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| BadUrl::Host)?;
        (
            host,
            if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(BadUrl::Port)?) },
        )
    } else {
        let (host, port) = place.split_once(':').map_or((place, None), |(h, p)| (h, Some(p)));
        check_host(host)?;
        (host, port)
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(text) => port_of(text).ok_or(BadUrl::Port)?,
    };
    let login = user.map_or(Ok(Login::default()), Login::of_userinfo)?;
    Ok((Server::Tcp { host: host.into(), port, tls, db: db_of(db)? }, login))
}

fn unix(rest: &str) -> Result<Server, BadUrl> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.len() < 2 {
        return Err(BadUrl::Path);
    }
    let db = match query {
        "" => "",
        query => query.strip_prefix("db=").ok_or(BadUrl::Query)?,
    };
    Ok(Server::Unix { path: path.into(), db: db_of(db)? })
}

/// Whether `host` can be a host name or an IPv4 address.
pub(crate) fn check_host(host: &str) -> Result<(), BadUrl> {
    let fine = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    if host.is_empty() || host.len() > 253 || !host.bytes().all(fine) {
        return Err(BadUrl::Host);
    }
    Ok(())
}

/// A port of 1–65535 in decimal digits and nothing else.
pub(crate) fn port_of(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

fn db_of(text: &str) -> Result<u16, BadUrl> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.is_empty() {
        return Ok(0);
    }
    let digits = text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(BadUrl::Db)
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parse() {
            Ok((server, _)) => server.fmt(f),
            // Nobody knows where in it a password begins.
            Err(_) if self.is_empty() => Ok(()),
            Err(_) => f.write_str("…"),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RedisUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<RedisUrl, D::Error> {
        Ok(RedisUrl(String::deserialize(from)?.into()))
    }
}

/// Why a text is not the URL of a Redis. Repeats nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum BadUrl {
    /// There is none.
    #[error("is empty; write redis://host:6379")]
    Empty,
    /// Too long.
    #[error("has {0} bytes, more than 2048")]
    TooLong(usize),
    /// White space or control characters.
    #[error("contains white space or control characters")]
    Space,
    /// Another scheme, or none.
    #[error("does not begin with redis://, rediss:// or unix://")]
    Scheme,
    /// The host is missing or none.
    #[error("has no valid host")]
    Host,
    /// The port is not a number of 1–65535.
    #[error("has a port that is not between 1 and 65535")]
    Port,
    /// The database is not a number of 0–65535.
    #[error("has a database that is not a number between 0 and 65535")]
    Db,
    /// A query or fragment where none is understood.
    #[error("has a query or fragment that is not understood")]
    Query,
    /// A socket without an absolute path.
    #[error("has no absolute path of a socket")]
    Path,
    /// User name or password are not UTF-8 once decoded.
    #[error("has a user name or password that is not UTF-8 once decoded")]
    User,
}

/// Where Redis is. Free of secrets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    /// Over TCP.
    Tcp {
        /// Host name or address, IPv6 without brackets.
        host: Arc<str>,
        /// Port.
        port: u16,
        /// Whether TLS is spoken.
        tls: bool,
        /// The database to select.
        db: u16,
    },
    /// Over a Unix socket.
    Unix {
        /// Its absolute path.
        path: Arc<str>,
        /// The database to select.
        db: u16,
    },
}

impl Server {
    /// The database to select after connecting.
    #[must_use]
    pub const fn db(&self) -> u16 {
        match self {
            Server::Tcp { db, .. } | Server::Unix { db, .. } => *db,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Server::Tcp { host, port, tls, db } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "{scheme}://{open}{host}{close}:{port}/{db}")
            }
            Server::Unix { path, db: 0 } => write!(f, "unix://{path}"),
            Server::Unix { path, db } => write!(f, "unix://{path}?db={db}"),
        }
    }
}

/// Files for TLS, by their paths. The driver reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tls {
    /// PEM file with the authorities that are trusted; `None`: those of the system.
    pub ca: Option<Arc<str>>,
    /// PEM files with the client's certificate chain and its key.
    pub client: Option<(Arc<str>, Arc<str>)>,
}

/// How one logs in: `AUTH [user] password`. Prints neither part's secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// User name of an ACL; `None` for the default user.
    pub username: Option<Arc<str>>,
    /// Password; `None`: no login.
    pub password: Option<Secret>,
}

impl Login {
    fn of_userinfo(text: &str) -> Result<Login, BadUrl> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let decode = |text: &str| {
            percent_decode_str(text)
                .decode_utf8()
                .map(|text| text.into_owned())
                .map_err(|_| BadUrl::User)
        };
        let username = Some(decode(user)?).filter(|user| !user.is_empty()).map(Arc::from);
        Ok(Login { username, password: Secret::exact(&decode(password)?) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Result<String, BadUrl> {
        RedisUrl::new(text).parse().map(|(server, _)| server.to_string())
    }

    #[test]
    fn every_written_form_has_a_meaning() {
        for (text, meaning) in [
            ("redis://cache", "redis://cache:6379/0"),
            ("REDIS://cache:7000/3", "redis://cache:7000/3"),
            ("rediss://10.0.0.1/", "rediss://10.0.0.1:6379/0"),
            ("redis://[::1]:6380/2", "redis://[::1]:6380/2"),
            ("redis://[fe80::1]", "redis://[fe80::1]:6379/0"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock"),
            ("unix:///run/redis.sock?db=4", "unix:///run/redis.sock?db=4"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(meaning), "{text}");
        }
        for (text, error) in [
            ("", BadUrl::Empty),
            ("cache:6379", BadUrl::Scheme),
            ("http://cache", BadUrl::Scheme),
            ("redis://", BadUrl::Host),
            ("redis://:6379", BadUrl::Host),
            ("redis://a b", BadUrl::Space),
            ("redis://a\n", BadUrl::Space),
            ("redis://a:0", BadUrl::Port),
            ("redis://a:", BadUrl::Port),
            ("redis://a:+1", BadUrl::Port),
            ("redis://a:65536", BadUrl::Port),
            ("redis://[::1", BadUrl::Host),
            ("redis://[::1]6379", BadUrl::Port),
            ("redis://[localhost]", BadUrl::Host),
            ("redis://a/x", BadUrl::Db),
            ("redis://a/-1", BadUrl::Db),
            ("redis://a/65536", BadUrl::Db),
            ("redis://a?timeout=1", BadUrl::Query),
            ("redis://a,b:1", BadUrl::Host),
            ("redis://%ff@a", BadUrl::User),
            ("unix://run/x", BadUrl::Path),
            ("unix:///", BadUrl::Path),
            ("unix:///x?password=1", BadUrl::Query),
        ] {
            assert_eq!(shown(text), Err(error), "{text}");
        }
        assert_eq!(shown(&format!("redis://{}", "a".repeat(3_000))), Err(BadUrl::TooLong(3_008)));
    }

    #[test]
    fn a_login_is_read_and_never_shown() {
        for (text, user, password) in [
            ("redis://:hunter2@a", None, Some("hunter2")),
            ("redis://app:hunter2@a:1/0", Some("app"), Some("hunter2")),
            ("redis://app:h%40unter2@a", Some("app"), Some("h@unter2")),
            ("redis://app:h@unter2@a", Some("app"), Some("h@unter2")),
            ("redis://app@a", Some("app"), None),
            ("redis://@a", None, None),
        ] {
            let url = RedisUrl::new(text);
            let (server, login) = url.parse().unwrap();
            assert_eq!(login.username.as_deref(), user, "{text}");
            assert_eq!(login.password.as_ref().map(Secret::expose), password, "{text}");
            let json = serde_json::to_string(&url).unwrap();
            let shown = format!("{url} {url:?} {server} {server:?} {login:?} {json}");
            assert!(!shown.contains("unter2"), "{shown}");
        }
        // Nor where the text cannot be read.
        let broken = RedisUrl::new("redis://app:hunter2@a:0");
        let shown = format!("{broken} {broken:?} {}", broken.parse().unwrap_err());
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    proptest! {
        #[test]
        fn any_text_is_survived_and_what_is_read_reads_back(text in "(redis://|rediss://|unix://)?[ -~]{0,40}") {
            if let Ok((server, _)) = RedisUrl::new(&text).parse() {
                let again = RedisUrl::new(&server.to_string()).parse();
                prop_assert_eq!(again, Ok((server, Login::default())));
            }
        }
    }
}
