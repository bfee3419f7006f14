//! Pages read back by a strict little parser, of services that were really driven; hostile names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::call::{Action, Call, CallSpec, Event};
use crate::config::{Config, ConsulConfig, Dialect, DiscoveryConfig, Rules, StatsdLabels};
use crate::discovery::directory::Resolution;
use crate::discovery::{Directory, Role, Surroundings, plan};
use crate::job::{Asker, JobOutcome, Poll};
use crate::outcome::{Fault, Outcome, Sent};
use crate::{Address, Service, Time};

/// Name and labels of one sample, in order.
type Key = (String, Vec<(String, String)>);

/// Reads a page back, and refuses what a careful reader would.
fn parse(text: &str, format: Format) -> Result<BTreeMap<Key, String>, String> {
    let open = format == Format::OpenMetrics;
    let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
    let mut present: Option<(String, String)> = None;
    let body = match open {
        true => text.strip_suffix("# EOF\n").ok_or("no end")?,
        false => text,
    };
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    for line in body.split_terminator('\n') {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("TYPE without kind")?;
            if !families.insert(name.to_owned()) {
                return Err(format!("{name} twice"));
            }
            present = Some((name.to_owned(), kind.to_owned()));
            continue;
        }
        if line.starts_with("# HELP ") || line.starts_with("# UNIT ") {
            continue;
        }
        if line.starts_with('#') {
            return Err(format!("a comment: {line}"));
        }
        let (name, rest) = line.split_at(line.find(['{', ' ']).ok_or("no value")?);
        let (family, kind) = present.as_ref().ok_or("no family")?;
        let end = name.strip_prefix(family.as_str()).ok_or(format!("{name} in {family}"))?;
        let right = match (kind.as_str(), open) {
            ("histogram", _) => ["_bucket", "_sum", "_count"].contains(&end),
            ("counter", true) => end == "_total",
            ("counter" | "gauge", _) => end.is_empty(),
            _ => false,
        };
        if !right {
            return Err(format!("{name} as {kind}"));
        }
        let (labels, value) = labels(rest)?;
        value.parse::<f64>().map_err(|_| format!("{value} is no number"))?;
        if samples.insert((name.to_owned(), labels), value.to_owned()).is_some() {
            return Err(format!("a series twice: {line}"));
        }
    }
    Ok(samples)
}

#[allow(clippy::type_complexity)]
fn labels(rest: &str) -> Result<(Vec<(String, String)>, &str), String> {
    let Some(mut rest) = rest.strip_prefix('{') else {
        return Ok((Vec::new(), rest.strip_prefix(' ').ok_or("no space")?));
    };
    let mut labels = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or("no label")?;
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
            return Err(format!("label {name:?}"));
        }
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().ok_or("a label does not end")? {
                (at, '"') => break at,
                (_, '\\') => match chars.next().ok_or("half an escape")?.1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => return Err(format!("escape of {c:?}")),
                },
                (_, c) if c.is_control() => return Err(format!("{c:?} as it is")),
                (_, c) => value.push(c),
            }
        };
        labels.push((name.to_owned(), value));
        rest = &after[end + 1..];
        if let Some(more) = rest.strip_prefix(',') {
            rest = more;
        } else {
            let value = rest.strip_prefix("} ").ok_or("labels do not end")?;
            return Ok((labels, value));
        }
    }
}

/// Buckets rise, and the last one is the count.
fn check_buckets(samples: &BTreeMap<Key, String>) {
    let mut above: BTreeMap<Key, Vec<(f64, u64)>> = BTreeMap::new();
    for ((name, labels), value) in samples {
        if let Some(family) = name.strip_suffix("_bucket") {
            let (le, rest) = labels.split_last().unwrap();
            assert_eq!(le.0, "le");
            let le = le.1.replace("+Inf", "inf").parse().unwrap();
            let key = (format!("{family}_count"), rest.to_vec());
            above.entry(key).or_default().push((le, value.parse().unwrap()));
        }
    }
    for (key, mut buckets) in above {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{key:?} {buckets:?}");
        let last = buckets.last().unwrap();
        assert!(last.0.is_infinite());
        assert_eq!(last.1.to_string(), samples[&key], "{key:?}");
    }
}

fn value(samples: &BTreeMap<Key, String>, name: &str, labels: &[(&str, &str)]) -> Option<String> {
    let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    samples.get(&(name.to_owned(), labels.iter().map(own).collect())).cloned()
}

