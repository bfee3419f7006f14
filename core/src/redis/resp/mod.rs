//! The protocol of Redis on the wire (RESP2): commands to bytes, bytes to replies. No socket.
//!
//! A Redis that is not one, or is not ours any more, must not be able to hurt a client that only
//! wanted a cache. So this reader believes nothing that is announced: a length is checked against
//! what may still come *before* anything is read for it, memory grows with bytes that have
//! arrived, lists nest to a small depth, and what comes after the last reply that was asked for
//! is an error, because the next reader of the connection would take it for its own. The `redis`
//! crate (1.8.1) was measured first: it allocates nothing ahead, but has no limit either. 256 MiB
//! behind one announced bulk string cost 767 MiB of memory, 16 MiB of integers in a list 336 MiB,
//! and its limit of reading begins anew with every byte.
//!
//! Only what a server sends to a client that has not said `HELLO 3` is understood. Types of RESP3
//! are refused as garbled.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Command, Reply};
use crate::outcome::Fault;

/// Longest line: a simple string, an error, a number. Redis itself takes 64 KiB at most.
const LINE: usize = 64 << 10;
/// Deepest nesting of lists. `EXEC` around `XREAD` needs five.
const DEPTH: usize = 32;
/// What a bulk string is given before any of it has come.
const FIRST: usize = 16 << 10;
/// Longest first word of an error.
const WORD: usize = 32;

/// How much of replies is read, all replies to one pipeline together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bounds {
    /// Bytes on the wire. Default 8 MiB.
    pub bytes: usize,
    /// Replies and elements of lists, each list counted as one more. Default 10 000. One takes
    /// some 40 bytes of memory besides its own.
    pub elements: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { bytes: 8 << 20, elements: 10_000 }
    }
}

/// Why replies are not read on. The connection is of no use after it. Nothing of what was read is
/// in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Broken {
    /// Not RESP2.
    #[error("not the protocol of Redis")]
    Garbled,
    /// More bytes have come, or are announced, than are read.
    #[error("replies of more than {limit} bytes")]
    TooLong {
        /// [`Bounds::bytes`].
        limit: usize,
    },
    /// More elements have come, or are announced, than are read.
    #[error("replies of more than {limit} elements")]
    TooMany {
        /// [`Bounds::elements`].
        limit: usize,
    },
    /// Lists nest too deep.
    #[error("replies nested deeper than {limit}")]
    TooDeep {
        /// The deepest nesting that is read.
        limit: usize,
    },
    /// Something came after the last reply.
    #[error("more replies than commands")]
    Surplus,
    /// The end came before the last reply was whole. Only [`parse`] says this.
    #[error("replies that break off")]
    BrokenOff,
}

impl Broken {
    /// How an adapter reports it.
    #[must_use]
    pub const fn fault(self) -> Fault {
        match self {
            Broken::TooLong { .. } | Broken::TooMany { .. } => Fault::BodyTooLarge,
            Broken::BrokenOff => Fault::Reset,
            Broken::Garbled | Broken::TooDeep { .. } | Broken::Surplus => Fault::Protocol,
        }
    }
}

