//! Secrets (Vault) for applications: reading and writing them, their versions and leases, how a
//! node is. The client token is sent to this service and to no other. What a request looks like and
//! how a reply is read is in [`crate::vault`]; trying another node, repeating and breaking are the
//! policies' business, as with any other service.
//!
//! A call takes the token of the moment when it is sent. Answered 403, it says so to whoever keeps
//! the token, and repeats itself once if there is another token by then: a token exchanged under
//! traffic fails no call. Nothing else is repeated that may have taken effect and would then answer
//! differently or leave something behind: compare-and-set, new versions, dynamic secrets.
//!
//! Transport failures, 5xx, a sealed node, a standby and 429 send a call to the next candidate;
//! 400, 403 and 404 are answers (contracts §7).

mod plain;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::sealed::Inquiry;
use super::{Caller, Flow, Step};
use crate::config::KvVersion;
use crate::error::Error;
use crate::request::{Request, Response};
use crate::secret;
use crate::vault::auth::{self, Own};
use crate::vault::health::{self, Health, Seal};
use crate::vault::kv::{self, Change, Content, Data, Metadata, Version};
use crate::vault::lease::{self, Description};
use crate::vault::wire;
use crate::vault::{Api, Exchange, Lease, LeaseId, Settings, Tokens, VaultError};

use self::plain::GetSecret;
pub use self::plain::Secret;

/// Name of the service in the discovery document.
pub const SERVICE: &str = "secrets";

/// The secrets service of a client.
#[derive(Clone)]
pub struct Secrets<C> {
    caller: C,
    access: Arc<Access>,
}

struct Access {
    settings: Settings,
    tokens: Box<dyn Tokens>,
}

impl<C: fmt::Debug> fmt::Debug for Secrets<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("caller", &self.caller).finish_non_exhaustive()
    }
}

