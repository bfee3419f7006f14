//! Content that somebody else has made, on its way to stdout: as it is into a pipe or a file, shown on
//! a terminal, where nothing in it acts and the prompt does not stand behind it.

use std::io::{self, IsTerminal};
use std::mem;

use crate::exit::Refusal;
use crate::text;

/// A character is no longer than this.
const LONGEST: usize = 4;

/// Where it goes.
#[derive(Debug)]
pub(crate) struct Content {
    shown: bool,
    /// The beginning of a character.
    begun: Vec<u8>,
    /// The line that was begun last was ended, or none was begun.
    ended: bool,
}

/// Writes all of it.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Refusal> {
    let mut content = Content::to_stdout();
    content.write(bytes)?;
    content.end()
}

impl Content {
    pub(crate) fn to_stdout() -> Content {
        Content { shown: io::stdout().is_terminal(), begun: Vec::new(), ended: true }
    }

    /// Writes a piece.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.shown { text::print(self.show(bytes).as_bytes()) } else { text::print(bytes) }
    }

    /// Writes what is left.
    pub(crate) fn end(mut self) -> Result<(), Refusal> {
        if !self.shown {
            return Ok(());
        }
        let rest = self.rest();
        text::print(rest.as_bytes())
    }

    fn show(&mut self, bytes: &[u8]) -> String {
        let mut all = mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let cut = all.len() - unfinished(&all);
        self.begun = all.split_off(cut);
        let text = String::from_utf8_lossy(&all);
        if let Some(last) = text.chars().last() {
            self.ended = last == '\n';
        }
        let tabs: Vec<String> = text.split('\t').map(text::clean_lines).collect();
        tabs.join("\t")
    }

    fn rest(&mut self) -> String {
        let begun = mem::take(&mut self.begun);
        let text = text::clean(&String::from_utf8_lossy(&begun));
        let end = if self.ended && text.is_empty() { "" } else { "\n" };
        text + end
    }
}

/// Bytes at the end that more bytes could make a character of.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = bytes.get(bytes.len().saturating_sub(LONGEST)..).unwrap_or_default();
    (1..tail.len() + 1)
        .find(|count| {
            let end = tail.get(tail.len() - count..).unwrap_or_default();
            end.first().is_some_and(|first| *first >= 0xc0)
        })
        .filter(|count| {
            let end = tail.get(tail.len() - count..).unwrap_or_default();
            std::str::from_utf8(end).is_err_and(|error| error.error_len().is_none())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it is seen, in pieces of this size.
    fn shown(bytes: &[u8], size: usize) -> String {
        let mut content = Content { shown: true, begun: Vec::new(), ended: true };
        let mut seen = String::new();
        for piece in bytes.chunks(size) {
            seen.push_str(&content.show(piece));
        }
        seen + &content.rest()
    }

    #[test]
    fn the_same_is_seen_in_whatever_pieces_it_came() {
        for (bytes, expected) in [
            ("a\tb\n".as_bytes(), "a\tb\n"),
            ("ä漢\u{1f600}".as_bytes(), "ä漢\u{1f600}\n"),
            ("\u{1b}[2J\u{202e}\u{9b}".as_bytes(), "\\u{1b}[2J\\u{202e}\\u{9b}\n"),
            (&[b'a', 0xff, b'b', 0xe6, 0xbc], "a\u{fffd}b\u{fffd}\n"),
            (&[], ""),
        ] {
            for size in 1..=bytes.len().max(1) {
                assert_eq!(shown(bytes, size), expected, "{bytes:?} by {size}");
            }
        }
    }
}
