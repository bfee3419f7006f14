//! The report as a picture: a hand-written SVG of traffic, success, latency
//! and breaker states on one time axis. Light and dark follow the reader's
//! setting. Only the composition here: every number comes from
//! `report`, every pen stroke from `canvas`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::canvas::{escape, fit, label, nice_step, number, power_of_ten, rect, text_width, wrap};
use crate::millis;
use crate::record::Sample;
use crate::report::{Report, percentile};
use crate::table::{percent, span, span_or_none};

/// Width of the picture.
const WIDTH: f64 = 1000.0;
/// Left and right edge of everything that has a time axis.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 976.0;
/// Columns of the histogram; each about the width of a stroke that is seen.
const BINS: usize = 100;
/// Colours of the clusters, the local one first; distinguishable with the
/// common kinds of colour blindness, and on white as well as on black.
const COLOURS: [&str; 6] = ["#3b82d0", "#e09a2b", "#35a48a", "#9b73d4", "#c7689b", "#8a8f98"];
const FAILED: &str = "#d9433f";

const STYLE: &str = "\
text{font-family:system-ui,'Segoe UI','DejaVu Sans',sans-serif;font-size:11px;fill:#5a6270}\
.paper{fill:#ffffff}.ink{fill:#1c2128}.title{font-size:17px;font-weight:600}\
.big{font-size:17px;font-weight:600}.axis{stroke:#d9dde3;stroke-width:1}\
.bound{stroke:#8a919c;stroke-width:1;stroke-dasharray:3 3}.band{fill:#f3f5f8}\
.phase{font-size:11px;font-weight:600}.line{fill:none;stroke:#1c2128;stroke-width:1.8}\
.dot{fill:#6b7280}.hot{fill:#d9433f}.word{fill:#ffffff;font-size:10px}\
@media (prefers-color-scheme:dark){text{fill:#9aa3af}.paper{fill:#12161c}.ink{fill:#e8ebef}\
.axis{stroke:#2a313b}.bound{stroke:#6b7480}.band{fill:#1a2029}.line{stroke:#e8ebef}\
.dot{fill:#9aa3af}.word{fill:#ffffff}}";

/// Draws a report.
#[derive(Debug, Clone)]
pub struct Picture<'r> {
    report: &'r Report,
    title: String,
}

impl Report {
    /// The report as an SVG document with this title.
    #[must_use]
    pub fn svg(&self, title: &str) -> String {
        Picture::new(self, title).to_svg()
    }
}

/// One vertical slice of the picture.
#[derive(Debug, Clone, Default)]
struct Bin {
    calls: u64,
    ok: u64,
    // Successful calls by position in `clusters`.
    answered: Vec<u64>,
    latencies: Vec<Duration>,
}

/// The parts of the picture that everything is placed by.
struct Layout {
    clusters: Vec<String>,
    breakers: Vec<String>,
    bins: Vec<Bin>,
    end: Duration,
    traffic: (f64, f64),
    success: (f64, f64),
    latency: (f64, f64),
    strips: f64,
    axis: f64,
    height: f64,
}

/// Height of one breaker strip with its gap.
const STRIP: f64 = 18.0;

