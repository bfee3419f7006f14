//! Consul for applications: keys and values, the catalogue, the agent, intentions, config
//! entries. Each call is one exchange with one agent; trying the next one, repeating and breaking
//! are the policies' business, as with any other service. What a request looks like and how a
//! reply is read is in [`crate::consul`]. Nothing here waits for changes or remembers answers:
//! watching is the business of discovery.
//!
//! A call that names something wrongly is refused before anything is sent. What Consul answers is
//! in [`Error::Consul`], with [`ConsulError`] telling the token's fault from the agent's. Nothing
//! is repeated that may have taken effect and would then answer differently: compare-and-set, and
//! intentions that are made anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Uri;

use super::{Caller, Flow, Step};
use crate::consul::agent::{self, Member, Myself, Own};
use crate::consul::catalogue::{self, Node};
use crate::consul::entries::{self, Entry as ConfigEntry};
use crate::consul::health::Answer;
use crate::consul::intention::{self, Intention};
use crate::consul::kv::{self, Entry, Key};
use crate::consul::registry::Rules;
use crate::consul::{Api, ConsulError, ServiceName, Settings, Tokens};
use crate::error::Error;
use crate::request::{Request, Response};

/// Name under which reports and errors have the agents.
pub const SERVICE: &str = "consul";

#[derive(Debug)]
struct Access {
    settings: Settings,
    tokens: Tokens,
}

/// Consul as reached by a caller whose service [`SERVICE`] is its agents.
#[derive(Clone, Debug)]
pub struct Consul<C> {
    caller: C,
    access: Arc<Access>,
}

type Read<T> = fn(&Settings, u16, &[u8]) -> Result<T, ConsulError>;
type Built = Result<http::Request<Bytes>, ConsulError>;

/// Whether a request may be repeated that may have left.
const ONCE: Option<bool> = Some(false);
const AS_ITS_METHOD: Option<bool> = None;

impl<C: Caller> Consul<C> {
    /// Consul under these rules. The tokens go to whomever the caller calls for [`SERVICE`].
    pub fn new(caller: C, rules: &Rules) -> Consul<C> {
        let settings = rules.consul.anywhere();
        Consul { caller, access: Arc::new(Access { settings, tokens: rules.tokens.clone() }) }
    }

    /// Keys and values.
    #[must_use]
    pub fn kv(&self) -> Kv<'_, C> {
        Kv(self)
    }

    /// What is registered anywhere.
    #[must_use]
    pub fn catalogue(&self) -> Catalogue<'_, C> {
        Catalogue(self)
    }

    /// The agent itself.
    #[must_use]
    pub fn agent(&self) -> Agent<'_, C> {
        Agent(self)
    }

    /// Who may call whom in the mesh.
    #[must_use]
    pub fn intentions(&self) -> Intentions<'_, C> {
        Intentions(self)
    }

    /// Central configuration of services and proxies.
    #[must_use]
    pub fn entries(&self) -> Entries<'_, C> {
        Entries(self)
    }

    fn ask<T: Send + 'static>(
        &self,
        build: impl FnOnce(&Api<'_>) -> Built,
        repeat: Option<bool>,
        read: Read<T>,
    ) -> C::Reply<T> {
        let Access { settings, tokens } = &*self.access;
        let request = build(&Api::new(settings, tokens));
        let access = self.access.clone();
        self.caller.run(Operation { request: Some(request), access, repeat, read })
    }
}

/// One exchange with an agent.
struct Operation<T> {
    request: Option<Built>,
    access: Arc<Access>,
    repeat: Option<bool>,
    read: Read<T>,
}

impl<T: Send + 'static> Flow for Operation<T> {
    type Output = T;

    fn service(&self) -> &str {
        SERVICE
    }

    fn next(&mut self, reply: Option<Response>) -> Result<Step<T>, Error> {
        let settings = &self.access.settings;
        let Some(reply) = reply else {
            let ours = |error| Error::Consul { error: Box::new(error), report: None };
            let built = self.request.take().unwrap_or(Err(ConsulError::NoLeader));
            let (head, body) = built.map_err(ours)?.into_parts();
            let path = Uri::path_and_query(&head.uri).cloned();
            let path = path.ok_or_else(|| ours(ConsulError::field("path", "there is none")))?;
            let mut request = Request::new(head.method, path);
            (request.headers, request.body) = (head.headers, body);
            request.max_body = Some(settings.max_bytes() as u64);
            request.spec.attempt = Some(settings.timeout());
            request.spec.idempotent = self.repeat;
            return Ok(Step::Send(request));
        };
        let read = (self.read)(settings, reply.status.as_u16(), &reply.body);
        read.map(Step::Done).map_err(|error| Error::Consul {
            error: Box::new(error),
            report: Some(Box::new(reply.report)),
        })
    }
}

