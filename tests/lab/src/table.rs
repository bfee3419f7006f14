//! The report as plain text: fits 80 columns, no colours, no Unicode, so that
//! it can go to a terminal, a log or a README as it is.

use std::fmt::{self, Display, Write as _};

use crate::report::Report;

/// Names are cut to this, so that a table never outgrows its columns.
const NAME: usize = 15;

impl Report {
    /// The report as a plain text table.
    #[must_use]
    pub fn text(&self) -> String {
        self.to_string()
    }
}

impl Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = &self.summary;
        writeln!(
            out,
            "calls {}   ok {}   failed {}   success {}   amplification {:.2}",
            summary.calls,
            summary.ok,
            summary.failed,
            percent(summary.success_rate, summary.calls),
            summary.amplification,
        )?;
        writeln!(
            out,
            "failover {}   failback {}   p50 {}   p99 {}   max {}",
            span_or_none(summary.failover_ms),
            span_or_none(summary.failback_ms),
            span(summary.p50_ms),
            span(summary.p99_ms),
            span(summary.max_ms),
        )?;
        writeln!(out)?;
        writeln!(
            out,
            "{:<NAME$} {:>7} {:>7} {:>8} {:>8} {:>8}  answered by",
            "phase", "calls", "failed", "success", "p50", "p99",
        )?;
        for row in &self.breakdown.phases {
            let mut answered = String::new();
            for (cluster, calls) in &row.clusters {
                let part = format!("{} {}", cut(cluster, 8), share(*calls, row.ok));
                // Only whole entries: a cut number would be a wrong number.
                if answered.len() + part.len() + 1 > 19 {
                    answered.push_str(" +");
                    break;
                }
                let gap = if answered.is_empty() { "" } else { " " };
                write!(answered, "{gap}{part}")?;
            }
            writeln!(
                out,
                "{:<NAME$} {:>7} {:>7} {:>8} {:>8} {:>8}  {}",
                cut(&row.name, NAME),
                row.calls,
                row.failed,
                percent(row.success_rate, row.calls),
                span(row.p50_ms),
                span(row.p99_ms),
                answered,
            )?;
        }
        writeln!(out)?;
        writeln!(
            out,
            "{:<NAME$} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8}",
            "cluster", "calls", "ok", "share", "p50", "p99", "max",
        )?;
        for row in &self.breakdown.clusters {
            writeln!(
                out,
                "{:<NAME$} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8}",
                cut(&row.name, NAME),
                row.calls,
                row.ok,
                percent(row.share, row.calls),
                span(row.p50_ms),
                span(row.p99_ms),
                span(row.max_ms),
            )?;
        }
        if !self.breakdown.errors.is_empty() {
            writeln!(out)?;
            writeln!(out, "failed calls by error")?;
            for (error, calls) in &self.breakdown.errors {
                writeln!(out, "{calls:>7}  {}", cut(error, 70))?;
            }
        }
        Ok(())
    }
}

/// A share as whole per cent that never rounds a little to nothing or almost
/// all to all.
fn share(part: u64, whole: u64) -> String {
    match 100.0 * part as f64 / whole.max(1) as f64 {
        share if share > 0.0 && share < 1.0 => "<1%".to_owned(),
        share if share > 99.0 && share < 100.0 => ">99%".to_owned(),
        share => format!("{share:.0}%"),
    }
}

/// A rate as per cent; rounded down, so that one failure in a million calls
/// does not read as 100 %.
pub(crate) fn percent(rate: f64, calls: u64) -> String {
    if calls == 0 {
        return "-".to_owned();
    }
    // The small summand keeps 0.57 (stored as 0.5699...) at 57.00.
    format!("{:.2}%", (rate * 1e4 + 1e-6).floor() / 1e2)
}

/// Milliseconds in at most eight characters.
pub(crate) fn span(millis: f64) -> String {
    if millis >= 10_000.0 {
        format!("{:.1}s", millis / 1e3)
    } else if millis >= 100.0 {
        format!("{millis:.0}ms")
    } else if millis >= 10.0 {
        format!("{millis:.1}ms")
    } else {
        format!("{millis:.2}ms")
    }
}

/// As `span`, for figures that may not exist.
pub(crate) fn span_or_none(millis: Option<f64>) -> String {
    millis.map_or_else(|| "none".to_owned(), span)
}

fn cut(text: &str, limit: usize) -> String {
    let clean = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    clean.take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Sample;
    use std::time::Duration;

    #[test]
    fn figures_are_honest_and_short() {
        assert_eq!(percent(1.0, 5), "100.00%");
        assert_eq!(percent(0.999_999, 5), "99.99%");
        assert_eq!(percent(0.57, 5), "57.00%");
        assert_eq!(percent(0.0, 0), "-");
        assert_eq!(share(1, 1000), "<1%");
        assert_eq!(share(999, 1000), ">99%");
        assert_eq!(share(5, 5), "100%");
        assert_eq!(span(0.123), "0.12ms");
        assert_eq!(span(12.34), "12.3ms");
        assert_eq!(span(1234.5), "1234ms");
        assert_eq!(span(12_345.0), "12.3s");
        assert_eq!(span_or_none(None), "none");
    }

    #[test]
    fn the_widest_report_fits_eighty_columns() {
        let mut outage = crate::Outage::default();
        outage.phases[1].name = "a phase whose name is far too long".into();
        let samples = (0..5000)
            .map(|number| Sample {
                at: Duration::from_millis(number * 4),
                latency: Duration::from_millis(9_999_999),
                ok: number % 3 > 0,
                attempts: 99,
                cluster: Some(format!("cluster-with-a-name-{}", number % 5)),
                error: Some("x".repeat(200)),
            })
            .collect();
        let report = Report::from_parts(samples, Vec::new(), outage.timeline());
        let text = report.text();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(text.contains("failed calls by error"));
    }
}
