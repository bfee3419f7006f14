//! Both services together: hash and intelligence at once, then the stamp (contracts §3.10).

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::data::{Intelligence, IntelligenceQuery, NewStamp, Stamp};
use super::health::{BridgeHealth, OneHealth};
use super::stamping::{Stamping, text};
use super::tree::OnexTree;
use crate::correlation::Correlation;
use crate::error::Error;
use crate::ops::Composer;

/// Both services, and what is done with them together. Cheap to clone.
///
/// ```
/// use origin_core::ops::Composer;
/// use origin_core::ops::bridge::{Bridge, Processed};
///
/// fn stamp<C: Composer>(client: C, text: &str) -> C::Reply<Processed> {
///     Bridge::new(client).process(text.to_owned(), "src/main.rs", "the entry point")
/// }
/// ```
///
/// With an adapter: `client.bridge().process(text, path, context).await?`, or without the `.await`
/// on the blocking one.
#[derive(Clone, Debug)]
pub struct Bridge<C> {
    caller: C,
    stamping: Stamping<C>,
    tree: OnexTree<C>,
    correlation: Option<Correlation>,
}

/// What became of a content.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Processed {
    /// Its hash.
    pub hash: String,
    /// Its stamp, which says what is in `intelligence`.
    pub stamp: Stamp,
    /// What is known about its context.
    pub intelligence: Intelligence,
}

impl<C: Composer> Bridge<C> {
    /// Both services under their usual names, as reached by `caller`.
    pub fn new(caller: C) -> Bridge<C> {
        let (stamping, tree) = (Stamping::new(caller.clone()), OnexTree::new(caller.clone()));
        Bridge { caller, stamping, tree, correlation: None }
    }

    /// With another handle on the stamping service.
    #[must_use]
    pub fn with_stamping(self, stamping: Stamping<C>) -> Bridge<C> {
        Bridge { stamping, ..self }
    }

    /// With another handle on the tree.
    #[must_use]
    pub fn with_tree(self, tree: OnexTree<C>) -> Bridge<C> {
        Bridge { tree, ..self }
    }

    /// The same services, everything on behalf of what has this id.
    #[must_use]
    pub fn correlated(&self, id: &Correlation) -> Bridge<C> {
        Bridge { correlation: Some(id.clone()), ..self.clone() }
    }

    /// The stamping service.
    #[must_use]
    pub fn stamping(&self) -> &Stamping<C> {
        &self.stamping
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &OnexTree<C> {
        &self.tree
    }

    fn id(&self) -> Correlation {
        self.correlation.clone().unwrap_or_else(|| self.caller.correlation())
    }

    /// Hashes a content and asks about its context, both at once, and makes a stamp of both. The
    /// failure of one ends it: nothing is stamped then. All requests have one correlation id.
    pub fn process(
        &self,
        content: impl Into<Bytes>,
        path: &str,
        context: &str,
    ) -> C::Reply<Processed> {
        let (content, path, context) = (content.into(), path.to_owned(), context.to_owned());
        let text = match self.stamping.wants_content() {
            false => None,
            true => match text(&content) {
                Some(text) => Some(text),
                None => {
                    let service = super::stamping::SERVICE.into();
                    let reason = "the published server stamps text in UTF-8 only".to_owned();
                    return self.caller.ready(Err(Error::Request { service, reason }));
                }
            },
        };
        let id = self.id();
        let (stamping, tree) = (self.stamping.correlated(&id), self.tree.correlated(&id));
        let (hasher, bytes) = (stamping.clone(), content.clone());
        let query = IntelligenceQuery::new(context.clone());
        let both = self.caller.both(
            move || hasher.generate_hash(&bytes, None),
            move || tree.get_intelligence(&query),
        );
        let caller = self.caller.clone();
        self.caller.then(both, move |result| {
            let (hash, intelligence) = match result {
                Ok(both) => both,
                Err(error) => return caller.ready(Err(error)),
            };
            let known = serde_json::to_value(&intelligence).unwrap_or(Value::Null);
            let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
            let stamp = NewStamp {
                content: text,
                ..NewStamp::new(hash.hash.clone(), path, size)
                    .with("intelligence", known)
                    .with("context", context)
            };
            let stamped = stamping.create_stamp(&stamp, None);
            let last = caller.clone();
            caller.then(stamped, move |stamp| {
                last.ready(stamp.map(|stamp| Processed { hash: hash.hash, stamp, intelligence }))
            })
        })
    }

    /// Makes sure at the start of a program that both services can be reached and are healthy.
    ///
    /// Yields [`Error::NotHealthy`], which names those that are not.
    pub fn validate(&self) -> C::Reply<()> {
        let id = self.id();
        let (stamping, tree) = (self.stamping.correlated(&id), self.tree.correlated(&id));
        let both = self
            .caller
            .both(move || stamping.validate_connection(), move || tree.validate_connection());
        let caller = self.caller.clone();
        self.caller.then(both, move |result| {
            caller.ready(result.and_then(|(stamping, tree)| {
                let all = [(super::stamping::SERVICE, stamping), (super::tree::SERVICE, tree)];
                let bad = all.into_iter().filter(|(_, well)| !well);
                let services: Vec<_> = bad.map(|(service, _)| service.into()).collect();
                if services.is_empty() { Ok(()) } else { Err(Error::NotHealthy { services }) }
            }))
        })
    }

    /// How both are. There is always an answer: a service that cannot be asked is in it with the
    /// reason.
    pub fn health(&self) -> C::Reply<BridgeHealth> {
        let id = self.id();
        let (stamping, tree) = (self.stamping.correlated(&id), self.tree.correlated(&id));
        let words = (self.stamping.words().clone(), self.tree.words().clone());
        let (one, other) = (self.caller.clone(), self.caller.clone());
        let both = self.caller.both(
            move || one.clone().then(stamping.health_check(), seen(one)),
            move || other.clone().then(tree.health_check(), seen(other)),
        );
        let caller = self.caller.clone();
        self.caller.then(both, move |result| {
            caller.ready(result.map(|(metadata, onextree)| {
                BridgeHealth::of((metadata, &words.0), (onextree, &words.1))
            }))
        })
    }
}

/// Makes a health of whatever came of asking for it.
fn seen<C: Composer>(
    caller: C,
) -> impl FnOnce(Result<super::Health, Error>) -> C::Reply<OneHealth> + Send + 'static {
    move |result| caller.ready(Ok(OneHealth::of(result)))
}