type Built = Result<Exchange, VaultError>;
type Reader<T> = fn(&Settings, u16, &[u8]) -> Result<T, VaultError>;
type Build = Box<dyn Fn(&Api<'_>) -> Built + Send>;

/// Whether a request may be repeated that may have left.
const ONCE: bool = false;
const AGAIN: bool = true;

impl<C: Caller> Secrets<C> {
    /// Secrets as reached by `caller`, read with a token that does not change.
    pub fn new(caller: C, token: Option<secret::Secret>) -> Secrets<C> {
        Secrets::with(caller, Settings::default(), Box::new(token))
    }

    /// Secrets under these settings, with the token that `tokens` has at the moment of each call.
    pub fn with(caller: C, settings: Settings, tokens: Box<dyn Tokens>) -> Secrets<C> {
        Secrets { caller, access: Arc::new(Access { settings, tokens }) }
    }

    /// Reads `GET /v1/{path}` and yields what stands in `data` of the answer. Below a mount that
    /// `vault.mounts` says to be of version 2 the path needs no `data` segment; below others of
    /// that version write it: `secret/data/app`.
    ///
    /// Yields [`Error::Credential`] without any request when the client has no token
    /// ([`Error::Vault`] with the reason when it could not get one),
    /// [`Error::Status`] with 404 when there is no such secret and with 403 when the token may
    /// not read it. A sealed or standby node sends the call to the next candidate;
    /// where there is none, the error is [`Error::Vault`] with [`VaultError::Sealed`].
    pub fn get_secret(&self, path: &str) -> C::Reply<Secret> {
        let access = self.access.clone();
        let inquiry = Inquiry::default();
        let (path, sent, again) = (path.to_owned(), None, false);
        self.caller.run(GetSecret { path, access, sent, again, inquiry })
    }

    /// The key-value engine mounted at `mount`, of the version that `vault.mounts` says; of
    /// version 1 where it says nothing.
    #[must_use]
    pub fn kv(&self, mount: &str) -> Kv<'_, C> {
        let below = format!("{mount}/-");
        let found = self.access.settings.mount(&below).filter(|found| found.0 == mount);
        self.kv_of(mount, found.map_or(KvVersion::V1, |(_, version, _)| version))
    }

    /// The key-value engine mounted at `mount`, of this version.
    #[must_use]
    pub fn kv_of(&self, mount: &str, version: KvVersion) -> Kv<'_, C> {
        Kv { secrets: self, mount: kv::Mount::new(mount, version) }
    }

    /// Reads a secret that its engine makes for this read: an account, a key. With its lease, which
    /// [`Leases`] renews and gives back. Not repeated once it may have left: each read makes another.
    pub fn create(&self, path: &str) -> C::Reply<Content> {
        let path = path.to_owned();
        let build = move |api: &Api<'_>| kv::read(api, &path).map(|(exchange, _)| exchange);
        self.ask(build, ONCE, |s, status, body| kv::parse_read(s, KvVersion::V1, status, body))
    }

    /// `POST /v1/{path}` to any engine: signing, issuing. `None`: it answers nothing. Not repeated
    /// once it may have left.
    pub fn write(&self, path: &str, data: &Data) -> C::Reply<Option<Content>> {
        let (path, data) = (path.to_owned(), data.clone());
        self.ask(move |api| kv::write(api, &path, &data), ONCE, kv::parse_answer)
    }

    /// Leases of secrets that were made by [`Secrets::create`].
    #[must_use]
    pub fn leases(&self) -> Leases<'_, C> {
        Leases(self)
    }

    /// What Vault knows about the client's own token.
    pub fn token(&self) -> C::Reply<Own> {
        self.ask(auth::look_up, AGAIN, auth::parse_own)
    }

    /// How the node is that answers, whatever it is; asked without a token.
    pub fn health(&self) -> C::Reply<Health> {
        self.anonymous(health::health, health::parse_health)
    }

    /// Whether the node that answers is sealed; asked without a token.
    pub fn seal_status(&self) -> C::Reply<Seal> {
        self.anonymous(health::seal_status, health::parse_seal)
    }

    fn ask<T: Send + 'static>(
        &self,
        build: impl Fn(&Api<'_>) -> Built + Send + 'static,
        repeat: bool,
        read: Reader<T>,
    ) -> C::Reply<T> {
        let (access, build) = (self.access.clone(), Box::new(build) as Build);
        let how = How { anonymous: false, repeat };
        self.caller.run(Operation::new(access, build, how, read))
    }

    fn anonymous<T: Send + 'static>(
        &self,
        build: fn(&Api<'_>) -> Built,
        read: Reader<T>,
    ) -> C::Reply<T> {
        let (access, build) = (self.access.clone(), Box::new(build) as Build);
        let how = How { anonymous: true, repeat: AGAIN };
        self.caller.run(Operation::new(access, build, how, read))
    }
}

/// One key-value mount. What is named wrongly is refused before anything is sent.
#[derive(Clone)]
pub struct Kv<'a, C> {
    secrets: &'a Secrets<C>,
    mount: Result<kv::Mount, VaultError>,
}

impl<C: fmt::Debug> fmt::Debug for Kv<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kv").field("mount", &self.mount).finish_non_exhaustive()
    }
}

