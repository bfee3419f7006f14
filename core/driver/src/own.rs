//! The client's own identity (`identity::Desk`) among its machines: files put in force through the
//! TLS exchange, the token of the service account on its way into attempts, and how a call waits
//! for the first one. When a file is read and what counts is decided in the core.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::HeaderValue;
use origin_core::Secret;
use origin_core::config::IdentityConfig;
use origin_core::identity::files::Content;
use origin_core::identity::{Desk, Leaf, Rules, View};
use origin_core::job::{JobId, JobOutcome, Poll};
use origin_core::notice::Notice;
use origin_core::{Config, ConfigError, Error, Time, Wall};

use crate::client::Client;
use crate::expect::Expectations;
use crate::hub::{Hub, Slot, lock};
use crate::identity::{Chain, Form, Identity, Piece};
use crate::observe::bell::{Bell, Noted};
use crate::roots::Roots;
use crate::runtime::Runtime;
use crate::secure::TlsChange;
use crate::vault::Wait;

/// Where the configuration says it.
const PATH: &str = "identity";

/// What is in force when a client is built.
pub(crate) struct Start {
    pub(crate) roots: Roots,
    pub(crate) identity: Option<Identity>,
    /// The digest of the files, where there are any.
    used: Option<u64>,
}

/// The identity of a client.
pub(crate) struct Own {
    pub(crate) desk: Noted<Desk>,
    /// When a call should look, in nanoseconds: keeps the lock of the desk off calls.
    due: AtomicU64,
    /// Whether there is no token at the moment.
    lacking: AtomicBool,
    /// What is in force. Locked over a whole exchange, so that exchanges are told in their order.
    pub(crate) force: Mutex<Force>,
}

/// What is in force, since when, and for how long.
pub(crate) struct Force {
    pub(crate) roots: Roots,
    pub(crate) identity: Option<Identity>,
    expect: Expectations,
    pub(crate) roots_since: Time,
    pub(crate) identity_since: Time,
    /// When the first of the authorities ends.
    pub(crate) roots_until: Option<Wall>,
}

impl Force {
    fn new(now: Time, roots: Roots, identity: Option<Identity>, expect: Expectations) -> Force {
        let (roots_until, roots_since) = (roots.until(), now);
        Force { roots, identity, expect, roots_since, identity_since: now, roots_until }
    }
}

impl Start {
    /// What the program gives, and what stands in the files of `config`.
    ///
    /// # Errors
    /// A file that cannot be read; two ways to say the same.
    pub(crate) fn of(
        config: &Config,
        roots: Roots,
        identity: Option<Identity>,
    ) -> Result<Start, ConfigError> {
        let Some(own) = &config.identity else { return Ok(Start { roots, identity, used: None }) };
        let twice = |field: &str, what: &str| {
            let reason = format!("is set, and the program gives {what} as well: say one");
            Err(ConfigError::new(format!("{PATH}.{field}"), reason))
        };
        if !own.ca.is_empty() && roots != Roots::WebPki {
            return twice("ca", "roots");
        }
        if !own.cert.is_empty() && identity.is_some() {
            return twice("cert", "an identity");
        }
        let read = |field: &str, path: &str| {
            let field = format!("{PATH}.{field}");
            let path = Some(path).filter(|path| !path.is_empty());
            path.map(|path| Piece::file(&field, Path::new(path))).transpose()
        };
        let ca = read("ca", &own.ca)?;
        let (cert, key) = (read("cert", &own.cert)?, read("key", &own.key)?);
        let bytes =
            |piece: &Option<Piece>| piece.as_ref().map(|p| Bytes::copy_from_slice(&p.bytes));
        let content = Content { ca: bytes(&ca), cert: bytes(&cert), key: bytes(&key) };
        let used = (content != Content::default()).then(|| content.digest());
        Ok(Start {
            roots: ca.map_or(roots, Roots::of),
            identity: match (cert, key) {
                (Some(chain), Some(key)) => Some(Identity { chain: Chain::Pem(chain), key }),
                _ => identity,
            },
            used,
        })
    }
}

/// A refusal of what came from files, by the fields that name them.
pub(crate) fn named(config: Option<&IdentityConfig>, error: ConfigError) -> ConfigError {
    let Some(own) = config else { return error };
    let field = match error.field.as_str() {
        "roots" if !own.ca.is_empty() => "ca",
        "identity.chain" if !own.cert.is_empty() => "cert",
        "identity.key" if !own.cert.is_empty() => "key",
        _ => return error,
    };
    ConfigError::new(format!("{PATH}.{field}"), error.reason)
}

