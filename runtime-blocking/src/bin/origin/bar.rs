//! How far a transfer is, on stderr, for a person who waits. A thread of its own draws, so that the
//! bar also shows that nothing moves.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::text;

/// A transfer that is over sooner needs no progress bar.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Shown as long as this lives, then wiped away.
pub(crate) struct Bar {
    state: Arc<State>,
    /// Dropping it is the message; and who draws.
    drawn: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

#[derive(Default)]
struct State {
    done: AtomicU64,
    total: AtomicU64,
    /// Whether `total` is known.
    known: AtomicBool,
}

impl Bar {
    /// Of the transfer of this name, where there is a terminal to show it.
    pub(crate) fn new(name: &str, total: Option<u64>) -> Bar {
        let state = Arc::new(State::default());
        let mut bar = Bar { state: state.clone(), drawn: None };
        bar.moved_to(0, total);
        if io::stderr().is_terminal() && !text::dumb() {
            let (over, told) = mpsc::channel();
            let name = text::clean(name);
            // A transfer goes on as well without anybody who draws.
            let thread = thread::Builder::new().spawn(move || draw(&name, &state, &told));
            bar.drawn = thread.ok().map(|thread| (over, thread));
        }
        bar
    }

    /// So many bytes are there, of so many where that is known.
    pub(crate) fn moved_to(&mut self, done: u64, total: Option<u64>) {
        self.state.done.store(done, Ordering::Relaxed);
        if let Some(total) = total {
            self.state.total.store(total, Ordering::Relaxed);
            self.state.known.store(true, Ordering::Release);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some((over, thread)) = self.drawn.take() {
            drop(over);
            let _ = thread.join();
        }
    }
}

fn draw(name: &str, state: &State, over: &mpsc::Receiver<()>) {
    let began = Instant::now();
    let mut pause = PATIENCE;
    let goes_on = |pause| over.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout);
    while goes_on(pause) {
        let total = state.known.load(Ordering::Acquire);
        let total = total.then(|| state.total.load(Ordering::Relaxed));
        let line = line(name, state.done.load(Ordering::Relaxed), total, began.elapsed());
        let _ = write!(io::stderr(), "\r\x1b[K{line}").and_then(|()| io::stderr().flush());
        pause = TICK;
    }
    if pause == TICK {
        let _ = write!(io::stderr(), "\r\x1b[K").and_then(|()| io::stderr().flush());
    }
}

/// At most 79 columns of 80.
fn line(name: &str, done: u64, total: Option<u64>, took: Duration) -> String {
    let rate = done as f64 / took.as_secs_f64().max(1e-3);
    let name = text::fit(name, 24);
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let part = (done as f64 / total as f64).clamp(0.0, 1.0);
            let filled = (part * 20.0) as usize;
            let bar = format!("{}{}", "#".repeat(filled), ".".repeat(20 - filled));
            // Of one that has hardly moved nobody knows.
            let left = (done > 0).then(|| (total.saturating_sub(done) as f64 / rate) as u64);
            let left = left.filter(|left| *left < 86_400);
            let left = left.map(|left| format!(", {} left", text::age(Duration::from_secs(left))));
            format!(
                "{name} [{bar}] {:>3.0}% {}/s{}",
                (part * 100.0).floor(),
                size(rate as u64),
                left.unwrap_or_default()
            )
        }
        None => format!("{name} {} {}/s", size(done), size(rate as u64)),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_far_and_how_fast() {
        let second = Duration::from_secs(1);
        let text = line("a/b", 1 << 20, Some(4 << 20), second);
        assert_eq!(text, "a/b                      [#####...............]  25% 1.0 MiB/s, 3s left");
        assert!(line("k", 10, None, second).ends_with(" 10 B 10 B/s"));
        assert!(line("k", 0, Some(9), second).ends_with("]   0% 0 B/s"));
        let over = line("k", 9, Some(3), second);
        assert!(over.contains("[####################] 100%"), "{over}");
        let slow = line(&"漢".repeat(40), 1023 << 10, Some(u64::MAX), second * 400);
        assert!(text::width(&slow) < 80, "{}: {slow}", text::width(&slow));
    }
}
