//! StatsD lines: what has changed from one snapshot to the next, in datagrams that fit a packet.
//! Counters and the buckets of histograms are sent as how much they rose, gauges as they are.

use std::fmt::Write as _;

use super::family::Kind;
use super::page::{Labels, Page, Value};
use super::text::Plain;
use super::{Bounds, FAMILIES, Family, Histogram, page};
use crate::config::{MetricsConfig, StatsdLabels};
use crate::snapshot::Snapshot;

/// Most bytes of a datagram: what an Ethernet frame carries, tunnels allowed for.
pub const DATAGRAM: usize = 1_432;

/// Most bytes of the value of one label.
const LONGEST: usize = 64;

/// The datagrams that tell what has changed from `before` to `now`. Without a `before` all of
/// `now` is news. Lines within a datagram are parted by line feeds; none is longer than
/// [`DATAGRAM`].
///
/// A counter that is lower than before began anew, and all of it is news. A counter that did not
/// rise is not sent; a gauge is sent each time.
#[must_use]
pub fn statsd(before: Option<&Snapshot>, now: &Snapshot, settings: &MetricsConfig) -> Vec<String> {
    let bounds = Bounds::new(&settings.buckets);
    let (then, now) = (before.map(|before| page(before, settings)), page(now, settings));
    let mut lines = Lines { full: Vec::new(), last: String::new(), how: settings.statsd };
    for (at, family) in FAMILIES.iter().enumerate() {
        for (labels, value) in now.series_at(at) {
            let before = then.as_ref().and_then(|then: &Page<'_>| then.series_at(at).get(labels));
            lines.series(family, labels, value, before, &bounds);
        }
    }
    lines.finish()
}

struct Lines {
    full: Vec<String>,
    last: String,
    how: StatsdLabels,
}

impl Lines {
    fn series(
        &mut self,
        family: &Family,
        labels: &Labels<'_>,
        value: &Value<'_>,
        before: Option<&Value<'_>>,
        bounds: &Bounds,
    ) {
        let name = self.name(family.name);
        match (family.kind, value) {
            (_, Value::Durations(histogram)) => {
                let new = match before {
                    Some(Value::Durations(before)) => histogram.since(before),
                    _ => **histogram,
                };
                self.histogram(&name, family, labels, &new, bounds);
            }
            (Kind::Gauge, value) => {
                let text = Plain(value).to_string();
                self.line(&name, family, labels, "", &text, "g");
            }
            (_, Value::Count(count)) => {
                let then = match before {
                    Some(Value::Count(then)) if then <= count => *then,
                    _ => 0,
                };
                self.count(&name, family, labels, "", count - then);
            }
            _ => (),
        }
    }

    /// The number in each bucket, each under a name of its own, and what they come to in
    /// milliseconds.
    fn histogram(
        &mut self,
        name: &str,
        family: &Family,
        labels: &Labels<'_>,
        new: &Histogram,
        bounds: &Bounds,
    ) {
        let mut beyond = new.count();
        for (count, bound) in new.counts().iter().zip(bounds.iter()) {
            beyond -= count;
            let end = format!(".le_{}", Plain(&Value::Nanos(bound))).replace(".", "_");
            self.count(name, family, labels, &end.replacen('_', ".", 1), *count);
        }
        self.count(name, family, labels, ".le_inf", beyond);
        self.count(name, family, labels, ".count", new.count());
        self.count(name, family, labels, ".sum_ms", new.sum() / 1_000_000);
    }

    fn count(&mut self, name: &str, family: &Family, labels: &Labels<'_>, end: &str, rose: u64) {
        if rose > 0 {
            self.line(name, family, labels, end, &rose.to_string(), "c");
        }
    }

    fn line(
        &mut self,
        name: &str,
        family: &Family,
        labels: &Labels<'_>,
        end: &str,
        value: &str,
        kind: &str,
    ) {
        let mut line = name.to_owned();
        if self.how == StatsdLabels::Plain {
            for label in labels {
                line.push('.');
                line.push_str(&safe(label, false));
            }
        }
        let _ = write!(line, "{end}:{value}|{kind}");
        if self.how == StatsdLabels::Tags {
            let mut before = "|#";
            for (label, value) in family.labels.iter().zip(labels) {
                let _ = write!(line, "{before}{label}:{}", safe(value, true));
                before = ",";
            }
        }
        if !self.last.is_empty() && self.last.len() + 1 + line.len() > DATAGRAM {
            self.full.push(std::mem::take(&mut self.last));
        }
        if !self.last.is_empty() {
            self.last.push('\n');
        }
        self.last.push_str(&line);
    }

    /// `origin_calls_total` is `origin.calls_total` there.
    fn name(&self, name: &str) -> String {
        name.replacen("origin_", "origin.", 1)
    }

    fn finish(mut self) -> Vec<String> {
        if !self.last.is_empty() {
            self.full.push(self.last);
        }
        self.full
    }
}

/// The value of a label, with every character that means something there replaced. In a tag,
/// addresses stay readable.
fn safe(text: &str, tag: bool) -> String {
    let keep = |c: char| {
        c.is_ascii_alphanumeric() || c == '_' || c == '-' || (tag && matches!(c, '.' | '/' | ':'))
    };
    let safe: String = text.chars().take(LONGEST).map(|c| if keep(c) { c } else { '_' }).collect();
    if safe.is_empty() { "_".to_owned() } else { safe }
}