/// One call; each attempt meets the next of `outcomes`, after 20 ms.
fn call(service: &mut Service, now: &mut Time, number: u64, outcomes: &[Outcome]) {
    let spec = CallSpec { idempotent: Some(true), ..CallSpec::default() };
    let mut call = Call::new(spec, 7, number);
    let mut outcomes = outcomes.iter().copied().chain(std::iter::repeat(Outcome::status(200)));
    let mut action = call.step(service, *now, Event::Begin);
    for _ in 0..200 {
        action = match action {
            Action::Send { attempt, .. } => {
                *now = now.plus(Duration::from_millis(20));
                let outcome = outcomes.next().unwrap();
                call.step(service, *now, Event::Finished(attempt, outcome))
            }
            Action::WaitUntil(until) | Action::Park { until, .. } => {
                *now = until;
                call.step(service, *now, Event::Wake)
            }
            Action::Cancel(_) => call.step(service, *now, Event::Wake),
            Action::Done(_) => return,
        };
    }
    panic!("the call does not end");
}

fn service(name: &str, clusters: &[&str]) -> Service {
    let mut service = Service::new(name.into(), Rules::default(), 1);
    let at = |n: usize| Address::parse(&format!("http://10.0.0.{n}:80")).unwrap();
    let endpoints: Vec<_> = clusters
        .iter()
        .enumerate()
        .map(|(n, cluster)| ((*cluster).into(), Role::Backup, at(n + 1)))
        .collect();
    service.resolve(
        Time::ZERO,
        Resolution::Found(plan::injected(&endpoints, clusters.first().copied())),
    );
    service
}

fn refused() -> Outcome {
    Outcome::Failed { fault: Fault::Connect, sent: Sent::Never }
}

fn all_dialects() -> MetricsConfig {
    MetricsConfig { compat: vec![Dialect::Datapunk], ..MetricsConfig::default() }
}

/// A snapshot as a client makes it of these services.
fn snapshot(services: &mut [Service], now: Time) -> Snapshot {
    let mut services_: Vec<_> = services.iter_mut().map(|s| s.snapshot(now)).collect();
    services_.sort_by(|a, b| a.name.cmp(&b.name));
    let events = services.iter().flat_map(|s| s.notices().counts().collect::<Vec<_>>()).collect();
    Snapshot { at: now, services: services_, events, ..Snapshot::default() }
}

#[test]
fn case_001_63_the_numbers_are_those_of_the_calls() {
    let (mut services, mut now) = ([service("billing", &["near", "far"])], Time::from_millis(1));
    for number in 0..10 {
        call(&mut services[0], &mut now, number, &[]);
    }
    // Two failures in a row in the near cluster, then an answer of the far one.
    call(&mut services[0], &mut now, 10, &[refused(), Outcome::status(200)]);
    let snapshot = snapshot(&mut services, now);
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let text = render(&snapshot, &all_dialects(), format);
        let samples = parse(&text, format).unwrap();
        check_buckets(&samples);
        let get = |name: &str, labels: &[(&str, &str)]| value(&samples, name, labels);
        let billing = ("service", "billing");
        let is = |name: &str, labels: &[(&str, &str)], expected: &str| {
            let labels: Vec<_> = [billing].iter().chain(labels).copied().collect();
            assert_eq!(get(name, &labels).as_deref(), Some(expected), "{name} {labels:?}\n{text}");
        };
        is("origin_calls_total", &[("result", "answered")], "11");
        is("origin_attempts_total", &[], "12");
        is("origin_retries_total", &[], "1");
        is("origin_attempt_faults_total", &[("fault", "connect")], "1");
        is("origin_responses_total", &[("code", "2xx")], "11");
        is("origin_failovers_total", &[("cluster", "far")], "1");
        is("origin_failovers_away_total", &[("cluster", "near")], "1");
        is("origin_cluster_switches_total", &[("cluster", "far"), ("direction", "failover")], "1");
        is("origin_notices_total", &[("event", "failover")], "1");
        is("origin_call_duration_seconds_count", &[("result", "answered")], "11");
        // Eleven of 20 ms, one of which with another 20 ms before.
        is("origin_call_duration_seconds_sum", &[("result", "answered")], "0.24");
        is("origin_call_duration_seconds_bucket", &[("result", "answered"), ("le", "0.025")], "10");
        is(
            "origin_attempt_duration_seconds_count",
            &[("cluster", "near"), ("result", "failure")],
            "1",
        );
        is("circuit_breaker_state", &[], "2");
        is("retry_success_total", &[("operation", "call"), ("attempts_needed", "2")], "1");
        is("service_health", &[("instance", "http://10.0.0.1:80"), ("dc", "near")], "1");
        is("mesh_service_calls_total", &[("operation", "call"), ("status", "success")], "11");
    }
}

