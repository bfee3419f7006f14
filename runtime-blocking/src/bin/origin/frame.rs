//! One frame of `origin top`: lines made of a snapshot, of what was seen before, and of a size. No
//! terminal, no clock: the same inputs give the same lines.

use origin_blocking::core::Time;
use origin_blocking::core::policy::breaker::State as Breaker;
use origin_blocking::core::policy::health::Status;
use origin_blocking::core::snapshot::{EndpointSnapshot, ServiceSnapshot};
use origin_blocking::{Health, Snapshot};

use crate::history::{History, sparkline};
use crate::look::{health_of, health_word, trouble_of};
use crate::status::{millis, tone_of};
use crate::text::{Paint, Tone, age, clean, cut, fit, fit_right, width};

/// Smaller than this is drawn as this, and cut by the terminal.
const SMALLEST: (usize, usize) = (40, 8);

/// Columns and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) lines: usize,
}

/// What the person at the keys has chosen.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Where the snapshot comes from.
    pub(crate) source: String,
    /// Which service is looked at, from 0.
    pub(crate) selected: usize,
    pub(crate) paused: bool,
    /// The terminal knows no other characters.
    pub(crate) ascii: bool,
    /// Why there is nothing newer.
    pub(crate) trouble: Option<String>,
}

/// A line in pieces.
pub(crate) type Line = Vec<(String, Option<Tone>)>;

/// A line as it is written, never wider than so many columns.
pub(crate) fn write(line: &Line, columns: usize, paint: Paint) -> String {
    let (mut text, mut left) = (String::new(), columns);
    for (piece, tone) in line {
        let piece = cut(piece, left);
        left = left.saturating_sub(width(&piece));
        text.push_str(&tone.map_or(piece.clone(), |tone| paint.paint(tone, &piece)));
    }
    text
}

/// Exactly as many lines as there is room for.
pub(crate) fn frame(snapshot: &Snapshot, history: &History, view: &View, size: Size) -> Vec<Line> {
    let columns = size.columns.max(SMALLEST.0);
    let height = size.lines.max(SMALLEST.1);
    let mut lines = head(snapshot, view);
    let room = height - lines.len() - 1;
    let (services, endpoints, notices) = share(snapshot, view, room);
    lines.extend(services_block(snapshot, history, view, columns, services));
    if let Some(service) = snapshot.services.get(chosen(snapshot, view)) {
        lines.extend(endpoints_block(snapshot, service, history, view, columns, endpoints));
    }
    while lines.len() + notices + 1 < height {
        lines.push(Line::new());
    }
    lines.extend(notices_block(snapshot, notices));
    lines.truncate(height - 1);
    lines.push(vec![(
        " q quit  j/k or arrows service  p pause  r refresh".to_owned(),
        Some(Tone::Dim),
    )]);
    lines
}

fn chosen(snapshot: &Snapshot, view: &View) -> usize {
    view.selected.min(snapshot.services.len().saturating_sub(1))
}

/// How many lines the services, the endpoints and the notices get, each with its head.
fn share(snapshot: &Snapshot, view: &View, room: usize) -> (usize, usize, usize) {
    let notices = (1 + snapshot.notices.len().max(1)).min((room / 4).max(2));
    let left = room - notices;
    let services = (1 + snapshot.services.len().max(1)).min((left / 2).max(2));
    let chosen = snapshot.services.get(chosen(snapshot, view));
    let endpoints = chosen.map_or(0, |service| 2 + service.endpoints.len());
    (services, endpoints.min(left - services), notices)
}

fn plain(text: impl Into<String>) -> (String, Option<Tone>) {
    (text.into(), None)
}

fn head(snapshot: &Snapshot, view: &View) -> Vec<Line> {
    let count = |health| snapshot.services.iter().filter(|one| health_of(one) == health).count();
    let mut first = vec![
        ("origin top".to_owned(), Some(Tone::Bold)),
        plain(format!("  {} services", snapshot.services.len())),
    ];
    for health in [Health::Healthy, Health::Degraded, Health::Unhealthy, Health::Unknown] {
        let count = count(health);
        if count > 0 {
            first.push(plain("  "));
            first.push((format!("{count} {}", health_word(health)), Some(tone_of(health))));
        }
    }
    if view.paused {
        first.push(("  PAUSED".to_owned(), Some(Tone::Warn)));
    }
    first.push((
        format!("  up {}  {}", age(snapshot.at.since(Time::ZERO)), clean(&view.source)),
        Some(Tone::Dim),
    ));
    let second = match &view.trouble {
        Some(trouble) => vec![(clean(trouble), Some(Tone::Bad))],
        None => vec![discovery(snapshot)],
    };
    vec![first, second]
}

