//! `origin top`: the state of a client, live. On a terminal the whole screen is drawn over and over,
//! and given back as it was; elsewhere a plain frame is printed now and then. What a frame looks like
//! is in `frame`.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};
use origin_blocking::Snapshot;

use crate::exit::{self, Refusal};
use crate::frame::{Size, View, frame, write};
use crate::history::History;
use crate::look::{self, Source};
use crate::text::{self, Paint};
use crate::{signal, span};

/// How often keys are looked for.
const KEYS: Duration = Duration::from_millis(50);

/// The command line of `origin top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// From one look to the next.
    #[arg(long, short, value_name = "SPAN", value_parser = span::parse, default_value = "1s")]
    interval: Duration,
    /// Print one frame and end.
    #[arg(long)]
    once: bool,
    /// Where nobody sees a terminal: size of a frame. Default: COLUMNS and LINES, else 80x24.
    #[arg(long, value_name = "COLUMNSxLINES", value_parser = size)]
    size: Option<(u16, u16)>,
    #[command(flatten)]
    look: look::Whose,
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let parts = text
        .split_once('x')
        .and_then(|(columns, lines)| Some((columns.parse().ok()?, lines.parse().ok()?)));
    match parts {
        Some((40..=1000, 8..=1000)) => parts.ok_or_else(String::new),
        _ => Err("write COLUMNSxLINES, at least 40x8".to_owned()),
    }
}

/// What is shown.
struct Shown {
    snapshot: Snapshot,
    history: History,
    view: View,
}

impl Shown {
    fn new(snapshot: Snapshot, args: &Args) -> Shown {
        let mut history = History::default();
        history.take(&snapshot);
        let source = args.look.from.clone().unwrap_or_else(|| "own health checks".to_owned());
        Shown { snapshot, history, view: View { source, ascii: !utf8(), ..View::default() } }
    }

    /// Looks again. A source that does not answer leaves what was there, and says so.
    fn look(&mut self, source: &Source) {
        match source.look() {
            Ok(snapshot) => {
                self.history.take(&snapshot);
                (self.snapshot, self.view.trouble) = (snapshot, None);
            }
            Err(refusal) => self.view.trouble = Some(words(&refusal)),
        }
    }

    fn lines(&self, size: Size, paint: Paint) -> Vec<String> {
        let lines = frame(&self.snapshot, &self.history, &self.view, size);
        let lines = lines.iter().map(|line| write(line, size.columns, paint));
        lines.map(|line| line.trim_end().to_owned()).collect()
    }
}

fn words(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Usage(what, _) | Refusal::Unusable(what, _) => what.clone(),
        Refusal::Error(error) => error.to_string(),
        Refusal::Blind(why) => format!("discovery failed: {why}"),
        Refusal::Unknown(name) => format!("unknown service {name:?}"),
        Refusal::Gone => "the reader is gone".to_owned(),
    }
}

/// Whether the locale says that the terminal knows more than ASCII.
fn utf8() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
    let locale = locale.unwrap_or_default().to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

pub(crate) fn run(args: &Args) -> Result<u8, Refusal> {
    signal::heed();
    let source = args.look.open()?;
    let screen = io::stdout().is_terminal() && io::stdin().is_terminal() && !text::dumb();
    // On a screen everything is seen as it comes.
    let first = if screen && !args.once { source.look() } else { source.settled(args.look.wait) };
    let mut shown = Shown::new(first?, args);
    if !screen || args.once {
        return plain(args, &source, &mut shown);
    }
    let screen = Screen::open().map_err(|error| {
        Refusal::Unusable(format!("the terminal: {error}"), "use --once, or pipe the output")
    })?;
    let result = live(args, &source, &mut shown);
    drop(screen);
    result.map_err(|error| Refusal::output(&error)).map(|()| exit::OK)
}

fn plain(args: &Args, source: &Source, shown: &mut Shown) -> Result<u8, Refusal> {
    let given =
        args.size.map(|(columns, lines)| Size { columns: columns.into(), lines: lines.into() });
    let size = given.unwrap_or_else(usual_size);
    loop {
        text::print((shown.lines(size, Paint::of_stdout()).join("\n") + "\n").as_bytes())?;
        if args.once || signal::came_within(args.interval) {
            return Ok(exit::OK);
        }
        text::print(b"\n")?;
        shown.look(source);
    }
}