fn done(_: &Settings, status: u16, body: &[u8]) -> Result<(), ConsulError> {
    agent::done(status, body)
}

/// Keys and values. Keys are checked as [`Key`] says.
#[derive(Clone, Copy, Debug)]
pub struct Kv<'a, C>(&'a Consul<C>);

impl<C: Caller> Kv<'_, C> {
    /// The value of a key, `None` when there is none.
    pub fn get(&self, key: &str) -> C::Reply<Option<Entry>> {
        self.0.ask(|api| kv::get(api, &Key::new(key)?, None), AS_ITS_METHOD, kv::parse_get)
    }

    /// All keys below a prefix, with their values.
    pub fn list(&self, prefix: &str) -> C::Reply<Vec<Entry>> {
        self.0.ask(|api| kv::list(api, &Key::new(prefix)?, None), AS_ITS_METHOD, kv::parse_list)
    }

    /// All keys below a prefix, without their values.
    pub fn keys(&self, prefix: &str) -> C::Reply<Vec<Arc<str>>> {
        self.0.ask(|api| kv::keys(api, &Key::new(prefix)?, None), AS_ITS_METHOD, kv::parse_keys)
    }

    /// Writes a value of at most 512 KiB. `false`: Consul did not take it.
    pub fn put(&self, key: &str, value: &[u8]) -> C::Reply<bool> {
        let build = |api: &Api<'_>| kv::put(api, &Key::new(key)?, value, None);
        self.0.ask(build, AS_ITS_METHOD, |_, status, body| kv::parse_changed(status, body))
    }

    /// Writes a value if its [`Entry::modify_index`] is still this one, 0 for "there is none".
    /// `false`: it is another one.
    pub fn put_if(&self, key: &str, value: &[u8], index: u64) -> C::Reply<bool> {
        let build = |api: &Api<'_>| kv::put(api, &Key::new(key)?, value, Some(index));
        self.0.ask(build, ONCE, |_, status, body| kv::parse_changed(status, body))
    }

    /// Deletes a key; that there was none is as good.
    pub fn delete(&self, key: &str) -> C::Reply<bool> {
        let build = |api: &Api<'_>| kv::delete(api, &Key::new(key)?, None);
        self.0.ask(build, AS_ITS_METHOD, |_, status, body| kv::parse_changed(status, body))
    }

    /// Deletes a key if its [`Entry::modify_index`] is still this one. `false`: it is another one.
    pub fn delete_if(&self, key: &str, index: u64) -> C::Reply<bool> {
        let build = |api: &Api<'_>| kv::delete(api, &Key::new(key)?, Some(index));
        self.0.ask(build, ONCE, |_, status, body| kv::parse_changed(status, body))
    }
}

/// What is registered anywhere. Without permission lists are empty, not refused.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue<'a, C>(&'a Consul<C>);

impl<C: Caller> Catalogue<'_, C> {
    /// The names of all services, with their tags.
    pub fn services(&self) -> C::Reply<BTreeMap<Arc<str>, Vec<Arc<str>>>> {
        let build = |api: &Api<'_>| catalogue::services(api, None);
        self.0.ask(build, AS_ITS_METHOD, catalogue::parse_services)
    }

    /// The instances of one service, in this datacenter or, with `None`, that of the agent;
    /// whatever their checks say.
    pub fn service(&self, name: &str, datacenter: Option<&str>) -> C::Reply<Answer> {
        let build =
            |api: &Api<'_>| catalogue::service(api, &ServiceName::new(name)?, datacenter, None);
        self.0.ask(build, AS_ITS_METHOD, catalogue::parse_service)
    }

    /// All nodes.
    pub fn nodes(&self) -> C::Reply<Vec<Node>> {
        self.0.ask(|api| catalogue::nodes(api, None), AS_ITS_METHOD, catalogue::parse_nodes)
    }

    /// All datacenters, the nearest first.
    pub fn datacenters(&self) -> C::Reply<Vec<Arc<str>>> {
        self.0.ask(catalogue::datacenters, AS_ITS_METHOD, catalogue::parse_datacenters)
    }
}