fn discovery(snapshot: &Snapshot) -> (String, Option<Tone>) {
    let mut parts = Vec::new();
    let mut tone = None;
    for source in &snapshot.discovery {
        let age = source.age.map_or("nothing yet".to_owned(), |span| format!("{} old", age(span)));
        let mut part = format!("{}, {} services, {age}", clean(&source.source), source.services);
        if source.stale {
            part.push_str(", STALE");
            tone = Some(Tone::Warn);
        }
        if let Some(error) = &source.last_error {
            part.push_str(&format!(", failing: {}", clean(error)));
            tone = Some(Tone::Warn);
        }
        parts.push(part);
    }
    if parts.is_empty() {
        return ("discovery: none, endpoints are configured".to_owned(), Some(Tone::Dim));
    }
    (format!("discovery: {}", parts.join("; ")), tone.or(Some(Tone::Dim)))
}

/// Columns of a name that grows with the terminal.
fn wide(columns: usize, least: usize, most: usize) -> usize {
    (least + columns.saturating_sub(80) / 4).min(most)
}

fn services_block(
    snapshot: &Snapshot,
    history: &History,
    view: &View,
    columns: usize,
    lines: usize,
) -> Vec<Line> {
    let name = wide(columns, 18, 40);
    let spark = columns.saturating_sub(2 + name + 49).min(60);
    let title = format!(
        "  {} {} {} {} {} {} {} {}",
        fit("SERVICE", name),
        fit("HEALTH", 9),
        fit("BY", 8),
        fit_right("READY", 5),
        fit_right("CALLS/S", 7),
        fit_right("FAIL", 5),
        fit_right("LATENCY", 8),
        if spark > 0 { "TREND" } else { "" },
    );
    let mut block = vec![vec![(fit(&title, columns), Some(Tone::Bold))]];
    if snapshot.services.is_empty() {
        block.push(vec![("  none are known".to_owned(), Some(Tone::Dim))]);
        return block;
    }
    let chosen = chosen(snapshot, view);
    let rows = lines.saturating_sub(1).max(1);
    // The chosen one stays in sight.
    let first = (chosen + 1).saturating_sub(rows);
    for (at, service) in snapshot.services.iter().enumerate().skip(first).take(rows) {
        let health = health_of(service);
        let ready = service.endpoints.iter().filter(|one| trouble_of(one).is_none()).count();
        let rates = history.rates(&service.name, "", "");
        let latencies = history.latencies(&service.name, "", "");
        let by = service.active_cluster.as_deref().unwrap_or("-");
        let latest = latencies.iter().rev().flatten().next().copied();
        let mark = if at == chosen { "> " } else { "  " };
        block.push(vec![
            (
                format!("{mark}{}", fit(&clean(&service.name), name)),
                (at == chosen).then_some(Tone::Bold),
            ),
            plain(" "),
            (fit(health_word(health), 9), Some(tone_of(health))),
            plain(format!(
                " {} {} {} ",
                fit(&clean(by), 8),
                fit_right(&format!("{ready}/{}", service.endpoints.len()), 5),
                fit_right(&format!("{:.1}", rates.calls), 7),
            )),
            (fit_right(&percent(rates.failed), 5), bad_if(rates.failed)),
            plain(format!(" {} ", fit_right(&millis(latest), 8))),
            plain(sparkline(&latencies, spark, view.ascii)),
        ]);
    }
    block
}

fn percent(part: Option<f64>) -> String {
    // A few are not none.
    part.map_or("-".to_owned(), |part| format!("{:.0}%", (part * 100.0).ceil()))
}

fn bad_if(failed: Option<f64>) -> Option<Tone> {
    failed.filter(|part| *part > 0.0).map(|_| Tone::Bad)
}

