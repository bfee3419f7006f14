//! Redis as the core sees it: commands and replies as data. What is kept there, and what is
//! believed of what is found there, is decided here; connecting, authenticating and the protocol
//! on the wire are the adapters'.

use std::sync::Arc;

use bytes::Bytes;

/// One command: its name and arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command(pub Vec<Bytes>);

impl Command {
    /// A command from its words.
    #[must_use]
    pub fn new(words: &[&[u8]]) -> Command {
        Command(words.iter().map(|word| Bytes::copy_from_slice(word)).collect())
    }
}

/// One reply. Adapters convert what they get, at most some thousand elements and some megabytes
/// of it; the rest is an error.
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
