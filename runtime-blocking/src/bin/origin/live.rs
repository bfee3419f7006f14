//! The live view: redrawn in place on a terminal, one plain line per second elsewhere. What it
//! shows comes from `watch` and `load`.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use crate::load::Recent;
use crate::text::{self, Paint, Tone, clean, cut, fit, fit_right};
use crate::watch::Row;

/// Columns drawn at most, which a plain terminal has; what is longer is cut.
const WIDTH: usize = 80;

/// Everything there is to see at one moment.
pub(crate) struct Frame<'f> {
    pub(crate) elapsed: Duration,
    pub(crate) total: Duration,
    pub(crate) phase: &'f str,
    pub(crate) rows: &'f [Row],
    pub(crate) recent: &'f Recent,
    pub(crate) notice: Option<&'f str>,
}

/// How a terminal is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// A line now and then.
    Plain,
    /// Redrawn in place, with or without colours.
    Drawn(Paint),
}

/// The view.
pub(crate) struct Live {
    out: Box<dyn Write>,
    style: Style,
    /// Lines of the last frame, to be drawn over.
    drawn: usize,
    /// The last second and phase that a plain line was written for.
    told: Option<(u64, String)>,
}

impl Live {
    /// A view on stderr, or on stdout where that is not wanted for anything else.
    pub(crate) fn new(on_stderr: bool) -> Live {
        fn of(out: impl Write + IsTerminal + 'static) -> Live {
            let drawn = out.is_terminal() && !text::dumb();
            let style = if drawn { Style::Drawn(Paint::of(&out)) } else { Style::Plain };
            Live { out: Box::new(out), style, drawn: 0, told: None }
        }
        if on_stderr { of(io::stderr()) } else { of(io::stdout()) }
    }

