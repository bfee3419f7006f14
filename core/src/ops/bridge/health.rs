//! What services of the bridge say of their health. The word stands at the top in one contract and
//! in the data of an envelope in the other; `healthy` and `ok` both mean that all is well, unless
//! somebody says otherwise. A ready endpoint answers 200 whether it is ready or not: the body
//! counts (contracts §3.5).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use super::envelope::{Bad, object};
use crate::error::Error;

/// What a service says of its health.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Health {
    /// All it says.
    pub body: Map<String, Value>,
}

impl Health {
    /// Reads an answer.
    ///
    /// # Errors
    /// [`Bad::Shape`].
    pub fn read(body: &[u8]) -> Result<Health, Bad> {
        object(body).map(|body| Health { body })
    }

    /// The word for how it is: `data.status` where there is one, else `status`, else nothing.
    #[must_use]
    pub fn status(&self) -> &str {
        let inner = self.body.get("data").and_then(|data| data.get("status"));
        let word = inner.and_then(Value::as_str);
        word.or_else(|| self.body.get("status")?.as_str()).unwrap_or_default()
    }

    /// Whether its word is one of these, in whatever case, and it does not say that it is not
    /// ready.
    #[must_use]
    pub fn is(&self, words: &Words) -> bool {
        let data = self.body.get("data").and_then(Value::as_object).unwrap_or(&self.body);
        let ready = data.get("overall_ready").and_then(Value::as_bool).unwrap_or(true);
        ready && words.0.iter().any(|word| word.eq_ignore_ascii_case(self.status()))
    }

    /// Whether a ready endpoint says that it is: `overall_ready` where it says that, else the word.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let data = self.body.get("data").and_then(Value::as_object).unwrap_or(&self.body);
        match data.get("overall_ready").and_then(Value::as_bool) {
            Some(ready) => ready,
            None => matches!(self.status(), "ready" | "healthy" | "ok" | "success"),
        }
    }
}

/// The words that mean that all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words(Arc<[Box<str>]>);

impl Words {
    /// These and no others.
    pub fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Words {
        Words(words.into_iter().map(Box::from).collect())
    }
}

/// `healthy` and `ok`.
impl Default for Words {
    fn default() -> Words {
        Words::new(["healthy", "ok"])
    }
}

/// How all services together are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Together {
    /// All are healthy.
    Healthy,
    /// Not all are.
    Degraded,
}

/// How one of them is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum OneHealth {
    /// What it says.
    Says(Health),
    /// It could not be asked.
    Failed {
        /// `unreachable`.
        status: &'static str,
        /// Why, without anything a server said.
        error: String,
    },
}

impl OneHealth {
    pub(super) fn of(result: Result<Health, Error>) -> OneHealth {
        match result {
            Ok(health) => OneHealth::Says(health),
            Err(error) => OneHealth::Failed { status: "unreachable", error: error.to_string() },
        }
    }

    fn is(&self, words: &Words) -> bool {
        matches!(self, OneHealth::Says(health) if health.is(words))
    }
}

/// The health of the bridge: there is always one, also when a service cannot be asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BridgeHealth {
    /// Healthy only if all are.
    pub status: Together,
    /// Each by its name: `metadata` and `onextree`.
    pub services: BTreeMap<&'static str, OneHealth>,
}

impl BridgeHealth {
    pub(super) fn of(metadata: (OneHealth, &Words), onextree: (OneHealth, &Words)) -> BridgeHealth {
        let all = metadata.0.is(metadata.1) && onextree.0.is(onextree.1);
        BridgeHealth {
            status: if all { Together::Healthy } else { Together::Degraded },
            services: [("metadata", metadata.0), ("onextree", onextree.0)].into(),
        }
    }
}