#[test]
fn case_x_10_every_change_of_a_breaker_is_counted_once_as_it_is_told() {
    let (mut services, mut now) = ([service("billing", &["only"])], Time::from_millis(1));
    let failing = [Outcome::status(503); 8];
    for number in 0..40 {
        call(&mut services[0], &mut now, number, &failing);
        now = now.plus(Duration::from_millis(300));
    }
    now = now.plus(Duration::from_secs(120));
    for number in 40..60 {
        call(&mut services[0], &mut now, number, &[]);
        now = now.plus(Duration::from_millis(300));
    }
    let snapshot = snapshot(&mut services, now);
    let told = |name: &str| {
        let notices = services[0].notices().since(0);
        notices.filter(|notice| notice.event.name() == name).count() as u64
    };
    let mut moved: BTreeMap<&str, u64> = BTreeMap::new();
    for (from, to, count) in snapshot.services[0].breaker_moves.iter() {
        assert_ne!(from, to);
        *moved.entry(to.word()).or_default() += count;
    }
    assert!(services[0].notices().count() < crate::notice::KEPT as u64, "none may be forgotten");
    assert!(told("breaker_opened") > 0 && told("breaker_closed") > 0);
    assert_eq!(moved.get("open").copied(), Some(told("breaker_opened")));
    assert_eq!(moved.get("half_open").copied(), Some(told("breaker_half_opened")));
    assert_eq!(moved.get("closed").copied(), Some(told("breaker_closed")));
    // A chain: it leaves a state as often as it enters it, but for the one it is in.
    let sum = |pick: fn(Phase, Phase) -> bool| -> u64 {
        let moves = snapshot.services[0].breaker_moves.iter();
        moves.filter(|(from, to, _)| pick(*from, *to)).map(|(_, _, count)| count).sum()
    };
    assert_eq!(sum(|_, to| to == Phase::HalfOpen), sum(|from, _| from == Phase::HalfOpen));
    assert_eq!(sum(|_, to| to == Phase::Open), sum(|from, _| from == Phase::Open));
}

#[test]
fn case_001_60_61_62_64_the_numbers_of_a_service_as_data() {
    let mut service = service("stamping", &["only"]);
    let metrics = service.snapshot(Time::ZERO).metrics();
    assert!(metrics.error_rate == 0.0 && metrics.request_count == 0);
    let mut now = Time::from_millis(1);
    call(&mut service, &mut now, 0, &[]);
    call(&mut service, &mut now, 1, &[Outcome::status(503); 16]);
    let mut snapshot = service.snapshot(now);
    snapshot.cache =
        Some(crate::snapshot::CacheSnapshot { hits: 3, misses: 1, ..Default::default() });
    let json = serde_json::to_value(snapshot.metrics()).unwrap();
    assert_eq!(json["request_count"], 2);
    assert_eq!(json["error_count"], 1);
    assert_eq!(json["error_rate"], 0.5);
    assert_eq!(json["circuit_breaker"]["state"], "closed");
    assert_eq!(json["cache"]["hit_rate"], 0.75);
    let back: ServiceMetrics = serde_json::from_value(json).unwrap();
    assert_eq!(back, snapshot.metrics());
}

