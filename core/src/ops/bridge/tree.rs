//! `OnexTree`: intelligence about a code base (contracts §3.6–3.8).
//!
//! Its questions only read, although they are `POST`s: they are repeated like reads, and their
//! answers remembered where the service has a cache (`services.onextree.cache`, which
//! [`configure`](super::configure) switches on). Only data of the right kind is remembered, never
//! an error in an answer of 200. The statistics of the cache, and clearing it, are at the handle of
//! the service (`Upstream::cache_stats`, `clear_cache`).
//!
//! The published server has no `query_knowledge` and no `navigate_tree`. They end in a status of
//! 404 there, which means that the operation is not supported and not that nothing was found:
//! [`unsupported`] tells.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::data::{Intelligence, IntelligenceQuery, Knowledge, KnowledgeQuery, Seen, Walk};
use super::envelope::{Data, Word, open, storable};
use super::health::{Health, Words};
use super::stamping::health;
use crate::correlation::Correlation;
use crate::error::Error;
use crate::ops::rest::Api;
use crate::ops::{Caller, Composer};

/// Name of the service in discovery and configuration.
pub const SERVICE: &str = "onextree";

/// The `OnexTree` service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OnexTree<C> {
    caller: C,
    api: Api<C>,
    words: Words,
}

impl<C: Caller> OnexTree<C> {
    /// The service called [`SERVICE`], as reached by `caller`.
    pub fn new(caller: C) -> OnexTree<C> {
        OnexTree::at(caller, SERVICE)
    }

    /// The same under another name.
    pub fn at(caller: C, service: &str) -> OnexTree<C> {
        let api = Api::new(caller.clone(), service)
            .header("user-agent", "omninode-bridge/OnexTreeService")
            .header("accept", "application/json");
        OnexTree { caller, api, words: Words::default() }
    }

    /// Another path for one operation: see [`Api::path`]. Operations are called as their methods.
    #[must_use]
    pub fn path(self, operation: &str, path: &str) -> OnexTree<C> {
        OnexTree { api: self.api.path(operation, path), ..self }
    }

    /// The words by which the service says that it is healthy. Default `healthy` and `ok`.
    #[must_use]
    pub fn healthy_words<'a>(self, words: impl IntoIterator<Item = &'a str>) -> OnexTree<C> {
        OnexTree { words: Words::new(words), ..self }
    }

    /// The same service, each call within this instead of what the policy says: for one call,
    /// `service.timeout(limit).health_check()`.
    #[must_use]
    pub fn timeout(&self, limit: Duration) -> OnexTree<C> {
        OnexTree { api: self.api.timeout(limit), ..self.clone() }
    }

    /// The same service, all operations on behalf of what has this id.
    #[must_use]
    pub fn correlated(&self, id: &Correlation) -> OnexTree<C> {
        OnexTree { api: self.api.correlated(id), ..self.clone() }
    }

    /// For operations that are not here.
    #[must_use]
    pub fn api(&self) -> &Api<C> {
        &self.api
    }

    pub(super) fn words(&self) -> &Words {
        &self.words
    }

    /// What is known about a context. Without a loaded tree the service answers all the same, with
    /// an `analysis_type` of `minimal` or `error_fallback`.
    pub fn get_intelligence(&self, query: &IntelligenceQuery) -> C::Reply<Intelligence> {
        self.ask("get_intelligence", "/intelligence", query, query.use_cache)
    }

    /// Looks for knowledge.
    pub fn query_knowledge(&self, query: &KnowledgeQuery) -> C::Reply<Knowledge> {
        self.ask("query_knowledge", "/knowledge/query", query, query.use_cache)
    }

    /// Walks through the tree.
    pub fn navigate_tree(&self, walk: &Walk) -> C::Reply<Seen> {
        self.ask("navigate_tree", "/tree/navigate", walk, walk.use_cache)
    }

    fn ask<T: Data + Send + 'static>(
        &self,
        name: &'static str,
        path: &str,
        query: &impl Serialize,
        use_cache: bool,
    ) -> C::Reply<T> {
        // All of these are structs of plain fields; what cannot be written is refused below.
        let query = serde_json::to_value(query).unwrap_or(Value::Null);
        self.api
            .post(name, path)
            .json(&query)
            .idempotent(true)
            .remembered(&query)
            .use_cache(use_cache)
            .wish(|wish| wish.good = Some(storable::<T>))
            .with(move |response| open(name, &[Word::Success], response).map(|(data, ..)| data))
    }

    /// What the service says of its health. It is healthy even without a tree: see `tree_loaded`.
    /// Whatever else comes is [`Error::is_unavailable`].
    pub fn health_check(&self) -> C::Reply<Health> {
        self.api.get("health_check", "/health").with(|response| health("health_check", response))
    }
}

impl<C: Composer> OnexTree<C> {
    /// Whether the service can be reached and says that it is healthy. Never an error.
    pub fn validate_connection(&self) -> C::Reply<bool> {
        let (caller, words) = (self.caller.clone(), self.words.clone());
        self.caller.then(self.health_check(), move |health| {
            caller.ready(Ok(health.is_ok_and(|health| health.is(&words))))
        })
    }

    /// [`OnexTree::get_intelligence`], and something that stands in for it where that fails in
    /// whatever way: [`Intelligence::degraded`], without content, with the cause in its metadata.
    /// It is not remembered. This hides mistakes of one's own as well; whoever wants errors to
    /// reach the caller uses the other.
    pub fn get_intelligence_or_fallback(
        &self,
        query: &IntelligenceQuery,
    ) -> C::Reply<Intelligence> {
        let caller = self.caller.clone();
        self.caller.then(self.get_intelligence(query), move |result| {
            caller.ready(Ok(result.unwrap_or_else(|error| Intelligence::fallback(&error))))
        })
    }
}

impl Intelligence {
    fn fallback(error: &Error) -> Intelligence {
        let pair = |name: &str, value: Value| (name.to_owned(), value);
        Intelligence {
            intelligence: [
                pair("analysis_type", "fallback".into()),
                pair("confidence_score", "0.0".into()),
            ]
            .into_iter()
            .collect(),
            metadata: [pair("fallback", true.into()), pair("cause", error.to_string().into())]
                .into_iter()
                .collect(),
            degraded: true,
            ..Intelligence::default()
        }
    }
}

/// Whether an error of `query_knowledge` or `navigate_tree` means that the server does not have
/// the operation.
#[must_use]
pub fn unsupported(error: &Error) -> bool {
    matches!(error, Error::Status { status: 404 | 405 | 501, .. })
}
