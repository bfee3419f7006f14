//! Words for a person at a terminal, or a program behind a pipe: what a peer has put into a name
//! cannot steer the terminal, tables line up, colours are there only where they are seen.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use origin_blocking::core::time::DurationText;
use serde::Serialize;
use unicode_width::UnicodeWidthChar;

use crate::exit::Refusal;

/// Whether a character does something instead of being something: controls, and what turns the
/// direction of a text around or hides in it.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{feff}')
        || matches!(c, '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One line that shows such characters instead of obeying them.
pub(crate) fn clean(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut clean, c| {
        match acts(c) {
            true => clean.extend(c.escape_default()),
            false => clean.push(c),
        }
        clean
    })
}

/// The same of several lines.
pub(crate) fn clean_lines(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    // Character by character, as most terminals count, and never less than they do.
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// At most `columns` of a text; one that was cut ends with `~`.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut cut, mut used) = (String::new(), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > columns {
            break;
        }
        cut.push(c);
        used += wide;
    }
    if columns > 0 {
        cut.push('~');
    }
    cut
}

/// A text in exactly so many columns.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    let mut fit = cut(text, columns);
    fit.extend(std::iter::repeat_n(' ', columns.saturating_sub(width(&fit))));
    fit
}

/// The same with the text at the right.
pub(crate) fn fit_right(text: &str, columns: usize) -> String {
    let fit = cut(text, columns);
    format!("{}{fit}", " ".repeat(columns.saturating_sub(width(&fit))))
}

/// How bad something is, as a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Well,
    Warn,
    Bad,
    Dim,
    Bold,
}

/// When there are colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Colour {
    // Words behind three slashes would be printed in every help, a paragraph each.
    #[default]
    Auto,
    Always,
    Never,
}

static CHOSEN: OnceLock<Colour> = OnceLock::new();

/// Takes note of what the command line says of colours, once.
pub(crate) fn choose(colour: Colour) {
    CHOSEN.get_or_init(|| colour);
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    /// For stdout.
    pub(crate) fn of_stdout() -> Paint {
        Paint::of(&io::stdout())
    }

    /// As the command line says, else as the terminal, `NO_COLOR` and `TERM` say.
    pub(crate) fn of(stream: &impl IsTerminal) -> Paint {
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        Paint(match CHOSEN.get().copied().unwrap_or_default() {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => stream.is_terminal() && !dumb() && !set("NO_COLOR"),
        })
    }

    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Well => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Dim => "2",
            Tone::Bold => "1",
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Whether the terminal can do no more than print.
pub(crate) fn dumb() -> bool {
    env::var_os("TERM").is_none_or(|term| term == "dumb")
}

/// Rows under a head, each column as wide as its widest cell. Cells are cleaned here.
pub(crate) struct Table {
    rows: Vec<Vec<(String, Option<Tone>)>>,
}

impl Table {
    pub(crate) fn new(head: &[&str]) -> Table {
        let head = head.iter().map(|name| ((*name).to_owned(), Some(Tone::Dim)));
        Table { rows: vec![head.collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = (String, Option<Tone>)>) {
        self.rows.push(cells.into_iter().map(|(cell, tone)| (clean(&cell), tone)).collect());
    }

    pub(crate) fn text(&self, paint: Paint) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cells = |at: usize| self.rows.iter().filter_map(move |row| row.get(at));
        let widths: Vec<usize> = (0..columns)
            .map(|at| cells(at).map(|(cell, _)| width(cell)).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let last = row.iter().rposition(|(cell, _)| !cell.is_empty()).unwrap_or(0);
            for (at, ((cell, tone), width)) in row.iter().zip(&widths).enumerate().take(last + 1) {
                // Padded before it is painted: colours have no width.
                let cell = if at == last { cell.clone() } else { fit(cell, *width) };
                text.push_str(&tone.map_or(cell.clone(), |tone| paint.paint(tone, &cell)));
                text.push_str(if at == last { "\n" } else { "  " });
            }
        }
        text
    }
}

/// How old something is, no finer than people care for.
pub(crate) fn age(age: Duration) -> String {
    let coarse = match age.as_secs() {
        0 => Duration::from_millis(age.as_millis() as u64),
        seconds => Duration::from_secs(seconds),
    };
    DurationText(coarse).to_string()
}

/// So many of something: `1 stamp`, `2 stamps`.
pub(crate) fn count(number: impl Display, what: &str) -> String {
    let number = number.to_string();
    let end = if number == "1" { "" } else { "s" };
    format!("{number} {what}{end}")
}

/// Writes to stdout, at once.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Refusal> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Refusal::output(&error))
}

/// Writes one value as JSON on a line. What acts is escaped, which changes nothing of the value: it
/// can stand in texts only.
pub(crate) fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<(), Refusal> {
    let text = serde_json::to_string(value).map_err(|error| {
        Refusal::Unusable(format!("this cannot be written as JSON: {error}"), "report this")
    })?;
    print(format!("{}\n", clean_json(&text)).as_bytes())
}

fn clean_json(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut clean, c| {
        match acts(c) {
            true => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    clean.push_str(&format!("\\u{unit:04x}"));
                }
            }
            false => clean.push(c),
        }
        clean
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_acts() {
        assert_eq!(clean("a\x1b[31m\nb\u{202e}c\u{9b}d"), "a\\u{1b}[31m\\nb\\u{202e}c\\u{9b}d");
        assert_eq!(clean("Käse 漢字"), "Käse 漢字");
        assert_eq!(clean_lines("a\nb\rc"), "a\nb\\rc");
        let all = "\u{1b}\u{7f}\u{9b}\u{202e}\u{e0041}ä";
        let json = clean_json(&serde_json::to_string(all).unwrap());
        assert_eq!(json, r#""\u001b\u007f\u009b\u202e\udb40\udc41ä""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), all);
    }

    #[test]
    fn columns_are_counted_as_a_terminal_does() {
        assert_eq!((width("漢字"), fit("漢字", 5)), (4, "漢字 ".to_owned()));
        assert_eq!((cut("漢字漢字", 4), cut("abcdef", 3)), ("漢~".to_owned(), "ab~".to_owned()));
        assert_eq!((fit("abc", 0), fit_right("1", 3)), (String::new(), "  1".to_owned()));
        let mut table = Table::new(&["name", "n"]);
        table.row([("漢字".to_owned(), None), ("\x1b[2J".to_owned(), Some(Tone::Bad))]);
        assert_eq!(table.text(Paint(false)), "name  n\n漢字  \\u{1b}[2J\n");
        assert!(table.text(Paint(true)).contains("\x1b[31m\\u{1b}[2J\x1b[0m"));
    }
}
