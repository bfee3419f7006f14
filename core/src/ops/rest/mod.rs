//! A client for a JSON service of one's own, in a dozen lines: paths with places for arguments,
//! queries that arrive as they were meant, typed replies, errors that name the code of the
//! service and repeat nothing else of what it said, redirects within the service, and everything
//! that calls have anyway (discovery, retries, failover, breakers, the cache). All typed clients
//! of the contracts are made of it.
//!
//! ```
//! use origin_core::ops::Caller;
//! use origin_core::ops::rest::Api;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! pub struct Invoice {
//!     pub id: u64,
//!     pub total: String,
//! }
//!
//! #[derive(Serialize)]
//! pub struct Order<'a> {
//!     pub article: &'a str,
//! }
//!
//! #[derive(Clone)]
//! pub struct Invoices<C>(Api<C>);
//!
//! impl<C: Caller> Invoices<C> {
//!     pub fn new(caller: C) -> Self {
//!         Invoices(Api::new(caller, "invoices").prefix("/api/v1"))
//!     }
//!
//!     pub fn get(&self, id: u64) -> C::Reply<Option<Invoice>> {
//!         self.0.get("get invoice", "/invoices/{id}").segment("id", id).maybe()
//!     }
//!
//!     pub fn create(&self, order: &Order<'_>) -> C::Reply<Invoice> {
//!         self.0.post("create invoice", "/invoices").json(order).read()
//!     }
//! }
//! ```
//!
//! With an adapter: `Invoices::new(client.clone()).get(7).await?`, or without the `.await` on the
//! blocking one. How a reply is followed and read is in `exchange`, how a path is filled in
//! `template`.

mod exchange;
mod operation;
mod template;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::Caller;
use crate::correlation::Correlation;
use crate::secret::Secret;

pub use operation::Operation;

/// Redirects that are followed within one operation.
const REDIRECTS: u8 = 3;

/// What all operations of a service have in common.
#[derive(Clone, Debug, Default)]
struct Rules {
    service: Arc<str>,
    prefix: String,
    headers: HeaderMap,
    /// Paths that were changed, by operation.
    paths: BTreeMap<Box<str>, Box<str>>,
    correlation: Option<Correlation>,
    /// Deadline of a call, instead of the policy's.
    total: Option<Duration>,
    mistake: Option<String>,
}

/// A JSON service as reached by a caller. Cheap to clone.
pub struct Api<C> {
    caller: C,
    rules: Arc<Rules>,
}

impl<C: Clone> Clone for Api<C> {
    fn clone(&self) -> Self {
        Api { caller: self.caller.clone(), rules: self.rules.clone() }
    }
}

impl<C> fmt::Debug for Api<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Api({}{})", self.rules.service, self.rules.prefix)
    }
}

impl<C: Caller> Api<C> {
    /// The service called `service`, as discovery or the configuration names it.
    pub fn new(caller: C, service: &str) -> Api<C> {
        let rules = Rules { service: service.into(), ..Rules::default() };
        Api { caller, rules: Arc::new(rules) }
    }

    fn change(mut self, change: impl FnOnce(&mut Rules)) -> Api<C> {
        change(Arc::make_mut(&mut self.rules));
        self
    }

    /// Its name.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.rules.service
    }

    /// What stands before every path, for example `/api/v1`. A slash at its end is dropped.
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Api<C> {
        self.change(|rules| prefix.trim_end_matches('/').clone_into(&mut rules.prefix))
    }

    /// A header of every request. One that is not valid shows with the first call.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Api<C> {
        self.change(|rules| {
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                (Ok(name), Ok(value)) => drop(rules.headers.insert(name, value)),
                // Not the value: it may be a secret.
                _ => rules.mistake = Some("a header of every request is not valid".to_owned()),
            }
        })
    }

    /// `Authorization: Bearer` of every request, which is printed nowhere. A token that cannot be
    /// the value of a header shows with the first call.
    #[must_use]
    pub fn bearer(self, token: &Secret) -> Api<C> {
        self.change(|rules| match token.bearer() {
            Some(value) => drop(rules.headers.insert(AUTHORIZATION, value)),
            None => rules.mistake = Some("the token cannot be the value of a header".to_owned()),
        })
    }

    /// Another path for one operation, with the same places for arguments, where a server has it
    /// elsewhere. With two slashes in front the prefix is left out: `//health`.
    #[must_use]
    pub fn path(self, operation: &str, path: &str) -> Api<C> {
        self.change(|rules| drop(rules.paths.insert(operation.into(), path.into())))
    }

    /// The same service, each call within this instead of what the policy says: for one call,
    /// `api.timeout(limit).get(…)` (001-28).
    #[must_use]
    pub fn timeout(&self, limit: Duration) -> Api<C> {
        self.clone().change(|rules| rules.total = Some(limit))
    }

    /// The same service, all operations on behalf of what has this id.
    #[must_use]
    pub fn correlated(&self, id: &Correlation) -> Api<C> {
        self.clone().change(|rules| rules.correlation = Some(id.clone()))
    }

    /// An operation. `name` is for people, errors and [`Api::path`]; `path` may have places for
    /// arguments, `{id}`, and is put behind the prefix, which two slashes in front leave out.
    pub fn operation(&self, name: &'static str, method: Method, path: &str) -> Operation<C> {
        let path = self.rules.paths.get(name).map_or(path, |other| other);
        Operation::new(self.caller.clone(), self.rules.clone(), name, method, path)
    }

    /// One that reads.
    pub fn get(&self, name: &'static str, path: &str) -> Operation<C> {
        self.operation(name, Method::GET, path)
    }

    /// One that makes something. Not repeated once it may have left, unless it says so.
    pub fn post(&self, name: &'static str, path: &str) -> Operation<C> {
        self.operation(name, Method::POST, path)
    }

    /// One that replaces.
    pub fn put(&self, name: &'static str, path: &str) -> Operation<C> {
        self.operation(name, Method::PUT, path)
    }

    /// One that changes a part. Not repeated once it may have left, unless it says so.
    pub fn patch(&self, name: &'static str, path: &str) -> Operation<C> {
        self.operation(name, Method::PATCH, path)
    }

    /// One that removes.
    pub fn delete(&self, name: &'static str, path: &str) -> Operation<C> {
        self.operation(name, Method::DELETE, path)
    }
}