impl<C: Caller> Kv<'_, C> {
    fn ask<T: Send + 'static>(
        &self,
        build: impl Fn(&kv::Mount, &Api<'_>) -> Built + Send + 'static,
        repeat: bool,
        (one, two): (Reader<T>, Reader<T>),
    ) -> C::Reply<T> {
        let mount = self.mount.clone();
        let read = match &mount {
            Ok(mount) if mount.version() == KvVersion::V2 => two,
            _ => one,
        };
        let build = move |api: &Api<'_>| build(mount.as_ref().map_err(Clone::clone)?, api);
        self.secrets.ask(build, repeat, read)
    }

    /// Reads a secret; in version 2 its newest version. [`VaultError::NotFound`] when there is
    /// none, [`VaultError::Deleted`] when that version is deleted.
    pub fn read(&self, path: &str) -> C::Reply<Content> {
        self.read_version(path, 0)
    }

    /// Reads one version of a secret; 0 is the newest.
    pub fn read_version(&self, path: &str, version: u64) -> C::Reply<Content> {
        let path = path.to_owned();
        let one: Reader<Content> = |s, status, body| kv::parse_read(s, KvVersion::V1, status, body);
        let two: Reader<Content> = |s, status, body| kv::parse_read(s, KvVersion::V2, status, body);
        self.ask(move |mount, api| mount.read(api, &path, version), AGAIN, (one, two))
    }

    /// Writes a secret over what was there. Yields the new version in version 2; there it is not
    /// repeated once it may have left, since each write makes another version.
    pub fn write(&self, path: &str, data: &Data) -> C::Reply<Option<Version>> {
        let again = self.mount.as_ref().is_ok_and(|mount| mount.version() == KvVersion::V1);
        self.put(path, data, None, again)
    }

    /// Writes a secret if `version` is still its newest one, 0: if there is none yet; else
    /// [`VaultError::Conflict`]. Version 2 only.
    pub fn write_if(&self, path: &str, data: &Data, version: u64) -> C::Reply<Option<Version>> {
        self.put(path, data, Some(version), ONCE)
    }

    fn put(
        &self,
        path: &str,
        data: &Data,
        cas: Option<u64>,
        again: bool,
    ) -> C::Reply<Option<Version>> {
        let (path, data) = (path.to_owned(), data.clone());
        let one: Reader<Option<Version>> =
            |s, status, body| kv::parse_write(s, KvVersion::V1, status, body);
        let two: Reader<Option<Version>> =
            |s, status, body| kv::parse_write(s, KvVersion::V2, status, body);
        self.ask(move |mount, api| mount.write(api, &path, &data, cas), again, (one, two))
    }

    /// Deletes a secret; in version 2 its newest version, which [`Kv::change`] undeletes.
    pub fn delete(&self, path: &str) -> C::Reply<()> {
        let path = path.to_owned();
        self.ask(move |mount, api| mount.delete(api, &path), AGAIN, (done, done))
    }

    /// What is below `prefix`; the empty one is the mount. Folders end with `/`. Empty when there
    /// is nothing.
    pub fn list(&self, prefix: &str) -> C::Reply<Vec<Arc<str>>> {
        let prefix = prefix.to_owned();
        let read: Reader<Vec<Arc<str>>> = kv::parse_list;
        self.ask(move |mount, api| mount.list(api, &prefix), AGAIN, (read, read))
    }

    /// Deletes, undeletes or destroys versions of a secret. Version 2 only.
    pub fn change(&self, change: Change, path: &str, versions: &[u64]) -> C::Reply<()> {
        let (path, versions) = (path.to_owned(), versions.to_vec());
        let build =
            move |mount: &kv::Mount, api: &Api<'_>| mount.change(api, change, &path, &versions);
        self.ask(build, AGAIN, (done, done))
    }

    /// What is known of all versions of a secret. Version 2 only.
    pub fn metadata(&self, path: &str) -> C::Reply<Metadata> {
        let path = path.to_owned();
        let read: Reader<Metadata> = kv::parse_metadata;
        self.ask(move |mount, api| mount.metadata(api, &path), AGAIN, (read, read))
    }

    /// Deletes a secret with all its versions, for good. Version 2 only.
    pub fn forget(&self, path: &str) -> C::Reply<()> {
        let path = path.to_owned();
        self.ask(move |mount, api| mount.forget(api, &path), AGAIN, (done, done))
    }
}

fn done(_: &Settings, status: u16, body: &[u8]) -> Result<(), VaultError> {
    wire::done(status, body)
}

/// Leases of secrets. Those given to [`Leases::keep`] the client renews by itself, where `[vault]`
/// is configured; a blocking client does so in its background and with its calls to this service.
#[derive(Clone, Copy)]
pub struct Leases<'a, C>(&'a Secrets<C>);

impl<C: fmt::Debug> fmt::Debug for Leases<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leases")
    }
}

impl<C: Caller> Leases<'_, C> {
    /// Has a lease renewed from now on, and given back when the client is closed. `false`: without
    /// `[vault]` nobody does that, or there are too many.
    #[must_use]
    pub fn keep(&self, lease: &Lease) -> bool {
        self.0.access.tokens.adopt(lease)
    }

    /// Gives a lease back that was given to [`Leases::keep`], without waiting for it. `false`: it
    /// was not.
    pub fn give_up(&self, id: &LeaseId) -> bool {
        self.0.access.tokens.release(id)
    }

    /// Renews a lease, for `increment` if Vault grants that much.
    pub fn renew(&self, id: &LeaseId, increment: Option<Duration>) -> C::Reply<Lease> {
        let id = id.clone();
        self.0.ask(move |api| lease::renew(api, &id, increment), AGAIN, lease::parse_renew)
    }

    /// Gives a lease back. One that is gone already is as good.
    pub fn revoke(&self, id: &LeaseId) -> C::Reply<()> {
        let id = id.clone();
        self.0.ask(move |api| lease::revoke(api, &id), AGAIN, done)
    }

    /// What Vault knows about a lease.
    pub fn look_up(&self, id: &LeaseId) -> C::Reply<Description> {
        let id = id.clone();
        self.0.ask(move |api| lease::look_up(api, &id), AGAIN, lease::parse_look_up)
    }
}