impl<'r> Picture<'r> {
    /// A picture of this report.
    #[must_use]
    pub fn new(report: &'r Report, title: &str) -> Picture<'r> {
        Picture { report, title: title.to_owned() }
    }

    /// The document; about 1000 × 600, higher with more than three clusters.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let layout = self.layout();
        let mut out = String::with_capacity(32 * 1024);
        // Writing into a String cannot fail.
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {0}\" \
             width=\"{WIDTH}\" height=\"{0}\" role=\"img\"><title>{1}</title>\
             <style>{STYLE}</style>\
             <rect class=\"paper\" width=\"{WIDTH}\" height=\"{0}\" rx=\"8\"/>",
            layout.height,
            escape(&self.title),
        );
        self.headline(&mut out);
        self.phases(&mut out, &layout);
        traffic(&mut out, &layout);
        success(&mut out, &layout);
        latency(&mut out, &layout);
        self.boundaries(&mut out, &layout);
        self.breakers(&mut out, &layout);
        time_axis(&mut out, &layout);
        legend(&mut out, &layout);
        out.push_str("</svg>\n");
        out
    }

    fn layout(&self) -> Layout {
        let report = self.report;
        let mut clusters: Vec<String> =
            report.breakdown.clusters.iter().map(|row| row.name.clone()).collect();
        // The local one first: its colour and its place at the bottom of the
        // stack are what a reader compares everything with.
        clusters.sort_by_key(|name| *name != report.timeline.local);
        let mut breakers = clusters.clone();
        for state in &report.states {
            if !breakers.contains(&state.cluster) {
                breakers.push(state.cluster.clone());
            }
        }
        let end = report.timeline.end.max(Duration::from_millis(1));
        let strips = 482.0;
        let axis = strips + STRIP * breakers.len().max(1) as f64 + 4.0;
        Layout {
            bins: bin(&report.samples, &clusters, end),
            clusters,
            breakers,
            end,
            traffic: (146.0, 304.0),
            success: (327.0, 375.0),
            latency: (398.0, 464.0),
            strips,
            axis,
            height: (axis + 60.0).max(600.0),
        }
    }

    fn headline(&self, out: &mut String) {
        let summary = &self.report.summary;
        label(out, 24.0, 32.0, "ink title", "start", &self.title);
        let tiles = [
            ("calls", summary.calls.to_string()),
            ("success", percent(summary.success_rate, summary.calls)),
            ("failed", summary.failed.to_string()),
            ("requests per call", format!("{:.2}", summary.amplification)),
            ("failover", span_or_none(summary.failover_ms)),
            ("failback", span_or_none(summary.failback_ms)),
            ("p50 in the storm", span(summary.p50_ms)),
            ("p99", span(summary.p99_ms)),
            ("max", span(summary.max_ms)),
        ];
        let step = (RIGHT - 24.0) / tiles.len() as f64;
        for (index, (name, value)) in tiles.iter().enumerate() {
            let x = 24.0 + step * index as f64;
            label(out, x, 60.0, "ink big", "start", value);
            label(out, x, 76.0, "", "start", name);
        }
    }

    fn phases(&self, out: &mut String, layout: &Layout) {
        for (index, (name, from, to)) in self.report.timeline.spans().enumerate() {
            let (x, until) = (layout.x(from), layout.x(to));
            if index % 2 == 1 {
                rect(out, "class=\"band\"", x, 94.0, until - x, layout.axis - 94.0);
            }
            for (row, line) in wrap(name, until - x - 8.0).iter().enumerate() {
                let y = 107.0 + 13.0 * row as f64;
                label(out, x + 5.0, y, "ink phase", "start", line);
            }
        }
    }

    /// Over the panels, but not over the captions between them.
    fn boundaries(&self, out: &mut String, layout: &Layout) {
        let panels = [
            (94.0, layout.traffic.0 - 20.0),
            layout.traffic,
            layout.success,
            layout.latency,
            (layout.strips - 4.0, layout.axis),
        ];
        for mark in self.report.timeline.phases.iter().skip(1) {
            let x = layout.x(mark.at);
            for (top, bottom) in panels {
                let _ = write!(out, "<path class=\"bound\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>");
            }
        }
    }

    fn breakers(&self, out: &mut String, layout: &Layout) {
        for (row, cluster) in layout.breakers.iter().enumerate() {
            let y = layout.strips + STRIP * row as f64;
            let name = fit(cluster, LEFT - 14.0, 6.4);
            label(out, LEFT - 8.0, y + 11.0, "", "end", &name);
            let mut changes: Vec<(Duration, &str)> = vec![(Duration::ZERO, "unknown")];
            for state in &self.report.states {
                if state.cluster == *cluster {
                    changes.push((state.at, &state.breaker));
                }
            }
            for (index, (at, breaker)) in changes.iter().enumerate() {
                let next = changes.get(index + 1);
                let x = layout.x(*at);
                let width = layout.x(next.map_or(layout.end, |next| next.0)) - x;
                // Shorter than a pixel is widened: a probe must be seen.
                if index == 0 && width < 0.5 {
                    continue;
                }
                let fill = format!("fill=\"{}\"", breaker_colour(breaker));
                rect(out, &fill, x, y, width.max(1.0), STRIP - 4.0);
                let word = breaker.replace('_', "-");
                if index > 0 && text_width(&word, 5.8) + 8.0 < width {
                    label(out, x + 5.0, y + 10.5, "word", "start", &word);
                }
            }
        }
    }
}