fn endpoints_block(
    snapshot: &Snapshot,
    service: &ServiceSnapshot,
    history: &History,
    view: &View,
    columns: usize,
    lines: usize,
) -> Vec<Line> {
    let (cluster, address) = (wide(columns, 10, 20), wide(columns, 25, 50));
    let spark = columns.saturating_sub(2 + cluster + address + 38).min(60);
    let mut tiers = vec![(format!("{}: ", clean(&service.name)), Some(Tone::Bold))];
    for tier in &service.split {
        let mut text =
            format!("{} {}% {}/{}", clean(&tier.cluster), tier.percent, tier.healthy, tier.total);
        if let Some(held) = tier.held_for {
            text.push_str(&format!(" held {}", age(held)));
        }
        if tier.panic {
            text.push_str(" PANIC");
        }
        let tone = match (tier.panic || tier.healthy == 0, tier.healthy < tier.total) {
            (true, _) => Some(Tone::Bad),
            (_, true) => Some(Tone::Warn),
            _ => None,
        };
        tiers.push((text, tone));
        tiers.push((" > ".to_owned(), Some(Tone::Dim)));
    }
    tiers.pop();
    let title = format!(
        "  {} {} {} {} {} {} {}",
        fit("CLUSTER", cluster),
        fit("ENDPOINT", address),
        fit("STATE", 13),
        fit_right("ATT/S", 6),
        fit_right("FAIL", 5),
        fit_right("LATENCY", 8),
        if spark > 0 { "TREND" } else { "" },
    );
    let mut block = vec![tiers, vec![(fit(&title, columns), Some(Tone::Bold))]];
    let rows = lines.saturating_sub(2);
    let all = service.endpoints.len();
    let shown = if all > rows { rows.saturating_sub(1) } else { all };
    for one in service.endpoints.iter().take(shown) {
        let rates = history.rates(&service.name, &one.cluster, &one.address);
        let latencies = history.latencies(&service.name, &one.cluster, &one.address);
        let trend = match latencies.iter().any(Option::is_some) {
            true => sparkline(&latencies, spark, view.ascii),
            false => checks(one, spark),
        };
        let (state, tone) = state_of(snapshot, one);
        block.push(vec![
            plain(format!(
                "  {} {} ",
                fit(&clean(&one.cluster), cluster),
                fit(&clean(&one.address), address)
            )),
            (fit(&state, 13), Some(tone)),
            plain(format!(" {} ", fit_right(&format!("{:.1}", rates.calls), 6))),
            (fit_right(&percent(rates.failed), 5), bad_if(rates.failed)),
            plain(format!(" {} {trend}", fit_right(&millis(one.latency), 8))),
        ]);
    }
    if all > shown && rows > 0 {
        block.push(vec![(format!("  and {} more", all - shown), Some(Tone::Dim))]);
    }
    block.truncate(lines);
    block
}

/// What keeps an endpoint from being used, and for how long still.
fn state_of(snapshot: &Snapshot, one: &EndpointSnapshot) -> (String, Tone) {
    let Some(word) = trouble_of(one) else {
        let word = if one.health == Status::Healthy { "healthy" } else { "ready" };
        return (word.to_owned(), Tone::Well);
    };
    let left = match one.breaker {
        Breaker::Open { until } => Some(until.since(snapshot.at)),
        _ => one.ejected_for,
    };
    let tone =
        if matches!(word, "open" | "unhealthy" | "ejected") { Tone::Bad } else { Tone::Warn };
    // Forced open for good has no end.
    let left = left.filter(|left| left.as_secs() < 365 * 86_400);
    (left.map_or(word.to_owned(), |left| format!("{word} {}", age(left))), tone)
}

/// The history of the checks, where there were no calls: `+` well, `~` degraded, `!` not well.
fn checks(one: &EndpointSnapshot, columns: usize) -> String {
    let marks = one.checks.iter().flat_map(|entry| {
        let mark = match entry.status {
            Status::Healthy => '+',
            Status::Degraded => '~',
            Status::Unhealthy => '!',
            Status::Unknown => '?',
        };
        std::iter::repeat_n(mark, (entry.count as usize).min(columns))
    });
    let marks: Vec<char> = marks.collect();
    let shown = marks.get(marks.len().saturating_sub(columns)..).unwrap_or_default();
    format!("{}{}", " ".repeat(columns - shown.len()), shown.iter().collect::<String>())
}

fn notices_block(snapshot: &Snapshot, lines: usize) -> Vec<Line> {
    let mut block = vec![vec![("  NOTICES".to_owned(), Some(Tone::Bold))]];
    let rows = lines.saturating_sub(1);
    let first = snapshot.notices.len().saturating_sub(rows);
    for notice in snapshot.notices.iter().skip(first) {
        let ago = fit_right(&age(snapshot.at.since(notice.at)), 8);
        let service = notice.service.as_deref().map(|name| format!("{name}: ")).unwrap_or_default();
        block.push(vec![
            (format!("  {ago} ago  "), Some(Tone::Dim)),
            plain(clean(&format!("{service}{}", notice.event))),
        ]);
    }
    if snapshot.notices.is_empty() {
        block.push(vec![("  none so far".to_owned(), Some(Tone::Dim))]);
    }
    block
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
