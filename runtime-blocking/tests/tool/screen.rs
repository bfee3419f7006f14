//! A terminal that is strict: it obeys what the tool has a use for, as a real one does, and fails the
//! test on everything else. Whatever a peer gets through to it is found here.

use unicode_width::UnicodeWidthChar;

/// What is seen.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    columns: usize,
    height: usize,
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    wraps: bool,
    pub(crate) alternate: bool,
    pub(crate) cursor: bool,
    /// Whether anything was painted.
    pub(crate) colours: bool,
}

/// The second half of a wide character.
const HALF: char = '\0';

impl Screen {
    /// The screen after these bytes.
    pub(crate) fn of(bytes: &[u8], (columns, lines): (u16, u16)) -> Screen {
        let (columns, height) = (columns.into(), lines.into());
        let mut screen = Screen {
            columns,
            height,
            rows: vec![vec![' '; columns]; height],
            row: 0,
            column: 0,
            wraps: true,
            alternate: false,
            cursor: true,
            colours: false,
        };
        // A character or a sequence that has come in part is left for the next time.
        let whole = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                assert!(error.error_len().is_none(), "this is no UTF-8: {bytes:?}");
                std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap()
            }
        };
        let mut rest = whole;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\x1b' => match sequence(rest) {
                    Some((parameters, last, after)) => {
                        screen.obey(parameters, last);
                        rest = after;
                    }
                    None => return screen,
                },
                '\r' => screen.column = 0,
                '\n' => screen.feed(),
                '\t' => screen.column = (screen.column / 8 * 8 + 8).min(screen.columns - 1),
                c => screen.put(c),
            }
        }
        screen
    }

    fn obey(&mut self, parameters: &str, last: char) {
        let number = |text: &str| text.parse::<usize>().unwrap_or(1).max(1);
        match (parameters, last) {
            (codes, 'm') => {
                let known = ["0", "1", "2", "4", "31", "32", "33", ""];
                assert!(codes.split(';').all(|code| known.contains(&code)), "colour {codes:?}");
                self.colours |= !matches!(codes, "0" | "");
            }
            ("", 'K') => {
                // A cursor that waits behind the last column stands on it for this.
                let from = self.column.min(self.columns - 1);
                self.rows[self.row][from..].fill(' ');
            }
            ("", 'J') => {
                let from = self.column.min(self.columns - 1);
                self.rows[self.row][from..].fill(' ');
                self.rows[self.row + 1..].iter_mut().for_each(|row| row.fill(' '));
            }
            (place, 'H') => {
                let (row, column) = place.split_once(';').unwrap_or((place, ""));
                self.row = (number(row) - 1).min(self.height - 1);
                self.column = (number(column) - 1).min(self.columns - 1);
            }
            (count, 'A') => self.row = self.row.saturating_sub(number(count)),
            ("?7", 'h' | 'l') => self.wraps = last == 'h',
            ("?25", 'h' | 'l') => self.cursor = last == 'h',
            ("?1049", 'h' | 'l') => self.alternate = last == 'h',
            _ => panic!("a sequence that the tool has no use for: {parameters:?} {last:?}"),
        }
    }

    fn put(&mut self, c: char) {
        let hides = matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
        assert!(!c.is_control() && !hides, "a character that acts: {c:?}");
        let wide = c.width().unwrap_or(0);
        if self.column + wide > self.columns {
            match self.wraps {
                true => {
                    self.column = 0;
                    self.feed();
                }
                false => self.column = self.columns - wide,
            }
        }
        if wide > 0 {
            self.rows[self.row][self.column] = c;
            if wide == 2 {
                self.rows[self.row][self.column + 1] = HALF;
            }
        }
        self.column += wide;
    }

    fn feed(&mut self) {
        if self.row + 1 < self.height {
            self.row += 1;
        } else {
            assert!(!self.alternate, "the screen has scrolled");
            self.rows.remove(0);
            self.rows.push(vec![' '; self.columns]);
        }
    }

    /// Line by line, without the blanks behind them.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |row: &Vec<char>| row.iter().filter(|c| **c != HALF).collect::<String>();
        self.rows.iter().map(|row| line(row).trim_end().to_owned()).collect()
    }

    pub(crate) fn text(&self) -> String {
        self.lines().join("\n").trim_end().to_owned()
    }
}

/// Parameters, final character and the rest of a control sequence; `None` while it is not whole.
fn sequence(text: &str) -> Option<(&str, char, &str)> {
    let first = text.chars().next()?;
    assert_eq!(first, '[', "an escape that the tool has no use for: {text:?}");
    let end = text[1..].find(|c: char| !matches!(c, '0'..='9' | ';' | '?'))? + 1;
    let last = text[end..].chars().next()?;
    Some((&text[1..end], last, &text[end + last.len_utf8()..]))
}

/// Blank behind the last column, as on xterm: the reason why a line is cleared before it is written.
#[test]
fn the_screen_does_what_a_terminal_does() {
    let screen = Screen::of("ab\x1b[1;1Hx\r\n漢\x1b[31mcd\x1b[0m\x1b[K".as_bytes(), (4, 2));
    assert_eq!(screen.lines(), ["xb", "漢c"]);
    assert!(screen.colours && screen.cursor);
    assert_eq!(Screen::of(b"12345", (4, 2)).lines(), ["1234", "5"]);
    assert_eq!(Screen::of(b"\x1b[?7l12345", (4, 2)).lines(), ["1235", ""]);
    for acts in ["\x1b]0;x\x07", "\x1b[2J", "\u{9b}2J", "\u{202e}", "\x1b[5m", "\x08"] {
        let seen = std::panic::catch_unwind(|| Screen::of(acts.as_bytes(), (4, 2)));
        assert!(seen.is_err(), "{acts:?}");
    }
}