fn breaker_colour(breaker: &str) -> &'static str {
    match breaker {
        "closed" => "#4f9d69",
        "open" | "forced_open" => "#c8413d",
        "half_open" | "half-open" => "#c98a1b",
        "unknown" => "#b3b9c2",
        _ => "#7b8494",
    }
}

impl Layout {
    fn x(&self, at: Duration) -> f64 {
        let share = at.as_secs_f64() / self.end.as_secs_f64();
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    fn column(&self, index: usize) -> f64 {
        LEFT + (RIGHT - LEFT) * index as f64 / BINS as f64
    }

    fn per_second(&self, calls: u64) -> f64 {
        calls as f64 * BINS as f64 / self.end.as_secs_f64()
    }
}

fn bin(samples: &[Sample], clusters: &[String], end: Duration) -> Vec<Bin> {
    let place: BTreeMap<&str, usize> =
        clusters.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
    let empty = Bin { answered: vec![0; clusters.len()], ..Bin::default() };
    let mut bins = vec![empty; BINS];
    for sample in samples {
        let index = (sample.at.as_secs_f64() / end.as_secs_f64() * BINS as f64) as usize;
        let Some(bin) = bins.get_mut(index) else {
            continue;
        };
        bin.calls += 1;
        bin.latencies.push(sample.latency);
        if sample.ok {
            bin.ok += 1;
            let cluster = sample.cluster.as_deref().and_then(|name| place.get(name));
            if let Some(count) = cluster.and_then(|index| bin.answered.get_mut(*index)) {
                *count += 1;
            }
        }
    }
    for bin in &mut bins {
        bin.latencies.sort_unstable();
    }
    bins
}

fn traffic(out: &mut String, layout: &Layout) {
    let (top, bottom) = layout.traffic;
    let most = layout.bins.iter().map(|bin| bin.calls).max().unwrap_or(0);
    let step = nice_step(layout.per_second(most) / 3.5);
    let highest = step * (layout.per_second(most) / step).ceil().max(1.0);
    let y = |rate: f64| bottom - rate / highest * (bottom - top);
    caption(out, top - 7.0, "calls per second, by the cluster that answered");
    let mut tick = 0.0;
    while tick <= highest + step / 2.0 {
        grid(out, y(tick), &number(tick));
        tick += step;
    }
    // One closed outline per layer, drawn as steps: a bin is a count, and a
    // slope between two of them would show calls that never were.
    let layers = layout.clusters.len() + 1;
    let mut floor = vec![0_u64; BINS];
    for layer in 0..layers {
        let mut over = String::new();
        let mut under = String::new();
        let mut any = false;
        for (index, bin) in layout.bins.iter().enumerate() {
            let base = floor.get(index).copied().unwrap_or(0);
            let height = match bin.answered.get(layer) {
                Some(count) => *count,
                None => bin.calls - bin.ok,
            };
            any |= height > 0;
            let (from, to) = (layout.column(index), layout.column(index + 1));
            let upper = y(layout.per_second(base + height));
            let lower = y(layout.per_second(base));
            let _ = write!(over, "L{from:.1} {upper:.1}L{to:.1} {upper:.1}");
            under.insert_str(0, &format!("L{to:.1} {lower:.1}L{from:.1} {lower:.1}"));
            if let Some(known) = floor.get_mut(index) {
                *known += height;
            }
        }
        if any {
            let outline = over.replacen('L', "M", 1);
            let _ = write!(
                out,
                "<path fill=\"{}\" d=\"{outline}{under}Z\"/>",
                if layer + 1 == layers { FAILED } else { colour(layer) }
            );
        }
    }
}

fn success(out: &mut String, layout: &Layout) {
    let (top, bottom) = layout.success;
    let y = |share: f64| bottom - share * (bottom - top);
    caption(out, top - 6.0, "success rate");
    for (share, text) in [(0.0, "0%"), (0.5, "50%"), (1.0, "100%")] {
        grid(out, y(share), text);
    }
    let mut path = String::new();
    let mut pen_down = false;
    for (index, bin) in layout.bins.iter().enumerate() {
        if bin.calls == 0 {
            pen_down = false;
            continue;
        }
        let level = y(bin.ok as f64 / bin.calls as f64);
        let (from, to) = (layout.column(index), layout.column(index + 1));
        let stroke = if pen_down { 'L' } else { 'M' };
        let _ = write!(path, "{stroke}{from:.1} {level:.1}L{to:.1} {level:.1}");
        pen_down = true;
    }
    if !path.is_empty() {
        let _ = write!(out, "<path class=\"line\" d=\"{path}\"/>");
    }
}

fn latency(out: &mut String, layout: &Layout) {
    let (top, bottom) = layout.latency;
    caption(
        out,
        top - 6.0,
        "latency: p99 (large dots, red if calls failed) and median of each slice",
    );
    let tails: Vec<Option<(f64, f64)>> = layout
        .bins
        .iter()
        .map(|bin| {
            let at = |percent| millis(percentile(&bin.latencies, percent)).max(0.01);
            (bin.calls > 0).then(|| (at(50.0), at(99.0)))
        })
        .collect();
    // Whole powers of ten around everything that is drawn.
    let known = || tails.iter().flatten();
    let low = known().map(|pair| pair.0).fold(f64::INFINITY, f64::min);
    let high = known().map(|pair| pair.1).fold(0.0, f64::max);
    let (low, high) = if high > 0.0 { (low, high) } else { (1.0, 10.0) };
    let floor = low.log10().floor();
    let ceiling = high.log10().ceil().max(floor + 1.0);
    let y = |value: f64| bottom - (value.log10() - floor) / (ceiling - floor) * (bottom - top);
    let every = ((ceiling - floor) / 4.0).ceil().max(1.0);
    let mut power = floor;
    while power <= ceiling {
        grid(out, y(10_f64.powf(power)), &power_of_ten(power));
        power += every;
    }
    let centre = (RIGHT - LEFT) / BINS as f64 / 2.0;
    for (index, (bin, tail)) in layout.bins.iter().zip(&tails).enumerate() {
        let Some((median, tail)) = tail else {
            continue;
        };
        let x = layout.column(index) + centre;
        let class = if bin.ok < bin.calls { "hot" } else { "dot" };
        let _ = write!(
            out,
            "<circle class=\"dot\" opacity=\"0.45\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"1.3\"/>\
             <circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"2.4\"/>",
            y(*median),
            y(*tail),
        );
    }
}

fn time_axis(out: &mut String, layout: &Layout) {
    let y = layout.axis;
    let _ = write!(out, "<path class=\"axis\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
    let end = layout.end.as_secs_f64();
    let step = nice_step(end / 10.0);
    let mut tick = 0.0;
    while tick <= end + step / 1e6 {
        let x = layout.x(Duration::try_from_secs_f64(tick).unwrap_or(layout.end));
        label(out, x, y + 15.0, "", "middle", &format!("{}s", number(tick)));
        tick += step;
    }
}

fn legend(out: &mut String, layout: &Layout) {
    let y = layout.height - 14.0;
    let mut entries: Vec<(String, &str)> = layout
        .clusters
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let role = if index == 0 { " (local)" } else { "" };
            (format!("{}{role}", fit(name, 110.0, 6.4)), colour(index))
        })
        .collect();
    entries.push(("failed call".into(), FAILED));
    let states = ["closed", "half_open", "open"];
    entries.extend(states.map(|state| {
        let text = format!("breaker {}", state.replace('_', "-"));
        (text, breaker_colour(state))
    }));
    let mut x = LEFT;
    for (text, colour) in entries {
        let width = text_width(&text, 6.4) + 34.0;
        // Many clusters: what does not fit is left out, not drawn over.
        if x + width > RIGHT + 24.0 {
            break;
        }
        rect(out, &format!("fill=\"{colour}\" rx=\"2\""), x, y - 9.0, 10.0, 10.0);
        label(out, x + 15.0, y, "", "start", &text);
        x += width;
    }
}

fn colour(index: usize) -> &'static str {
    COLOURS.get(index % COLOURS.len()).copied().unwrap_or(FAILED)
}

fn caption(out: &mut String, y: f64, text: &str) {
    label(out, LEFT, y, "", "start", text);
}

fn grid(out: &mut String, y: f64, text: &str) {
    let _ = write!(out, "<path class=\"axis\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
    label(out, LEFT - 8.0, y + 4.0, "", "end", text);
}

#[cfg(test)]
#[path = "svg_tests.rs"]
mod tests;
