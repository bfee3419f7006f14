//! What one request says about the cache beside its headers.

use std::sync::Arc;
use std::time::Duration;

use super::Key;

/// How a request wants to be remembered. Without one, only the settings and the headers count.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Its answer may be remembered.
    pub cached: bool,
    /// Its key; `None`: made from the request.
    pub key: Option<Key>,
    /// It wants a fresh answer, which is stored all the same.
    pub skip: bool,
    /// The tags of its answer.
    pub tags: Vec<Arc<str>>,
    /// How long its answer is fresh, instead of the default. With `respect_headers` it only
    /// shortens what the answer says.
    pub ttl: Option<Duration>,
    /// Whether an answer of this status and body is worth remembering; `None`: the status alone
    /// says that. For services that report errors in an answer of 200.
    pub good: Option<fn(u16, &[u8]) -> bool>,
}

impl Wish {
    /// Whether this answer must not be remembered, whatever its status and headers say.
    #[must_use]
    pub fn refuses(&self, status: u16, body: &[u8]) -> bool {
        self.good.is_some_and(|good| !good(status, body))
    }
}