/// The agent itself: whichever of the configured ones answers.
#[derive(Clone, Copy, Debug)]
pub struct Agent<'a, C>(&'a Consul<C>);

impl<C: Caller> Agent<'_, C> {
    /// Its name, datacenter and version.
    pub fn myself(&self) -> C::Reply<Myself> {
        self.0.ask(agent::myself, AS_ITS_METHOD, agent::parse_self)
    }

    /// The members of the cluster it knows of. Without permission the list is empty.
    pub fn members(&self) -> C::Reply<Vec<Member>> {
        self.0.ask(agent::members, AS_ITS_METHOD, agent::parse_members)
    }

    /// What is registered there, whoever did it, by id. Without permission the list is empty.
    pub fn services(&self) -> C::Reply<BTreeMap<Arc<str>, Own>> {
        self.0.ask(agent::services, AS_ITS_METHOD, agent::parse_own)
    }

    /// Takes a service out of use without removing it, or back.
    pub fn maintenance(&self, id: &str, on: bool, reason: &str) -> C::Reply<()> {
        let build = |api: &Api<'_>| agent::maintenance(api, id, on, reason);
        self.0.ask(build, AS_ITS_METHOD, done)
    }

    /// Takes the whole node out of use, or back.
    pub fn node_maintenance(&self, on: bool, reason: &str) -> C::Reply<()> {
        let build = |api: &Api<'_>| agent::node_maintenance(api, on, reason);
        self.0.ask(build, AS_ITS_METHOD, done)
    }
}

/// Who may call whom.
#[derive(Clone, Copy, Debug)]
pub struct Intentions<'a, C>(&'a Consul<C>);

impl<C: Caller> Intentions<'_, C> {
    /// All of them.
    pub fn list(&self) -> C::Reply<Vec<Intention>> {
        self.0.ask(intention::list, AS_ITS_METHOD, intention::parse_list)
    }

    /// Makes one and yields its id (the way of Consul 1.8). That there is one between these two
    /// already is [`ConsulError::Exists`].
    pub fn create(&self, intention: &Intention) -> C::Reply<Arc<str>> {
        self.0.ask(|api| intention::create(api, intention), ONCE, intention::parse_created)
    }

    /// Removes one by its id (the way of Consul 1.8).
    pub fn delete(&self, id: &str) -> C::Reply<()> {
        self.0.ask(|api| intention::delete(api, id), AS_ITS_METHOD, done)
    }

    /// Whether `source` may call `destination`, in the opinion of Consul.
    pub fn check(&self, source: &str, destination: &str) -> C::Reply<bool> {
        let build = |api: &Api<'_>| {
            let (source, destination) = (ServiceName::new(source)?, ServiceName::new(destination)?);
            intention::check(api, &source, &destination)
        };
        self.0.ask(build, AS_ITS_METHOD, intention::parse_check)
    }
}

/// Central configuration of services and proxies.
#[derive(Clone, Copy, Debug)]
pub struct Entries<'a, C>(&'a Consul<C>);

impl<C: Caller> Entries<'_, C> {
    /// Writes an entry, over the one of its name.
    pub fn put(&self, entry: &ConfigEntry) -> C::Reply<bool> {
        let build = |api: &Api<'_>| entries::put(api, entry, None);
        self.0.ask(build, AS_ITS_METHOD, |_, status, body| entries::parse_put(status, body))
    }

    /// The defaults of a service.
    pub fn service(&self, name: &str) -> C::Reply<Option<ConfigEntry>> {
        let build = |api: &Api<'_>| entries::service(api, &ServiceName::new(name)?, None);
        self.0.ask(build, AS_ITS_METHOD, entries::parse)
    }

    /// The resolver of a service.
    pub fn resolver(&self, name: &str) -> C::Reply<Option<ConfigEntry>> {
        let build = |api: &Api<'_>| entries::resolver(api, &ServiceName::new(name)?, None);
        self.0.ask(build, AS_ITS_METHOD, entries::parse)
    }

    /// The defaults of all proxies.
    pub fn proxy(&self) -> C::Reply<Option<ConfigEntry>> {
        self.0.ask(|api| entries::proxy(api, None), AS_ITS_METHOD, entries::parse)
    }

    /// Removes an entry.
    pub fn delete(&self, entry: &ConfigEntry) -> C::Reply<()> {
        self.0.ask(|api| entries::delete(api, entry), AS_ITS_METHOD, done)
    }
}
