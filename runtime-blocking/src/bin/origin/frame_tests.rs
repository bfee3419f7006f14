//! The frame of `origin top`, at the sizes people have.

use std::sync::Arc;
use std::time::Duration;

use origin_blocking::core::Time;
use origin_blocking::core::discovery::Place;

use super::*;

const SMALL: Size = Size { columns: 80, lines: 24 };
const LARGE: Size = Size { columns: 200, lines: 60 };

/// A snapshot as a real client makes it, of endpoints that nobody listens at, with what the test
/// wants to be different.
fn snapshot(services: &[(&str, usize)], change: impl FnOnce(&mut Snapshot)) -> Snapshot {
    let mut builder = origin_blocking::Client::builder();
    for (name, count) in services {
        for number in 0..*count {
            builder = builder.endpoint(*name, format!("http://127.0.0.1:{}", 9000 + number));
        }
    }
    let client = builder.build().unwrap();
    let mut snapshot = client.snapshot();
    snapshot.at = Time::from_millis(60_000);
    change(&mut snapshot);
    snapshot
}

fn text(snapshot: &Snapshot, history: &History, view: &View, size: Size) -> Vec<String> {
    let lines = frame(snapshot, history, view, size);
    lines.iter().map(|line| write(line, size.columns, Paint(false)).trim_end().to_owned()).collect()
}

fn outage(snapshot: &mut Snapshot) {
    let service = &mut snapshot.services[0];
    service.active_cluster = Some("alpha".into());
    service.health = Health::Degraded;
    let endpoints = &mut service.endpoints;
    (endpoints[0].cluster, endpoints[0].place) = ("beta".into(), Place::Local);
    endpoints[0].breaker = Breaker::Open { until: Time::from_millis(72_000) };
    (endpoints[1].cluster, endpoints[1].latency) = ("alpha".into(), Some(Duration::from_millis(8)));
}

/// The same a second later, after calls.
fn later(before: &Snapshot, calls: u64, failed: u64, latency: u64) -> Snapshot {
    let mut next = before.clone();
    next.at = before.at.plus(Duration::from_secs(1));
    let service = &mut next.services[0];
    (service.calls, service.failed) = (service.calls + calls, service.failed + failed);
    let one = &mut service.endpoints[1];
    one.attempts += calls;
    one.failed_attempts += failed;
    one.latency = Some(Duration::from_millis(latency));
    next
}

#[test]
fn a_frame_at_80x24() {
    let mut now = snapshot(&[("billing", 2), ("storage", 1)], outage);
    let mut history = History::default();
    history.take(&now);
    for latency in [1, 2, 4, 8] {
        now = later(&now, 10, 1, latency);
        history.take(&now);
    }
    let view = View { source: "test".to_owned(), ..View::default() };
    let lines = text(&now, &history, &view, SMALL);
    assert_eq!(lines.len(), 24);
    let expected = "\
origin top  2 services  1 degraded  1 unknown  up 1m4s  test
discovery: none, endpoints are configured
  SERVICE            HEALTH    BY       READY CALLS/S  FAIL  LATENCY TREND
> billing            degraded  alpha      1/2    10.0   10%    8.0ms        ▂▃▅█
  storage            unknown   -          1/1     0.0     -        -
billing: static 100% 2/2
  CLUSTER    ENDPOINT                  STATE          ATT/S  FAIL  LATENCY TREND
  beta       http://127.0.0.1:9000     open 8s          0.0     -        -
  alpha      http://127.0.0.1:9001     ready           10.0   10%    8.0ms  ▂▃▅█";
    assert_eq!(lines[..9].join("\n"), expected);
    assert_eq!(lines[20], "  NOTICES");
    assert!(
        lines[21].starts_with("      1m3s ago  billing: endpoints changed: 2 added"),
        "{lines:#?}"
    );
    assert_eq!(lines[23], " q quit  j/k or arrows service  p pause  r refresh");
}

#[test]
fn a_large_terminal_shows_more_and_nothing_is_wider_than_it() {
    let names: Vec<String> = (0..40).map(|number| format!("service-{number:02}")).collect();
    let services: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 30)).collect();
    let now = snapshot(&services, |_| ());
    for (size, shown, more) in [(SMALL, 7, "  and 25 more"), (LARGE, 20, "  and 11 more")] {
        let view = View { selected: 39, ..View::default() };
        let lines = text(&now, &History::default(), &view, size);
        assert_eq!(lines.len(), size.lines, "{size:?}");
        let rows = lines.iter().filter(|line| line.get(2..).unwrap_or("").starts_with("service-"));
        assert_eq!(rows.count(), shown, "{size:?}: {lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("> service-39 ")), "{lines:#?}");
        assert!(lines.iter().any(|line| line == more), "{more}: {lines:#?}");
    }
    // Whatever the size, there is a frame of it.
    for columns in [1, 40, 79, 133, 1000] {
        for height in [1, 8, 9, 25, 200] {
            let size = Size { columns, lines: height };
            let lines = text(&now, &History::default(), &View::default(), size);
            assert_eq!(lines.len(), height.max(8), "{size:?}");
            assert!(lines.iter().all(|line| width(line) <= columns), "{size:?}: {lines:#?}");
        }
    }
}

#[test]
fn hostile_names_cannot_steer_the_terminal_or_tear_the_table() {
    let hostile: Arc<str> = "\x1b[2J\x1b]0;owned\x07\r\n\u{202e}漢字漢字漢字漢字漢字漢字".into();
    let now = snapshot(&[("billing", 2)], |snapshot| {
        outage(snapshot);
        let service = &mut snapshot.services[0];
        service.name = hostile.clone();
        service.active_cluster = Some(hostile.clone());
        service.endpoints[0].cluster = hostile.clone();
        service.endpoints[1].address = hostile.clone();
        service.split[0].cluster = hostile.clone();
        snapshot.notices.push(origin_blocking::Notice {
            seq: 0,
            at: Time::ZERO,
            service: Some(hostile.clone()),
            event: origin_blocking::core::notice::Event::SnapshotFailed {
                reason: hostile.to_string(),
            },
        });
    });
    let view =
        View { source: hostile.to_string(), trouble: Some(hostile.to_string()), ..View::default() };
    let mut history = History::default();
    history.take(&now);
    for size in [SMALL, LARGE] {
        for line in text(&now, &history, &view, size) {
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
            assert!(width(&line) <= size.columns, "{line:?}");
        }
    }
    // With colours there are escapes, and only those of colours.
    let painted: String = frame(&now, &history, &view, SMALL)
        .iter()
        .map(|line| write(line, 80, Paint(true)))
        .collect();
    for escape in painted.split('\x1b').skip(1) {
        let code = escape.strip_prefix('[').and_then(|rest| rest.split_once('m')).unwrap().0;
        assert!(["0", "1", "2", "31", "32", "33"].contains(&code), "{escape:?}");
    }
}

#[test]
fn another_process_begins_a_new_history() {
    let first = snapshot(&[("billing", 2)], |_| ());
    let second = later(&first, 10, 0, 3);
    let mut history = History::default();
    history.take(&first);
    history.take(&second);
    assert_eq!(history.rates("billing", "", "").calls, 10.0);
    history.take(&second);
    assert_eq!(history.rates("billing", "", "").calls, 10.0, "the same one again is no news");
    history.take(&first);
    assert_eq!(history.rates("billing", "", ""), crate::history::Rates::default());
}