#[derive(Clone, Copy)]
struct How {
    anonymous: bool,
    repeat: bool,
}

/// One exchange with a node, repeated once when the token was exchanged meanwhile.
struct Operation<T> {
    access: Arc<Access>,
    build: Build,
    how: How,
    read: Reader<T>,
    sent: Option<secret::Secret>,
    again: bool,
    inquiry: Inquiry,
}

impl Access {
    /// Whether there is another token by now than the one that was sent.
    fn another(&self, sent: Option<&secret::Secret>) -> bool {
        self.tokens.token().is_some_and(|now| Some(&now) != sent)
    }

    /// The same after a 403, which throws doubt on the token that was sent.
    fn exchanged(&self, sent: Option<&secret::Secret>) -> bool {
        self.another(sent) || {
            self.tokens.doubted();
            self.another(sent)
        }
    }

    /// Whether the token has to be looked after before a flow goes on: before its first request,
    /// and after a 403 to the token that is still in use.
    fn awaits(&self, reply: Option<&Response>, sent: Option<&secret::Secret>, again: bool) -> bool {
        match reply {
            None => true,
            Some(reply) if reply.status != StatusCode::FORBIDDEN || again => false,
            Some(_) => !self.exchanged(sent),
        }
    }

    /// What there is to say where there is no token.
    fn missing(&self) -> Option<VaultError> {
        self.tokens.trouble().map(|why| VaultError::Unavailable { why })
    }
}

impl<T> Operation<T> {
    fn new(access: Arc<Access>, build: Build, how: How, read: Reader<T>) -> Operation<T> {
        let inquiry = Inquiry::default();
        Operation { access, build, how, read, sent: None, again: false, inquiry }
    }

    fn request(&mut self) -> Result<Request, Error> {
        let ours = |error| Error::Vault { error: Box::new(error), report: None };
        let settings = &self.access.settings;
        let exchange = if self.how.anonymous {
            (self.build)(&Api::anonymous(settings))
        } else {
            self.sent = self.access.tokens.token();
            let none = || ours(self.access.missing().unwrap_or(VaultError::NoToken));
            let token = self.sent.as_ref().ok_or_else(none)?;
            (self.build)(&Api::with(settings, token))
        };
        exchange.map(|exchange| exchange.call(settings, self.how.repeat)).map_err(ours)
    }
}

impl<T: Send + 'static> Flow for Operation<T> {
    type Output = T;

    fn service(&self) -> &str {
        SERVICE
    }

    fn awaits_token(&self, reply: Option<&Response>) -> bool {
        !self.how.anonymous && self.access.awaits(reply, self.sent.as_ref(), self.again)
    }

    fn next(&mut self, reply: Option<Response>) -> Result<Step<T>, Error> {
        let Some(reply) = reply else { return self.request().map(Step::Send) };
        if let Some(error) = self.inquiry.answered(&self.access.settings, &reply) {
            return Err(error);
        }
        let status = reply.status.as_u16();
        if status == 403 && !self.how.anonymous {
            // A 403 has had no effect, so that any request may be repeated after it.
            let exchanged = self.access.exchanged(self.sent.as_ref());
            if exchanged && !std::mem::replace(&mut self.again, true) {
                return self.request().map(Step::Send);
            }
        }
        (self.read)(&self.access.settings, status, &reply.body).map(Step::Done).map_err(|error| {
            Error::Vault { error: Box::new(error), report: Some(Box::new(reply.report)) }
        })
    }

    fn failed(&mut self, error: Error) -> Result<Request, Error> {
        self.inquiry.ask(&self.access.settings, error)
    }
}

#[cfg(test)]
#[path = "secrets_tests.rs"]
mod tests;
