//! Where Redis is and who we are there: as told by the application, and as checked.

use std::fmt;
use std::time::Duration;

use origin_core::ConfigError;
use origin_core::redis::Command;

use crate::identity::Identity;
use crate::roots::Roots;

/// Longest limit of connecting that can be meant.
const LONGEST: Duration = Duration::from_secs(60);
/// The port of Redis.
const PORT: u16 = 6379;

/// How to reach a Redis server. Its `Debug` shows neither password nor user.
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisOptions {
    /// `redis://[user[:password]@]host[:port][/database]`, or `rediss` for TLS (feature
    /// `redis-tls`). Port 6379 and database 0 where it does not say. What stands for itself in
    /// user and password (`@`, `/`, `:`, `%`) is written `%40` and so on.
    pub url: String,
    /// The user of the access list (Redis 6). Default: that of the URL, else the server's
    /// `default`.
    pub username: Option<String>,
    /// The password. Default: that of the URL, else none. Empty counts as none.
    pub password: Option<String>,
    /// Limit of lookup, connection, TLS handshake and login together. Default 1 s.
    pub connect_timeout: Duration,
    /// The certificate we show, where the server asks for one. Default none.
    pub identity: Option<Identity>,
}

impl RedisOptions {
    /// The server at `url`, all else by default.
    #[must_use]
    pub fn at(url: impl Into<String>) -> RedisOptions {
        RedisOptions {
            url: url.into(),
            username: None,
            password: None,
            connect_timeout: Duration::from_secs(1),
            identity: None,
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.rsplit_once('@').map_or(&*self.url, |(_, place)| place);
        f.debug_struct("RedisOptions")
            .field("url", &url)
            .field("username", &self.username.as_ref().map(|_| "…"))
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("connect_timeout", &self.connect_timeout)
            .field("identity", &self.identity)
            .finish()
    }
}

/// The same, checked, and in the form in which it is used.
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) connect: Duration,
    /// What is said first on every connection: who we are, and which database.
    pub(super) login: Vec<Command>,
    #[cfg(feature = "redis-tls")]
    pub(super) tls: Option<super::connection::Tls>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({}:{})", self.host, self.port)
    }
}

impl Target {
    pub(super) fn of(options: &RedisOptions, roots: &Roots) -> Result<Target, ConfigError> {
        if options.connect_timeout.is_zero() || options.connect_timeout > LONGEST {
            let found = options.connect_timeout;
            let reason = format!("{found:?} is not between 1 ns and {LONGEST:?}");
            return Err(ConfigError::new("redis.connect_timeout", reason));
        }
        let refused = |reason: &str| Err(ConfigError::new("redis.url", reason));
        let Some((scheme, rest)) = options.url.trim().split_once("://") else {
            return refused("is not redis://host:port or rediss://host:port");
        };
        let secure = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return refused("its scheme is neither redis nor rediss"),
        };
        // Not first: a password that was not written as it should be may hold any of these.
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(u, p)| (Some(u), p));
        if place.contains(['?', '#']) {
            return refused("has a query or a fragment, which mean nothing here");
        }
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        let Some((host, port)) = authority_of(authority) else {
            return refused("its host is missing or not valid, or its port is not 1 to 65535");
        };
        let database: u16 = match database {
            "" => 0,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse() {
                Ok(database) => database,
                Err(_) => return refused("its database is above 65535"),
            },
            _ => return refused("what follows the host is not the number of a database"),
        };
        let login = login(options, user, database)?;
        let identified = options.identity.is_some();
        if identified && !secure {
            let reason = "is given, but the URL is not rediss, so nobody would see it";
            return Err(ConfigError::new("redis.identity", reason));
        }
        #[cfg(not(feature = "redis-tls"))]
        if secure {
            let _ = roots;
            return refused("asks for TLS, but this was built without the feature `redis-tls`");
        }
        Ok(Target {
            #[cfg(feature = "redis-tls")]
            tls: match secure {
                true => Some(super::connection::Tls::new(&host, options, roots)?),
                false => None,
            },
            host,
            port,
            connect: options.connect_timeout,
            login,
        })
    }
}

/// Host, without the brackets of IPv6, and port.
fn authority_of(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p)));
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            (!host.is_empty() && host.len() <= 253 && host.bytes().all(plain)).then_some(())?;
            (host, port)
        }
    };
    let port = match port {
        None => PORT,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
    };
    (port != 0).then(|| (host.to_owned(), port))
}

