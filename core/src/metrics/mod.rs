//! Metrics: what is counted, and how it is shown.
//!
//! The machines count as they go, in plain integers under the lock they have anyway
//! (`histogram.rs`, `tally.rs`). What they counted is in the [`Snapshot`]; everything after that is
//! a pure function of snapshots, in two steps: a [`Page`] of numbers under labels, then a text.
//!
//! | file | holds |
//! |---|---|
//! | `family.rs` | the table of all families: names, labels, kinds |
//! | `fill.rs`, `dialect.rs` | from a snapshot to a page: our families, those of others |
//! | `page.rs` | the page: no series twice, labels made safe |
//! | `text.rs` | Prometheus and OpenMetrics |
//! | `statsd.rs` | StatsD lines, as the difference of two snapshots |
//! | `read.rs` | the numbers of one service as serde data |
//!
//! ```
//! use origin_core::config::{MetricsConfig, Rules};
//! use origin_core::metrics::{Format, render};
//! use origin_core::snapshot::Snapshot;
//! use origin_core::{Service, Time};
//!
//! let mut service = Service::new("billing".into(), Rules::default(), 42);
//! let snapshot = Snapshot { services: vec![service.snapshot(Time::ZERO)], ..Snapshot::default() };
//! let text = render(&snapshot, &MetricsConfig::default(), Format::Prometheus);
//! assert!(text.contains("origin_calls_total{service=\"billing\",result=\"answered\"} 0\n"));
//! ```

mod dialect;
mod family;
mod fill;
mod histogram;
mod page;
mod read;
mod recovery;
mod statsd;
mod tally;
mod text;

pub use family::{FAMILIES, Family, Kind};
pub(crate) use fill::usable;
pub use histogram::{Bounds, Histogram, MOST as MOST_BUCKETS};
pub use page::{Labels, Page, Series, Value};
pub use read::{BreakerMetrics, CacheMetrics, ServiceMetrics};
pub use statsd::{DATAGRAM, statsd};
pub(crate) use tally::{CLASSES, REJECTIONS, Said, Tally, words};
pub use tally::{ClusterTally, Counted, EventCount, Moves, Phase, Words};
pub use text::Format;

use crate::config::MetricsConfig;
use crate::snapshot::Snapshot;

/// The service, cluster or endpoint under which what exceeds a bound is summed up.
pub const OTHER: &str = "_other";

/// The numbers of `snapshot` under their labels. `settings` say how many services and endpoints
/// are told apart, and whose names are used beside ours; their buckets are those that the client
/// was built with.
#[must_use]
pub fn page<'a>(snapshot: &'a Snapshot, settings: &MetricsConfig) -> Page<'a> {
    let mut page = Page::new(settings);
    fill::fill(&mut page, snapshot, settings);
    if !settings.compat.is_empty() {
        dialect::fill(&mut page, snapshot, settings);
    }
    page
}

/// The numbers of `snapshot` as a page of text; see [`page`].
#[must_use]
pub fn render(snapshot: &Snapshot, settings: &MetricsConfig, format: Format) -> String {
    text::write(&page(snapshot, settings), &Bounds::new(&settings.buckets), format)
}

#[cfg(test)]
mod tests;