#[test]
fn what_exceeds_a_bound_is_summed_up_and_nothing_is_lost() {
    let (mut services, mut now) = (Vec::new(), Time::from_millis(1));
    for n in 0..5 {
        let mut service = service(&format!("s{n}"), &["a", "b", "c"]);
        for number in 0..=n {
            call(&mut service, &mut now, number, &[]);
        }
        services.push(service);
    }
    let snapshot = snapshot(&mut services, now);
    let few = MetricsConfig { max_services: 2, max_endpoints: 1, ..all_dialects() };
    let samples = parse(&render(&snapshot, &few, Format::Prometheus), Format::Prometheus).unwrap();
    check_buckets(&samples);
    let all = |name: &str| -> u64 {
        let of = samples.iter().filter(|((found, _), _)| found == name);
        of.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    };
    assert_eq!(all("origin_attempts_total"), 15);
    assert_eq!(all("origin_endpoint_attempts_total"), 15);
    assert_eq!(all("load_balancer_requests_total"), 15);
    assert_eq!(all("origin_call_duration_seconds_count"), 15);
    let names: BTreeSet<&str> = samples
        .keys()
        .flat_map(|(_, labels)| labels.iter().filter(|(name, _)| name == "service"))
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(names, BTreeSet::from(["_other", "s0", "s1"]));
}

#[test]
fn statsd_sends_what_rose_and_fits_a_packet() {
    let (mut services, mut now) =
        ([service("billing.x:y|z", &["near", "far"])], Time::from_millis(1));
    call(&mut services[0], &mut now, 0, &[]);
    let first = snapshot(&mut services, now);
    for number in 1..4 {
        call(&mut services[0], &mut now, number, &[refused()]);
    }
    let second = snapshot(&mut services, now);
    let settings = MetricsConfig::default();
    let lines = |datagrams: &[String]| -> Vec<String> {
        assert!(datagrams.iter().all(|datagram| datagram.len() <= DATAGRAM));
        datagrams.iter().flat_map(|d| d.split('\n')).map(str::to_owned).collect()
    };
    let all = lines(&statsd(None, &first, &settings));
    assert!(all.contains(&"origin.calls_total.billing_x_y_z.answered:1|c".to_owned()), "{all:#?}");
    let rose = lines(&statsd(Some(&first), &second, &settings));
    assert!(rose.contains(&"origin.calls_total.billing_x_y_z.answered:3|c".to_owned()));
    assert!(
        rose.contains(&"origin.call_duration_seconds.billing_x_y_z.answered.count:3|c".to_owned())
    );
    let still = lines(&statsd(Some(&second), &second, &settings));
    assert!(still.iter().all(|line| line.ends_with("|g")), "nothing rose: {still:#?}");
    // One that began anew: all of it is news.
    assert_eq!(
        lines(&statsd(Some(&second), &first, &settings))
            .iter()
            .filter(|line| line.starts_with("origin.calls_total"))
            .count(),
        1
    );
    let tags = MetricsConfig { statsd: StatsdLabels::Tags, ..settings };
    let tagged = lines(&statsd(Some(&first), &second, &tags));
    let line = "origin.calls_total:3|c|#service:billing.x:y_z,result:answered".to_owned();
    assert!(tagged.contains(&line), "{tagged:#?}");
}

/// Asks a source once, which answers after 30 ms.
fn look_up(directory: &mut Directory, now: &mut Time, status: u16, body: &str) {
    let asker = Asker::Call { service: "web", until: Time::NEVER };
    let Poll::Run(job) = directory.poll_job(*now, asker) else { panic!("nothing is due") };
    *now = now.plus(Duration::from_millis(30));
    let (headers, body) = (http::HeaderMap::new(), body.to_owned().into());
    let outcome = JobOutcome::Answered { status, headers, body };
    let _ = directory.job_done(*now, job.id, outcome);
}