/// What to say first.
fn login(
    options: &RedisOptions,
    user: Option<&str>,
    database: u16,
) -> Result<Vec<Command>, ConfigError> {
    let (name, password) = user.map_or(("", ""), |user| user.split_once(':').unwrap_or((user, "")));
    let one = |field: &str, own: &Option<String>, of_url: &str| {
        let of_url = unescape(of_url).ok_or_else(|| {
            ConfigError::new("redis.url", format!("its {field} holds a % without two hex digits"))
        })?;
        match own.as_deref().unwrap_or_default().as_bytes() {
            [] => Ok(of_url),
            own if of_url.is_empty() => Ok(own.to_vec()),
            _ => Err(ConfigError::new(format!("redis.{field}"), "is in redis.url, too")),
        }
    };
    let name = one("username", &options.username, name)?;
    let password = one("password", &options.password, password)?;
    let mut login = Vec::new();
    match (&*name, &*password) {
        ([], []) => {}
        ([], password) => login.push(Command::new(&[b"AUTH", password])),
        (_, []) => {
            return Err(ConfigError::new("redis.password", "is missing, and there is a username"));
        }
        (name, password) => login.push(Command::new(&[b"AUTH", name, password])),
    }
    if database != 0 {
        login.push(Command::new(&[b"SELECT", database.to_string().as_bytes()]));
    }
    Ok(login)
}

/// Text with `%40` and so on as what it stands for.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        plain.push(match byte {
            b'%' => u8::try_from(digit()? * 16 + digit()?).ok()?,
            byte => byte,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, ConfigError> {
        Target::of(&RedisOptions::at(url), &Roots::WebPki)
    }

    fn words(url: &str) -> Vec<String> {
        let login = target(url).unwrap().login;
        let word = |word: &bytes::Bytes| String::from_utf8_lossy(word).into_owned();
        login
            .iter()
            .map(|Command(words)| words.iter().map(word).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn urls_say_where_and_who() {
        let place = |url| target(url).map(|t| (t.host, t.port)).unwrap();
        assert_eq!(place("redis://cache"), ("cache".to_owned(), 6379));
        assert_eq!(place("redis://10.0.0.1:7000/"), ("10.0.0.1".to_owned(), 7000));
        assert_eq!(place("redis://[::1]"), ("::1".to_owned(), 6379));
        assert_eq!(place("redis://u:p@[fe80::1]:1/3"), ("fe80::1".to_owned(), 1));
        assert!(words("redis://cache/0").is_empty());
        assert_eq!(words("redis://cache/12"), ["SELECT 12"]);
        assert_eq!(words("redis://:secret@cache"), ["AUTH secret"]);
        assert_eq!(
            words("redis://app:s%40c%2Fret%25:x@cache/1"),
            ["AUTH app s@c/ret%:x", "SELECT 1"]
        );
        assert_eq!(words("redis://:a@b@cache"), ["AUTH a@b"]);
    }

    #[test]
    fn bad_options_are_refused_by_their_field_and_without_their_secret() {
        for url in [
            "",
            "cache:6379",
            "http://cache",
            "redis://",
            "redis://:6379",
            "redis://ca che",
            "redis://cache:0",
            "redis://cache:65536",
            "redis://cache:+1",
            "redis://cache:",
            "redis://cache/a",
            "redis://cache/-1",
            "redis://cache/65536",
            "redis://cache/1/2",
            "redis://cache/0?db=1",
            "redis://cache#1",
            "redis://[::1",
            "redis://[x]",
            "redis://[::1]6",
            "redis://:hunter2%4@cache",
            "redis://:hunter2%zz@cache",
            "redis://:hunter2@",
            "redis://cache\u{e9}",
            "unix:///run/redis",
        ] {
            let error = target(url).unwrap_err();
            assert_eq!(error.field, "redis.url", "{url}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        let refused = |change: fn(&mut RedisOptions)| {
            let mut options = RedisOptions::at("redis://app@cache");
            options.password = Some("hunter2".to_owned());
            assert!(Target::of(&options, &Roots::WebPki).is_ok());
            change(&mut options);
            let error = Target::of(&options, &Roots::WebPki).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            error.field
        };
        assert_eq!(refused(|o| o.connect_timeout = Duration::ZERO), "redis.connect_timeout");
        assert_eq!(refused(|o| o.connect_timeout = Duration::MAX), "redis.connect_timeout");
        assert_eq!(refused(|o| o.username = Some("b".to_owned())), "redis.username");
        assert_eq!(refused(|o| o.password = None), "redis.password");
        assert_eq!(refused(|o| o.password = Some(String::new())), "redis.password");
        assert_eq!(refused(|o| o.url = "redis://a:b@cache".to_owned()), "redis.password");
        assert_eq!(refused(|o| o.identity = Some(Identity::pem("", "hunter2"))), "redis.identity");
    }

    #[test]
    fn secrets_do_not_show() {
        let mut options = RedisOptions::at("redis://app:hunter2@cache:1/2");
        assert!(format!("{options:?}").contains("cache:1/2"));
        let target = target(&options.url).unwrap();
        options.password = Some("hunter2".to_owned());
        options.identity = Some(Identity::pem("", "hunter2"));
        let shown = format!("{options:?} {target:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("app"), "{shown}");
    }

    #[cfg(not(feature = "redis-tls"))]
    #[test]
    fn tls_that_is_not_built_in_is_said() {
        assert!(target("rediss://cache").unwrap_err().reason.contains("redis-tls"));
    }
}