/// Where no terminal says how large it is.
fn usual_size() -> Size {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u16>().ok());
    let or = |name, usual| number(name).filter(|number| *number > 0).unwrap_or(usual).into();
    Size { columns: or("COLUMNS", 80), lines: or("LINES", 24) }
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Quit,
    Up,
    Down,
    Pause,
    Refresh,
    Nothing,
}

fn wish(key: &KeyEvent) -> Wish {
    if key.kind == KeyEventKind::Release {
        return Wish::Nothing;
    }
    match key.code {
        KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Wish::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Wish::Quit,
        KeyCode::Char('k') | KeyCode::Up => Wish::Up,
        KeyCode::Char('j') | KeyCode::Down => Wish::Down,
        KeyCode::Char('p' | ' ') => Wish::Pause,
        KeyCode::Char('r') => Wish::Refresh,
        _ => Wish::Nothing,
    }
}

fn live(args: &Args, source: &Source, shown: &mut Shown) -> io::Result<()> {
    let paint = Paint::of_stdout();
    let mut looked = Instant::now();
    let mut stale = true;
    while !signal::came() {
        if !shown.view.paused && looked.elapsed() >= args.interval {
            shown.look(source);
            (looked, stale) = (Instant::now(), true);
        }
        if stale {
            draw(shown, paint)?;
            stale = false;
        }
        if !event::poll(KEYS)? {
            continue;
        }
        let last = shown.snapshot.services.len().saturating_sub(1);
        let view = &mut shown.view;
        stale = true;
        match event::read()? {
            Event::Key(key) => match wish(&key) {
                Wish::Quit => return Ok(()),
                Wish::Up => view.selected = view.selected.min(last).saturating_sub(1),
                Wish::Down => view.selected = (view.selected + 1).min(last),
                Wish::Pause => view.paused = !view.paused,
                Wish::Refresh => looked = looked.checked_sub(args.interval).unwrap_or(looked),
                Wish::Nothing => stale = false,
            },
            Event::Resize(..) => {}
            _ => stale = false,
        }
    }
    Ok(())
}

fn draw(shown: &Shown, paint: Paint) -> io::Result<()> {
    let size = match terminal::size()? {
        // A terminal that does not know its size: a serial line, for one.
        (0, _) | (_, 0) => usual_size(),
        (columns, lines) => Size { columns: columns.into(), lines: lines.into() },
    };
    // Each line is cleared before it is written: afterwards the cursor may stand on its last
    // character. No line feed behind the last line, which would scroll.
    let mut lines = shown.lines(size, paint);
    lines.truncate(size.lines);
    let text = lines.join("\r\n\x1b[K");
    let mut out = io::stdout().lock();
    queue!(out, MoveTo(0, 0))?;
    out.write_all(format!("\x1b[K{text}").as_bytes())?;
    out.flush()
}

/// The terminal while it is ours. Given back when this is dropped, whatever happens meanwhile.
struct Screen;

impl Screen {
    fn open() -> io::Result<Screen> {
        terminal::enable_raw_mode()?;
        let screen = Screen;
        // Without wrapping: a frame for a larger terminal is cut, not torn.
        execute!(io::stdout(), EnterAlternateScreen, terminal::DisableLineWrap, Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), Show, terminal::EnableLineWrap, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_last_line_says() {
        let key = |code, modifiers| wish(&KeyEvent::new(code, modifiers));
        let none = KeyModifiers::NONE;
        assert_eq!(key(KeyCode::Char('q'), none), Wish::Quit);
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Wish::Quit);
        assert_eq!(key(KeyCode::Char('c'), none), Wish::Nothing);
        assert_eq!((key(KeyCode::Up, none), key(KeyCode::Char('j'), none)), (Wish::Up, Wish::Down));
        assert_eq!(key(KeyCode::Char('p'), none), Wish::Pause);
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(size("80x24"), Ok((80, 24)));
        for wrong in ["", "80", "x", "39x24", "80x7", "99999x24", "80x24x1"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
