//! Redis as the core sees it: commands and replies as data. What is kept there, and what is
//! believed of what is found there, is decided here; connecting and authenticating are the
//! driver's.
//!
//! | file | what it decides |
//! |---|---|
//! | [`server`] | where Redis is and how one logs in, from the text of a URL |
//! | [`keys`] | names of keys, and that nobody can build one outside his namespace |
//! | [`value`] | the text form of a list of instances, and what of a foreign text is believed |
//! | [`level`] | the second level of discovery: asking, storing, invalidating |
//! | [`link`] | leaving Redis alone while it fails |
//! | [`resp`] | the protocol on the wire |
//! | [`knowledge`] | what nodes tell each other about open breakers |

#[cfg(test)]
pub(crate) mod fake;
pub mod keys;
pub mod knowledge;
pub mod level;
pub mod link;
pub mod resp;
pub mod server;
mod settings;
pub mod value;

use std::sync::Arc;

use bytes::Bytes;

pub use keys::{Entry, Keys, Variant};
pub use level::Level;
pub use link::Link;
pub use server::{Login, RedisUrl, Server, Tls};
pub use settings::Settings;

/// One command: its name and arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command(pub Vec<Bytes>);

impl Command {
    /// A command from its words.
    #[must_use]
    pub fn new(words: &[&[u8]]) -> Command {
        Command(words.iter().map(|word| Bytes::copy_from_slice(word)).collect())
    }

    /// A command from words that are text.
    #[must_use]
    pub fn text(words: &[&str]) -> Command {
        Command(words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect())
    }

    /// This command with one more argument, which is not copied.
    #[must_use]
    pub fn with(mut self, word: impl Into<Bytes>) -> Command {
        self.0.push(word.into());
        self
    }
}

/// One reply. A pipeline brings at most as much of them as [`resp::Bounds`] says; more is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing there.
    Nil,
    /// An integer.
    Number(i64),
    /// A string, simple or bulk.
    Text(Bytes),
    /// Several.
    List(Vec<Reply>),
    /// The server refused the command; the first word of its message (`WRONGTYPE`, `NOAUTH`).
    Refused(Arc<str>),
}

impl Reply {
    /// The integer, if it is one.
    #[must_use]
    pub const fn number(&self) -> Option<i64> {
        match self {
            Reply::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The bytes of a string, if it is one.
    #[must_use]
    pub const fn bytes(&self) -> Option<&Bytes> {
        match self {
            Reply::Text(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The elements, if it is a list; a list that is not there has none.
    #[must_use]
    pub fn list(&self) -> Option<&[Reply]> {
        match self {
            Reply::List(list) => Some(list),
            Reply::Nil => Some(&[]),
            _ => None,
        }
    }

    /// The word of a refusal, if it is one.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Arc<str>> {
        match self {
            Reply::Refused(word) => Some(word),
            _ => None,
        }
    }
}
