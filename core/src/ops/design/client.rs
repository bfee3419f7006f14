//! What the six clients have in common: how they are adjusted, health and readiness.

use std::fmt;

use serde_json::Value;

use super::wire::Fields;
use crate::error::Error;
use crate::ops::Caller;
use crate::ops::rest::{Api, Operation};
use crate::request::Response;

/// What is behind each of them.
pub(super) struct Base<C> {
    pub(super) api: Api<C>,
    /// Whether the servers' own paths are asked.
    pub(super) published: bool,
}

impl<C: Clone> Clone for Base<C> {
    fn clone(&self) -> Self {
        Base { api: self.api.clone(), published: self.published }
    }
}

impl<C> fmt::Debug for Base<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.published { ", published" } else { "" };
        write!(f, "{:?}{way}", self.api)
    }
}

impl<C: Caller> Base<C> {
    /// The path of the client code, or of the servers.
    pub(super) fn way(&self, client: &'static str, server: &'static str) -> &'static str {
        if self.published { server } else { client }
    }

    pub(super) fn probe(&self, name: &'static str, path: &str) -> C::Reply<Probe> {
        self.api.get(name, path).at_host().with(Probe::of)
    }
}

/// Fills the places of an operation with ids, which are positive.
pub(super) fn ids<C: Caller>(operation: Operation<C>, ids: &[(&'static str, i64)]) -> Operation<C> {
    ids.iter().fold(operation, |operation, &(name, id)| {
        let operation = operation.segment(name, id);
        if id > 0 { operation } else { operation.refuse(format!("{name} must be positive")) }
    })
}

/// A health or readiness check that was answered, with yes (2xx) or no (503).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The status of the answer.
    pub code: u16,
    /// What it calls its state: `healthy`, `degraded`, `ready`, … `None` where it does not say.
    pub status: Option<String>,
    /// What else it says: `checks`, `database`, …
    pub other: Fields,
}

impl Probe {
    fn of(response: Response) -> Result<Probe, Error> {
        let code = response.status.as_u16();
        if !response.status.is_success() && code != 503 {
            return Err(Error::of_status(response));
        }
        // Whatever a body is, the status has answered the question.
        let mut other = match serde_json::from_slice(&response.body) {
            Ok(Value::Object(fields)) => fields,
            _ => Fields::new(),
        };
        let status = match other.remove("status") {
            Some(Value::String(status)) => Some(status),
            Some(odd) => {
                other.insert("status".to_owned(), odd);
                None
            }
            None => None,
        };
        Ok(Probe { code, status, other })
    }

    /// Whether it takes requests: an answer of 2xx, `degraded` included.
    #[must_use]
    pub fn is_up(&self) -> bool {
        (200..300).contains(&self.code)
            && !self
                .status
                .as_deref()
                .is_some_and(|status| status.eq_ignore_ascii_case("unhealthy"))
    }

    /// Whether it takes requests and complains of nothing.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.is_up()
            && !self.status.as_deref().is_some_and(|status| status.eq_ignore_ascii_case("degraded"))
    }
}

/// Makes a client: its name, its service, the headers of every request, and where its published
/// server says how it is.
macro_rules! client {
    ($(#[$about:meta])* $name:ident, $service:literal, [$($header:literal: $value:literal),*],
     $health:literal, $ready:literal) => {
        $(#[$about])*
        pub struct $name<C>($crate::ops::design::client::Base<C>);

        impl<C: Clone> Clone for $name<C> {
            fn clone(&self) -> Self {
                $name(self.0.clone())
            }
        }

        impl<C> std::fmt::Debug for $name<C> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl<C: Caller> $name<C> {
            #[doc = concat!("The service `", $service, "` as reached by `caller`.")]
            pub fn new(caller: C) -> Self {
                let api = $crate::ops::rest::Api::new(caller, $service)$(.header($header, $value))*;
                $name($crate::ops::design::client::Base { api, published: false })
            }

            fn change(
                self,
                change: impl FnOnce($crate::ops::rest::Api<C>) -> $crate::ops::rest::Api<C>,
            ) -> Self {
                let api = change(self.0.api);
                $name($crate::ops::design::client::Base { api, ..self.0 })
            }

            /// Asks as the published servers want it, instead of as the platform's client code does.
            #[must_use]
            pub fn published(mut self) -> Self {
                self.0.published = true;
                self
            }

            /// What stands before every path, for addresses that have no `/api/v1` of their own.
            #[must_use]
            pub fn prefix(self, prefix: &str) -> Self {
                self.change(|api| api.prefix(prefix))
            }

            /// Another path for one operation, with the same places: see
            /// [`Api::path`](crate::ops::rest::Api::path). An operation is called as its method,
            /// with spaces.
            #[must_use]
            pub fn path(self, operation: &str, path: &str) -> Self {
                self.change(|api| api.path(operation, path))
            }

            /// A header of every request, instead of one of the same name.
            #[must_use]
            pub fn header(self, name: &str, value: &str) -> Self {
                self.change(|api| api.header(name, value))
            }

            /// `Authorization: Bearer` of every request, which is printed nowhere.
            #[must_use]
            pub fn bearer(self, token: &$crate::secret::Secret) -> Self {
                self.change(|api| api.bearer(token))
            }

            /// The same, each call within this instead of what the policy says: for one call,
            /// `client.timeout(limit).health()`.
            #[must_use]
            pub fn timeout(&self, limit: std::time::Duration) -> Self {
                self.clone().change(|api| api.timeout(limit))
            }

            /// The same, all operations on behalf of what has this id.
            #[must_use]
            pub fn correlated(&self, id: &$crate::correlation::Correlation) -> Self {
                self.clone().change(|api| api.correlated(id))
            }

            /// For operations that are not here.
            #[must_use]
            pub fn api(&self) -> &$crate::ops::rest::Api<C> {
                &self.0.api
            }

            /// Whether it is well: `/health` at the host, or where its server publishes it.
            pub fn health(&self) -> C::Reply<$crate::ops::design::Probe> {
                self.0.probe("health", self.0.way("/health", $health))
            }

            /// Whether it is ready: `/ready` at the host, or where its server publishes it.
            pub fn ready(&self) -> C::Reply<$crate::ops::design::Probe> {
                self.0.probe("ready", self.0.way("/ready", $ready))
            }
        }
    };
}
