//! A page in the text formats that Prometheus reads: its own, version 0.0.4, and OpenMetrics 1.0.

use std::fmt::{self, Display, Write as _};

use serde::{Deserialize, Serialize};

use super::family::Kind;
use super::page::{Page, Value};
use super::{Bounds, Histogram};

/// A text format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The text format of Prometheus, version 0.0.4.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The media type to be sent with it.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format that a scraper with this `Accept` header gets.
    #[must_use]
    pub fn wanted(accept: &str) -> Format {
        match accept.contains("application/openmetrics-text") {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        }
    }
}

/// Writes `page`, whose histograms have these `bounds`.
pub(super) fn write(page: &Page<'_>, bounds: &Bounds, format: Format) -> String {
    let mut text = String::with_capacity(page.len() * 100);
    // Writing to a string cannot fail.
    let _ = write_to(&mut text, page, bounds, format);
    text
}

fn write_to(out: &mut String, page: &Page<'_>, bounds: &Bounds, format: Format) -> fmt::Result {
    let open = format == Format::OpenMetrics;
    for (family, series) in page.families() {
        // There a counter is called without its ending, and its samples always have it.
        let name = match family.name.strip_suffix("_total") {
            Some(name) if open && family.kind == Kind::Counter => name,
            _ => family.name,
        };
        let end = if open && family.kind == Kind::Counter { "_total" } else { "" };
        writeln!(out, "# HELP {name} {}", family.help)?;
        writeln!(out, "# TYPE {name} {}", family.kind.word())?;
        if let (true, Some(unit)) = (open, unit(name)) {
            writeln!(out, "# UNIT {name} {unit}")?;
        }
        for (labels, value) in series {
            let labels = Set(family.labels, labels);
            match value {
                Value::Durations(histogram) => {
                    write_buckets(out, name, labels, histogram, bounds)?;
                }
                plain => {
                    out.push_str(name);
                    out.push_str(end);
                    labels.write(out, None)?;
                    writeln!(out, " {}", Plain(plain))?;
                }
            }
        }
    }
    if open {
        out.push_str("# EOF\n");
    }
    Ok(())
}

fn write_buckets(
    out: &mut String,
    name: &str,
    labels: Set<'_>,
    histogram: &Histogram,
    bounds: &Bounds,
) -> fmt::Result {
    let mut below = 0_u64;
    for (count, bound) in histogram.counts().iter().zip(bounds.iter()) {
        below = below.saturating_add(*count);
        let _ = write!(out, "{name}_bucket");
        labels.write(out, Some(&Plain(&Value::Nanos(bound))))?;
        writeln!(out, " {below}")?;
    }
    let count = histogram.count();
    let _ = write!(out, "{name}_bucket");
    labels.write(out, Some(&"+Inf"))?;
    writeln!(out, " {count}")?;
    for (end, value) in [("sum", Value::Nanos(histogram.sum())), ("count", Value::Count(count))] {
        let _ = write!(out, "{name}_{end}");
        labels.write(out, None)?;
        writeln!(out, " {}", Plain(&value))?;
    }
    Ok(())
}

/// The unit in a name, where OpenMetrics knows it as one.
fn unit(name: &str) -> Option<&'static str> {
    ["seconds", "bytes", "ratio"]
        .into_iter()
        .find(|unit| name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')))
}

/// The labels of one series.
#[derive(Clone, Copy)]
struct Set<'a>(&'a [&'a str], &'a [std::borrow::Cow<'a, str>]);

impl Set<'_> {
    fn write(self, out: &mut String, le: Option<&dyn Display>) -> fmt::Result {
        let mut before = '{';
        for (name, value) in self.0.iter().zip(self.1) {
            write!(out, "{before}{name}=\"")?;
            escape(out, value);
            out.push('"');
            before = ',';
        }
        if let Some(le) = le {
            write!(out, "{before}le=\"{le}\"")?;
            before = ',';
        }
        if before == ',' {
            out.push('}');
        }
        Ok(())
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

/// A number as text, exactly: no float on the way.
pub(super) struct Plain<'a, 'v>(pub(super) &'a Value<'v>);

impl Display for Plain<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, digits) = match self.0 {
            Value::Count(n) => return n.fmt(f),
            Value::Nanos(n) => (*n, 9),
            Value::Millionths(n) => (*n, 6),
            Value::Durations(histogram) => return histogram.count().fmt(f),
        };
        let one = 10_u64.pow(digits);
        let (whole, mut rest) = (number / one, number % one);
        if rest == 0 {
            // OpenMetrics wants bounds to look like floats.
            return write!(f, "{whole}.0");
        }
        let mut width = digits as usize;
        while rest % 10 == 0 {
            rest /= 10;
            width -= 1;
        }
        write!(f, "{whole}.{rest:0width$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact() {
        let text = |value: Value<'_>| Plain(&value).to_string();
        assert_eq!(text(Value::Nanos(5_000_000)), "0.005");
        assert_eq!(text(Value::Nanos(10_000_000_000)), "10.0");
        assert_eq!(text(Value::Nanos(1)), "0.000000001");
        assert_eq!(text(Value::Millionths(1_000_000)), "1.0");
        assert_eq!(text(Value::Millionths(250_000)), "0.25");
        assert_eq!(text(Value::Count(u64::MAX)), u64::MAX.to_string());
        assert_eq!(text(Value::Nanos(u64::MAX)), "18446744073.709551615");
    }

    #[test]
    fn a_scraper_gets_what_it_asks_for() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        assert_eq!(Format::wanted(prometheus), Format::OpenMetrics);
        assert_eq!(Format::wanted("*/*"), Format::Prometheus);
    }
}