impl Own {
    /// The identity of a client that starts with `start`; `given` is the service-account token
    /// that the program gave.
    ///
    /// # Errors
    /// A token without services, services without a token, or a token that is none.
    pub(crate) fn new(
        now: Time,
        wall: Wall,
        config: &Config,
        start: Start,
        (given, expect): (Option<&Secret>, Expectations),
        bell: &Arc<Bell>,
    ) -> Result<Own, ConfigError> {
        let refuse = |field: &str, reason: &str| {
            Err(ConfigError::new(format!("{PATH}.{field}"), reason.to_owned()))
        };
        let rules = match &config.identity {
            Some(own) => Rules::of(own, PATH)?,
            None => Rules::default(),
        };
        match given {
            Some(_) if rules.reads_token() => {
                let reason = "is set, and the program gives a service token as well: say one";
                return refuse("token_file", reason);
            }
            Some(_) if !rules.names_any() => {
                let reason = "is empty: nobody would be sent the service token of the program";
                return refuse("services", reason);
            }
            None if rules.names_any() && !rules.reads_token() => {
                let reason = "names services, and there is no token for them: set token_file, or \
                              give one to the builder (service_token)";
                return refuse("services", reason);
            }
            _ => {}
        }
        let Start { roots, identity, used } = start;
        let leaf = identity.as_ref().and_then(Identity::leaf);
        let mut desk = Desk::new(now, rules, used, leaf);
        if let Some(token) = given {
            let refused = |trouble| ConfigError::new("service_token", format!("it {trouble}"));
            desk.give(now, wall, token).map_err(refused)?;
        }
        let own = Own {
            due: AtomicU64::new(0),
            lacking: AtomicBool::new(true),
            force: Mutex::new(Force::new(now, roots, identity, expect)),
            desk: Noted::new(desk, bell),
        };
        own.note(&lock(&own.desk), now, wall);
        Ok(own)
    }

    pub(crate) fn names(&self, service: &str) -> bool {
        lock(&self.desk).names(service)
    }

    /// What calls look at without the lock, which is held.
    fn note(&self, desk: &Desk, now: Time, wall: Wall) {
        self.lacking.store(!desk.holds_token(wall), Ordering::Release);
        self.due.store(desk.due(now, wall).as_nanos(), Ordering::Release);
    }
}

impl<R: Runtime> Hub<R> {
    /// Does something to the desk, and notes what calls have to know of it.
    fn with_own<T>(&self, change: impl FnOnce(&mut Desk, Time, Wall) -> T) -> T {
        let (now, wall) = (self.runtime.now(), self.runtime.wall());
        let mut desk = lock(&self.own.desk);
        let result = change(&mut desk, now, wall);
        self.own.note(&desk, now, wall);
        result
    }

    /// Whether a call on `slot` should look after the identity first. No lock.
    pub(crate) fn identity_due(&self, slot: &Slot, now: Time) -> bool {
        now.as_nanos() >= self.own.due.load(Ordering::Acquire)
            || slot.bearer && self.own.lacking.load(Ordering::Acquire)
    }

    /// The next file to read for the identity.
    pub(crate) fn poll_identity(&self) -> Poll {
        self.with_own(Desk::poll)
    }

    /// Brings the result of such a job back; `None`: it is none. Returns whether another follows
    /// at once.
    pub(crate) fn identity_done(
        &self,
        id: JobId,
        outcome: &mut Option<JobOutcome>,
    ) -> Option<bool> {
        let outcome = outcome.take_if(|_| Desk::owns(id))?;
        if let Some(content) = self.with_own(|desk, now, wall| desk.done(now, wall, id, outcome)) {
            self.put_own(&content);
        }
        self.news.notify(usize::MAX);
        Some(false)
    }

    /// Puts files in force that have changed.
    fn put_own(&self, content: &Content) {
        let config = self.config();
        let Some(own) = &config.identity else { return };
        let piece = |bytes: &Option<Bytes>, file: &str| {
            let bytes = bytes.as_ref()?;
            Some(Piece { bytes: bytes[..].into(), file: Some(file.into()), form: Form::Pem })
        };
        let mut change = TlsChange::new();
        if let (Some(chain), Some(key)) =
            (piece(&content.cert, &own.cert), piece(&content.key, &own.key))
        {
            change = change.identity(Identity { chain: Chain::Pem(chain), key });
        }
        if let Some(ca) = piece(&content.ca, &own.ca) {
            change = change.roots(Roots::of(ca));
        }
        if let Err(error) = self.secure(change) {
            let reason = named(Some(own), error).to_string();
            self.with_own(|desk, now, _| desk.refused(now, reason.into()));
        }
    }