/// The bytes of a pipeline of commands.
#[must_use]
pub fn encode(commands: &[Command]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Command(words) in commands {
        header(&mut bytes, b'*', words.len());
        for word in words {
            header(&mut bytes, b'$', word.len());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

fn header(bytes: &mut Vec<u8>, kind: u8, count: usize) {
    bytes.push(kind);
    bytes.extend_from_slice(count.to_string().as_bytes());
    bytes.extend_from_slice(b"\r\n");
}

/// All replies in `bytes`, within the default [`Bounds`].
///
/// # Errors
/// [`Broken`], also when the last reply is not whole.
pub fn parse(bytes: &[u8]) -> Result<Vec<Reply>, Broken> {
    let mut reader = Reader::new(usize::MAX, Bounds::default());
    reader.feed(bytes)?;
    if reader.is_between() { Ok(reader.done) } else { Err(Broken::BrokenOff) }
}

/// Puts replies together from the pieces in which they arrive.
///
/// ```
/// use origin_core::redis::resp::{Bounds, Broken, Reader, encode};
/// use origin_core::redis::{Command, Reply};
///
/// let commands = [Command::new(&[b"GET", b"a"]), Command::new(&[b"TTL", b"a"])];
/// assert_eq!(encode(&commands[..1]), b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
///
/// let mut reader = Reader::new(commands.len(), Bounds::default());
/// assert!(!reader.feed(b"$5\r\nhel")?);
/// assert!(reader.feed(b"lo\r\n:-1\r\n")?);
/// assert_eq!(reader.into_replies(), [Reply::Text("hello".into()), Reply::Number(-1)]);
///
/// let mut reader = Reader::new(1, Bounds::default());
/// assert_eq!(reader.feed(b"$9000000000\r\n"), Err(Broken::TooLong { limit: 8 << 20 }));
/// # Ok::<(), Broken>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    bounds: Bounds,
    /// Bytes and elements that may still come.
    left: Bounds,
    wanted: usize,
    done: Vec<Reply>,
    /// The lists that have begun and not ended, outermost first.
    lists: Vec<List>,
    /// The line as far as it has come.
    line: Vec<u8>,
    /// The bulk string that has begun.
    bulk: Option<Bulk>,
    broken: Option<Broken>,
}

#[derive(Debug)]
struct List {
    items: Vec<Reply>,
    missing: usize,
}

#[derive(Debug)]
struct Bulk {
    text: Vec<u8>,
    length: usize,
}

impl Reader {
    /// A reader of the replies to `wanted` commands.
    #[must_use]
    pub fn new(wanted: usize, bounds: Bounds) -> Reader {
        Reader {
            bounds,
            left: bounds,
            wanted,
            done: Vec::new(),
            lists: Vec::new(),
            line: Vec::new(),
            bulk: None,
            broken: None,
        }
    }

    /// Whether all replies are there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done.len() >= self.wanted
    }

    /// The replies that are whole.
    #[must_use]
    pub fn into_replies(self) -> Vec<Reply> {
        self.done
    }

    /// Takes what has arrived. Returns whether all replies are there.
    ///
    /// # Errors
    /// [`Broken`], and the same again from then on.
    pub fn feed(&mut self, mut input: &[u8]) -> Result<bool, Broken> {
        while !input.is_empty() && self.broken.is_none() {
            match self.advance(input) {
                Ok(rest) => input = rest,
                Err(broken) => self.broken = Some(broken),
            }
        }
        self.broken.map_or(Ok(self.is_done()), Err)
    }

    fn is_between(&self) -> bool {
        self.lists.is_empty() && self.line.is_empty() && self.bulk.is_none()
    }

    /// Takes one line, or one piece of a bulk string, from the front of `input`, which is not
    /// empty. Returns the rest.
    fn advance<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Broken> {
        if self.is_done() {
            return Err(Broken::Surplus);
        }
        if let Some(bulk) = &mut self.bulk {
            // The text, and the line end that belongs to it.
            let missing = (bulk.length + 2).saturating_sub(bulk.text.len());
            let (piece, rest) = input.split_at(missing.min(input.len()));
            self.left.bytes = self.left.bytes.saturating_sub(piece.len());
            bulk.take(piece);
            if piece.len() == missing {
                let mut text = self.bulk.take().map(|bulk| bulk.text).unwrap_or_default();
                if !text.ends_with(b"\r\n") {
                    return Err(Broken::Garbled);
                }
                text.truncate(text.len() - 2);
                self.put(Reply::Text(text.into()));
            }
            return Ok(rest);
        }
        // Also before the line is whole: what is no Redis may send no line end for long.
        if self.line.is_empty() && !b"+-:$*".contains(&input[0]) {
            return Err(Broken::Garbled);
        }
        let end = input.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let (piece, rest) = input.split_at(end.unwrap_or(input.len()));
        if piece.len() > self.left.bytes {
            return Err(Broken::TooLong { limit: self.bounds.bytes });
        }
        self.left.bytes -= piece.len();
        if self.line.len() + piece.len() > LINE {
            return Err(Broken::TooLong { limit: LINE });
        }
        self.line.extend_from_slice(piece);
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r\n").filter(|line| !line.contains(&b'\r'));
            self.value(line.ok_or(Broken::Garbled)?)?;
        }
        Ok(rest)
    }

    /// A value, or what it begins with.
    fn value(&mut self, line: &[u8]) -> Result<(), Broken> {
        let too_many = Broken::TooMany { limit: self.bounds.elements };
        self.left.elements = self.left.elements.checked_sub(1).ok_or(too_many)?;
        let (kind, text) = line.split_first().ok_or(Broken::Garbled)?;
        let reply = match kind {
            b'+' => Reply::Text(Bytes::copy_from_slice(text)),
            b'-' => Reply::Refused(word(text).into()),
            b':' => Reply::Number(number(text)?),
            b'$' => match length(text)? {
                None => Reply::Nil,
                Some(length) => {
                    if length.checked_add(2).is_none_or(|all| all > self.left.bytes) {
                        return Err(Broken::TooLong { limit: self.bounds.bytes });
                    }
                    self.bulk = Some(Bulk { text: Vec::new(), length });
                    return Ok(());
                }
            },
            b'*' => match length(text)? {
                None => Reply::Nil,
                Some(0) => Reply::List(Vec::new()),
                Some(missing) if missing > self.left.elements => return Err(too_many),
                Some(_) if self.lists.len() >= DEPTH => {
                    return Err(Broken::TooDeep { limit: DEPTH });
                }
                Some(missing) => {
                    self.lists.push(List { items: Vec::new(), missing });
                    return Ok(());
                }
            },
            _ => return Err(Broken::Garbled),
        };
        self.put(reply);
        Ok(())
    }

    /// A value is whole, and with it perhaps the lists that it ends.
    fn put(&mut self, mut reply: Reply) {
        while let Some(mut list) = self.lists.pop() {
            list.items.push(reply);
            list.missing -= 1;
            if list.missing > 0 {
                self.lists.push(list);
                return;
            }
            reply = Reply::List(list.items);
        }
        self.done.push(reply);
    }
}

impl Bulk {
    /// Room is made as text comes, twice as much each time, and never more than was announced.
    fn take(&mut self, piece: &[u8]) {
        let needed = self.text.len() + piece.len();
        if needed > self.text.capacity() {
            let room = (self.text.capacity() * 2).max(FIRST).min(self.length + 2).max(needed);
            self.text.reserve_exact(room - self.text.len());
        }
        self.text.extend_from_slice(piece);
    }
}

/// The word that says what an error is. A server may write anything there; what is no such word
/// is not repeated.
fn word(text: &[u8]) -> &str {
    let first = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    match std::str::from_utf8(first) {
        Ok(word) if (1..=WORD).contains(&word.len()) && first.iter().all(plain) => word,
        _ => "ERR",
    }
}

fn number(text: &[u8]) -> Result<i64, Broken> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Broken::Garbled)
}

/// A length, or `None` for the one that stands for nothing.
fn length(text: &[u8]) -> Result<Option<usize>, Broken> {
    match number(text)? {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| Broken::Garbled),
    }
}

#[cfg(test)]
mod tests;