    /// How often a new frame is worth drawing.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(if self.style == Style::Plain { 100 } else { 200 })
    }

    /// Writes some lines above the view, for good.
    pub(crate) fn say(&mut self, text: &str) {
        // A view that cannot be written must not end the run that it shows.
        let _ = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
    }

    /// Shows a moment.
    pub(crate) fn show(&mut self, frame: &Frame<'_>) {
        let text = match self.style {
            Style::Plain => {
                let now = (frame.elapsed.as_secs(), frame.phase.to_owned());
                if self.told.as_ref() == Some(&now) {
                    return;
                }
                let changed = self.told.as_ref().is_none_or(|told| told.1 != now.1);
                self.told = Some(now);
                let phase = if changed { format!("-- {}\n", frame.phase) } else { String::new() };
                format!("{phase}{}\n", plain(frame))
            }
            Style::Drawn(paint) => {
                let lines = drawn(frame, paint);
                let up = match self.drawn {
                    0 => String::new(),
                    lines => format!("\x1b[{lines}A"),
                };
                self.drawn = lines.len();
                // Without wrapping, so that a narrow terminal does not tear the frame; each line is
                // cleared before it is written, and wrapping is on again in case we are interrupted.
                format!("\x1b[?7l{up}\r\x1b[J{}\n\x1b[?7h", lines.join("\n"))
            }
        };
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

fn percent(part: f64) -> String {
    // Almost all is not all.
    if part < 1.0 { format!("{:.1}%", (part * 1000.0).floor() / 10.0) } else { "100%".to_owned() }
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn millis(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1e3)
}

/// The moment in one line.
fn plain(frame: &Frame<'_>) -> String {
    let Recent { calls, ok, answered } = frame.recent;
    let mut line = format!(
        "{:5.1}s {calls:>4} calls/s ok {:>5}",
        frame.elapsed.as_secs_f64(),
        or_dash(ratio(*ok, *calls).map(percent)),
    );
    for row in frame.rows {
        let share = answered.get(&row.cluster).map_or(0, |part| part.calls);
        line.push_str(&format!(
            " | {} {} {}",
            clean(&row.cluster),
            row.state.0,
            or_dash(ratio(share, *ok).map(|share| format!("{:.0}%", share * 100.0))),
        ));
    }
    line
}

/// The moment as a small table.
fn drawn(frame: &Frame<'_>, paint: Paint) -> Vec<String> {
    let line = |text: &str| cut(&clean(text), WIDTH);
    let Recent { calls, ok, answered } = frame.recent;
    let (elapsed, total) = (frame.elapsed.as_secs_f64(), frame.total.as_secs_f64());
    let bar = bar(elapsed / total.max(f64::MIN_POSITIVE), 20);
    let mut lines = vec![
        line(&format!(
            "{bar} {elapsed:5.1}s of {total:.0}s   {calls} calls/s   ok {}",
            or_dash(ratio(*ok, *calls).map(percent)),
        )),
        paint.paint(Tone::Bold, &line(&format!("phase: {}", frame.phase))),
        line(&format!(
            "{:<19} {:<11} {:<19} {:>6} {:>8} {:>10}",
            "cluster", "state", "breakers", "share", "success", "latency"
        )),
    ];
    for row in frame.rows {
        let part = answered.get(&row.cluster);
        let share = ratio(part.map_or(0, |part| part.calls), *ok);
        let name = format!("{} ({})", clean(&row.cluster), row.place);
        let tone = match row.state.1 {
            0 => Tone::Well,
            1 => Tone::Warn,
            _ => Tone::Bad,
        };
        lines.push(format!(
            "{} {} {} {} {} {}",
            fit(&name, 19),
            // Padded before it is painted: colours have no width.
            paint.paint(tone, &fit(row.state.0, 11)),
            fit(&row.breakers.text(), 19),
            fit_right(&or_dash(share.map(|share| format!("{:.0}%", share * 100.0))), 6),
            fit_right(&or_dash(row.success.map(percent)), 8),
            fit_right(&or_dash(part.map(|part| millis(part.median))), 10),
        ));
    }
    let latest = line(&format!("latest: {}", frame.notice.unwrap_or("nothing yet")));
    lines.push(paint.paint(Tone::Dim, &latest));
    lines
}

fn bar(done: f64, width: usize) -> String {
    let filled = (done.clamp(0.0, 1.0) * width as f64) as usize;
    format!("[{}{}]", "#".repeat(filled), ".".repeat(width - filled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Answered;
    use crate::text::width;

    /// What a registry may call a cluster.
    const NAME: &str = "beta\u{202e}\u{9b}2J漢字";

    fn frame_of(recent: &Recent, draw: impl Fn(&Frame<'_>) -> String) -> String {
        draw(&Frame {
            elapsed: Duration::from_millis(1_500),
            total: Duration::from_secs(20),
            phase: "calm\x1b[31m",
            rows: &[Row {
                cluster: NAME.to_owned(),
                place: "local",
                breakers: Default::default(),
                state: ("in use", 0),
                success: Some(0.9999),
            }],
            recent,
            notice: None,
        })
    }

    #[test]
    fn a_frame_has_every_cluster_and_no_foreign_escapes() {
        let mut recent = Recent { calls: 200, ok: 199, ..Recent::default() };
        let part = Answered { calls: 199, median: Duration::from_micros(1_234) };
        recent.answered.insert(NAME.to_owned(), part);
        let text = frame_of(&recent, |frame| drawn(frame, Paint(false)).join("\n"));
        assert!(text.contains("beta\\u{202e}\\u") && text.contains("99.9%"), "{text}");
        assert!(text.lines().all(|line| width(line) <= WIDTH), "{text}");
        assert!(text.contains("1.2 ms") && text.contains("ok 99.5%"), "{text}");
        let acts = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(acts), "{text}");
        let line = frame_of(&recent, plain);
        let name = clean(NAME);
        assert_eq!(line, format!("  1.5s  200 calls/s ok 99.5% | {name} in use 100%"));
        let nothing = frame_of(&Recent::default(), plain);
        assert!(nothing.ends_with("in use -") && !nothing.contains(acts), "{nothing}");
    }
}