    /// Puts a change of TLS in force, and tells the desk of it.
    ///
    /// # Errors
    /// What cannot be used. Nothing has changed then.
    pub(crate) fn secure(&self, change: TlsChange) -> Result<(), ConfigError> {
        let mut force = lock(&self.own.force);
        let TlsChange { identity, roots, expect, .. } = &change;
        let roots = roots.clone().filter(|other| *other != force.roots);
        let identity = identity.clone().filter(|other| *other != force.identity);
        let expect = expect.clone().filter(|other| *other != force.expect);
        self.runtime.secure(change)?;
        let exchanged = roots.is_some() || identity.is_some();
        if exchanged {
            let now = self.runtime.now();
            if let Some(roots) = roots {
                (force.roots_until, force.roots_since) = (roots.until(), now);
                force.roots = roots;
            }
            if let Some(identity) = identity {
                (force.identity, force.identity_since) = (identity, now);
            }
            let leaf = force.identity.as_ref().and_then(Identity::leaf);
            self.with_own(|desk, now, wall| desk.in_force(now, wall, leaf));
        }
        let other = expect.is_some();
        if let Some(expect) = expect {
            let targets = expect.iter().count();
            force.expect = expect;
            self.with_own(|desk, now, _| desk.expects(now, targets));
        }
        if exchanged || other {
            self.news.notify(usize::MAX);
        }
        Ok(())
    }

    /// What a call on `slot` does about the identity before it goes on. `wants`: its attempts
    /// carry the token; it ends at `until`.
    ///
    /// # Errors
    /// [`Error::Credential`]: there is no token, and why.
    pub(crate) fn await_identity(
        &self,
        slot: &Slot,
        wants: bool,
        until: Time,
    ) -> Result<Wait, Error> {
        self.with_own(|desk, now, wall| {
            let at = match desk.poll(now, wall) {
                Poll::Run(job) => return Ok(Wait::Carry(job)),
                Poll::Wait(at) => at,
            };
            if !wants || desk.holds_token(wall) {
                return Ok(Wait::No);
            }
            if desk.is_awaited() && now < until {
                return Ok(Wait::News(at));
            }
            Err(Error::Credential { service: slot.name.clone(), what: desk.need() })
        })
    }

    /// `Authorization` of an attempt, with the token of the moment.
    pub(crate) fn bearer(&self) -> Option<HeaderValue> {
        lock(&self.own.desk).bearer(self.runtime.wall())
    }

    /// A service has refused the token of the moment.
    pub(crate) fn doubt_bearer(&self) {
        if self.with_own(|desk, now, _| desk.doubt(now)) {
            self.news.notify(usize::MAX);
        }
    }

    /// How the identity stands, for a snapshot.
    pub(crate) fn identity_view(&self) -> View {
        self.with_own(|desk, now, wall| {
            desk.tick(now, wall);
            desk.view(wall)
        })
    }

    pub(crate) fn identity_notices(&self) -> Vec<Notice> {
        self.with_own(|desk, now, wall| {
            desk.tick(now, wall);
            desk.notices().since(0).cloned().collect()
        })
    }
}

impl<R: Runtime> Client<R> {
    /// Uses another service-account token from now on: every attempt that begins after this
    /// carries it, to the services of `identity.services` and to no other.
    ///
    /// # Errors
    /// [`ConfigError`] for a text that is no token (not one line of visible ASCII characters, above
    /// 16 KiB, a JWT that has expired), where no service is named, and where the token is in a
    /// file. The one before is used on then.
    pub fn set_service_token(&self, text: &str) -> Result<(), ConfigError> {
        let config = self.hub.config();
        let own = config.identity.as_ref();
        if own.is_none_or(|own| own.services.is_empty()) {
            let reason = "is empty: nobody would be sent the token";
            return Err(ConfigError::new(format!("{PATH}.services"), reason));
        }
        if own.is_some_and(|own| !own.token_file.is_empty()) {
            let reason = "is set: the token is what stands in it";
            return Err(ConfigError::new(format!("{PATH}.token_file"), reason));
        }
        let refused = |reason: String| ConfigError::new("service_token", reason);
        let token = Secret::new(text).ok_or_else(|| refused("it is empty".to_owned()))?;
        let given = self.hub.with_own(|desk, now, wall| desk.give(now, wall, &token));
        self.hub.news.notify(usize::MAX);
        given.map_err(|trouble| refused(format!("it {trouble}")))
    }
}

impl Identity {
    /// What its certificate says of itself.
    fn leaf(&self) -> Option<Leaf> {
        match &self.chain {
            Chain::Pem(piece) => Leaf::pem(&piece.bytes),
            Chain::Der(chain) => Leaf::der(chain.first()?),
        }
    }
}
