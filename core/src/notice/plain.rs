//! Text of others made safe for one line of a log or a terminal. Names and reasons come from
//! registries and peers that may be hostile: a line break would forge a line, an escape sequence
//! would move the cursor, a direction mark would show something else than was written.

use std::fmt::{self, Write};

/// Longest text in characters; what follows is cut off and marked by an ellipsis.
pub const LONGEST: usize = 8_192;

/// Shows a value on one line: control characters (C0, DEL, C1), separators of lines and
/// paragraphs, marks of direction and the byte order mark are written as `\n`, `\u{1b}`, … and no
/// more than [`LONGEST`] characters. All else is as it is.
///
/// ```
/// use origin_core::notice::Plain;
///
/// assert_eq!(Plain("billing\n\u{1b}[2J").to_string(), r"billing\n\u{1b}[2J");
/// ```
#[derive(Clone, Copy)]
pub struct Plain<T>(pub T);

/// Whether `c` may change more than its own place in a line.
const fn is_active(c: char) -> bool {
    matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

struct Sieve<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    left: usize,
}

impl Sieve<'_, '_> {
    fn take(&mut self, c: char) -> fmt::Result {
        match self.left {
            0 => return Ok(()),
            1 => self.out.write_char('…')?,
            _ if is_active(c) => write!(self.out, "{}", c.escape_default())?,
            _ => self.out.write_char(c)?,
        }
        self.left -= 1;
        Ok(())
    }
}

impl Write for Sieve<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // What is harmless is most of it, and goes in one piece.
        if text.len() < self.left && !text.chars().any(is_active) {
            self.left -= text.chars().count();
            return self.out.write_str(text);
        }
        text.chars().try_for_each(|c| self.take(c))
    }
}

impl<T: fmt::Display> fmt::Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Sieve { out: f, left: LONGEST }, "{}", self.0)
    }
}

impl<T: fmt::Display> fmt::Debug for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_forge_a_line_or_move_the_cursor_is_written_out() {
        for (text, plain) in [
            ("a\r\nINFO forged", r"a\r\nINFO forged"),
            ("\u{1b}]0;title\u{7}", r"\u{1b}]0;title\u{7}"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("abc\u{202e}gpj.exe", r"abc\u{202e}gpj.exe"),
            ("a\u{2028}b\u{feff}", r"a\u{2028}b\u{feff}"),
            ("über\\tab", "über\\tab"),
        ] {
            assert_eq!(Plain(text).to_string(), plain);
        }
        let long = Plain("x".repeat(1 << 20)).to_string();
        assert_eq!((long.chars().count(), long.chars().last()), (LONGEST, Some('…')));
        let just = "x".repeat(LONGEST - 1);
        assert_eq!(Plain(&just).to_string(), just);
    }

    proptest! {
        /// Whatever comes in, and in however many pieces, is one bounded line without anything
        /// active; and what is harmless is as it was.
        #[test]
        fn any_text_is_one_harmless_line(pieces in proptest::collection::vec(any::<String>(), 0..9)) {
            struct All<'a>(&'a [String]);
            impl fmt::Display for All<'_> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.iter().try_for_each(|piece| f.write_str(piece))
                }
            }
            let plain = Plain(All(&pieces)).to_string();
            prop_assert!(!plain.chars().any(|c| c.is_control() || is_active(c)));
            prop_assert_eq!(plain.lines().count(), usize::from(!plain.is_empty()));
            prop_assert_eq!(&Plain(&plain).to_string(), &plain);
            let whole = pieces.concat();
            if !whole.chars().any(is_active) {
                prop_assert_eq!(plain, whole);
            }
        }
    }
}