#[test]
fn case_004_27_lookups_are_counted_with_their_time_and_what_they_failed_with() {
    let consul = Some(ConsulConfig::at("http://127.0.0.1:8500"));
    let discovery = DiscoveryConfig { consul, ..DiscoveryConfig::default() };
    let config = Config { discovery: Some(discovery), ..Config::default() };
    let mut directory = Directory::new(&config, 1, &Surroundings::default()).unwrap().unwrap();
    let mut now = Time::from_millis(1);
    let _ = directory.resolve(now, "web");
    let entry = r#"[{"Node":{"Node":"n","Address":"10.0.0.1","Datacenter":"dc1"},
        "Service":{"ID":"w","Service":"web","Port":80},"Checks":[]}]"#;
    look_up(&mut directory, &mut now, 500, "rpc error");
    now = now.plus(Duration::from_secs(120));
    look_up(&mut directory, &mut now, 200, entry);
    let mut service = Service::new("web".into(), Rules::default(), 1);
    service.resolve(now, directory.resolve(now, "web"));
    call(&mut service, &mut now, 0, &[]);
    let mut snapshot = snapshot(&mut [service], now);
    snapshot.services[0].discovered = true;
    snapshot.discovery = directory.snapshot(now);
    let text = render(&snapshot, &all_dialects(), Format::Prometheus);
    let samples = parse(&text, Format::Prometheus).unwrap();
    check_buckets(&samples);
    let is = |name: &str, labels: &[(&str, &str)], expected: &str| {
        let web: Vec<_> = [("service", "web")].iter().chain(labels).copied().collect();
        assert_eq!(value(&samples, name, &web).as_deref(), Some(expected), "{name}\n{text}");
    };
    is("service_discovery_lookups_total", &[("cached", "false")], "1");
    is("service_discovery_lookups_total", &[("cached", "true")], "1");
    is("service_discovery_duration_seconds_sum", &[("cached", "false")], "0.03");
    is("service_discovery_errors_total", &[("operation", "lookup"), ("error_type", "reply")], "1");
    is("service_discovery_healthy_instances", &[], "1");
    is("discovery_latency_count", &[("operation", "lookup")], "1");
    let labels = [("source", "consul"), ("service", "web"), ("operation", "lookup")];
    assert_eq!(value(&samples, "origin_discovery_answers_total", &labels).as_deref(), Some("1"));
}

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[\"\\\\\n\r\t{},= #|:@a\u{0}\u{1b}\u{202e}]{0,12}",
        Just("_other".to_owned()),
        Just("a\"} 1\norigin_calls_total{service=\"b".to_owned()),
        "x{150,400}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_names_cannot_break_a_page(
        names in proptest::collection::vec(hostile(), 1..5),
        clusters in proptest::collection::vec(hostile(), 1..4),
        errors in proptest::collection::vec(0_u16..600, 0..6),
        most in 1_usize..4,
    ) {
        let clusters: Vec<&str> = clusters.iter().map(String::as_str).collect();
        let (mut services, mut now) = (Vec::new(), Time::from_millis(1));
        for (n, name) in names.iter().enumerate() {
            let mut service = service(name, &clusters);
            let outcomes: Vec<Outcome> = errors.iter().copied().map(Outcome::status).collect();
            call(&mut service, &mut now, n as u64, &outcomes);
            services.push(service);
        }
        let snapshot = snapshot(&mut services, now);
        let settings = MetricsConfig { max_services: most, ..all_dialects() };
        for format in [Format::Prometheus, Format::OpenMetrics] {
            let text = render(&snapshot, &settings, format);
            let samples = parse(&text, format).map_err(TestCaseError::fail)?;
            check_buckets(&samples);
            let attempts: u64 = samples
                .iter()
                .filter(|((name, _), _)| name == "origin_attempts_total")
                .map(|(_, value)| value.parse::<u64>().unwrap())
                .sum();
            prop_assert_eq!(attempts, snapshot.services.iter().map(|s| s.attempts).sum::<u64>());
            prop_assert!(samples.keys().all(|(_, labels)| labels.len() <= 5));
        }
        for how in [StatsdLabels::Plain, StatsdLabels::Tags] {
            let settings = MetricsConfig { statsd: how, ..settings.clone() };
            for datagram in statsd(None, &snapshot, &settings) {
                prop_assert!(datagram.len() <= DATAGRAM && !datagram.is_empty());
                for line in datagram.split('\n') {
                    let (name, value) = line.split_once('|').ok_or_else(|| TestCaseError::fail(line.to_owned()))?;
                    let number = name.rsplit_once(':').map(|(_, number)| number.parse::<f64>());
                    prop_assert!(matches!(number, Some(Ok(_))), "{}", line);
                    prop_assert!(value.starts_with(['c', 'g']), "{}", line);
                    prop_assert!(line.chars().all(|c| c.is_ascii_graphic()), "{}", line);
                }
            }
        }
    }
}

#[test]
fn a_snapshot_survives_json_with_its_counts() {
    let (mut services, mut now) = ([service("billing", &["near", "far"])], Time::from_millis(1));
    call(&mut services[0], &mut now, 0, &[refused()]);
    let before = snapshot(&mut services, now);
    let back: Snapshot = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
    assert_eq!(before, back);
    let name: Arc<str> = "billing".into();
    assert_eq!(back.service(&name).unwrap().counted.retries, 1);
}
