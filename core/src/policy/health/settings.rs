//! The checked and compiled form of [`ChecksConfig`]: integers and ready-made texts only.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};

use crate::config::field::{At, WEEK};
use crate::config::{CheckKind, ChecksConfig, ConfigError};
use crate::time::{DurationText, Time, nanos};

/// Shortest interval: below it the checks are the load.
const SHORTEST: Duration = Duration::from_millis(10);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_FAST: Duration = Duration::from_secs(1);
const DEFAULT_NO_TRAFFIC: Duration = Duration::from_secs(60);
/// Path of an HTTP check that nobody named.
const DEFAULT_PATH: &str = "/health";
/// Longest path, service name and check name, in bytes.
const LONGEST_TEXT: usize = 1024;
const MOST_RANGES: usize = 16;

/// What a check asks, with the texts it needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// No checks.
    Off,
    /// `GET` of this path; `None`: of the one that discovery names.
    Http(Option<Arc<str>>),
    /// A connection.
    Tcp,
    /// The gRPC health service, asked for this service; empty for the server as a whole.
    Grpc(Arc<str>),
    /// A check that the adapter knows by this name.
    Custom(Arc<str>),
}

/// A checked [`ChecksConfig`]. The fields are one to one those of the configuration, documented
/// there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Settings {
    pub kind: Kind,
    pub interval: Duration,
    pub jitter_permille: u32,
    pub timeout: Duration,
    pub healthy_threshold: u32,
    pub unhealthy_threshold: u32,
    pub fast_interval: Duration,
    pub no_traffic_interval: Duration,
    pub max_concurrent: u32,
    /// First and last status of each range.
    pub expect: Box<[(u16, u16)]>,
    /// In lower case.
    pub degraded_header: Option<Arc<str>>,
    pub read_body: bool,
    pub history: u32,
}

impl Default for Settings {
    /// The compiled default: no checks.
    fn default() -> Self {
        Settings {
            kind: Kind::Off,
            interval: Duration::from_secs(30),
            jitter_permille: 100,
            timeout: DEFAULT_TIMEOUT,
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            fast_interval: DEFAULT_FAST,
            no_traffic_interval: DEFAULT_NO_TRAFFIC,
            max_concurrent: 8,
            expect: Box::new([(200, 299)]),
            degraded_header: Some("x-envoy-degraded".into()),
            read_body: false,
            history: 16,
        }
    }
}

impl Settings {
    /// Checks `config` and compiles it. `path` is where it stands, for the error. Every field is
    /// checked, also while the kind is off, so that switching on later brings no surprise.
    ///
    /// # Errors
    /// The first field that is zero, out of range, unreadable, or contradicts another.
    pub fn of(config: &ChecksConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        let interval = at.within("interval", config.interval, SHORTEST..=WEEK)?;
        let timeout = config.timeout.unwrap_or(DEFAULT_TIMEOUT.min(interval));
        at.span("timeout", timeout)?;
        // A hanging endpoint would be checked more rarely than the interval promises.
        at.ordered(("timeout", timeout), ("interval", interval))?;
        let fast = config.fast_interval.unwrap_or(DEFAULT_FAST.min(interval));
        at.within("fast_interval", fast, SHORTEST..=WEEK)?;
        at.ordered(("fast_interval", fast), ("interval", interval))?;
        let quiet = config.no_traffic_interval.unwrap_or(DEFAULT_NO_TRAFFIC.max(interval));
        at.within("no_traffic_interval", quiet, SHORTEST..=WEEK)?;
        if quiet < interval {
            let (quiet, interval) = (DurationText(quiet), DurationText(interval));
            let reason = format!("{quiet} is shorter than {path}.interval of {interval}");
            return Err(at.refuse("no_traffic_interval", reason));
        }
        let thousand = |name: &str, count: u32| at.within(name, count, 1..=1_000);
        Ok(Settings {
            kind: kind(at, config)?,
            interval,
            jitter_permille: at.permille("jitter", config.jitter)?,
            timeout,
            healthy_threshold: thousand("healthy_threshold", config.healthy_threshold)?,
            unhealthy_threshold: thousand("unhealthy_threshold", config.unhealthy_threshold)?,
            fast_interval: fast,
            no_traffic_interval: quiet,
            max_concurrent: at.within("max_concurrent", config.max_concurrent, 1..=256)?,
            expect: ranges(at, &config.expect)?,
            degraded_header: header(at, &config.degraded_header)?,
            read_body: config.read_body,
            history: at.within("history", config.history, 1..=64)?,
        })
    }

    /// Whether there are checks at all.
    #[must_use]
    pub const fn on(&self) -> bool {
        !matches!(self.kind, Kind::Off)
    }

    /// The path of an HTTP check of an endpoint for which discovery named `found`: the configured
    /// one, else `found` if it can be a path, else `/health`.
    #[must_use]
    pub fn path<'a>(&'a self, found: Option<&'a str>) -> &'a str {
        if let Kind::Http(Some(path)) = &self.kind {
            return path;
        }
        found.filter(|path| path_fault(path).is_none()).unwrap_or(DEFAULT_PATH)
    }

    /// Whether an HTTP status counts as success.
    #[must_use]
    pub fn expects(&self, status: u16) -> bool {
        self.expect.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }

    /// How long a probe counts as under way: twice its timeout, so that the report of a timeout,
    /// which comes after the deadline, is still taken. Then it is lost.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        self.timeout.saturating_mul(2)
    }

    /// The longest time from one probe of an endpoint to its next one, in a service with
    /// `endpoints` of them that is driven on time, even if every probe is lost: the longest wait
    /// with its jitter, and the queue behind all the others.
    #[must_use]
    pub fn longest_gap(&self, endpoints: u32) -> Duration {
        let span = nanos(self.no_traffic_interval.max(self.interval).max(self.fast_interval));
        let wait = span.saturating_add(share(span, self.jitter_permille));
        let own = Duration::from_nanos(wait).max(self.lease());
        let others = self.lease().saturating_mul(endpoints.saturating_sub(1));
        own.saturating_add(others / self.max_concurrent.max(1))
    }
}

/// `permille` of `nanos`.
pub(super) fn share(nanos: u64, permille: u32) -> u64 {
    u64::try_from(u128::from(nanos) * u128::from(permille) / 1000).unwrap_or(u64::MAX)
}

/// Whether `at` has come. What is due never does not come, even at the end of time: a clock that
/// jumps there must not make everything due for ever.
pub(super) fn reached(at: Time, now: Time) -> bool {
    at <= now && at < Time::NEVER
}

/// What is wrong with a path of an HTTP check.
fn path_fault(path: &str) -> Option<&'static str> {
    if path.len() > LONGEST_TEXT {
        return Some("is longer than 1024 bytes");
    }
    if !path.starts_with('/') {
        return Some("does not begin with '/'");
    }
    if !path.bytes().all(|c| c.is_ascii_graphic()) || path.contains('#') {
        return Some("contains a space, '#' or a character that must be percent-encoded");
    }
    path.parse::<PathAndQuery>().is_err().then_some("is not a path")
}

/// A setting of one kind under another one would be read by nobody: refused, except that
/// everything may stay while the checks are switched off.
fn kind(at: At<'_>, config: &ChecksConfig) -> Result<Kind, ConfigError> {
    let kind = config.kind;
    let belongs = [
        ("path", config.path.is_some(), CheckKind::Http),
        ("read_body", config.read_body, CheckKind::Http),
        ("grpc_service", !config.grpc_service.is_empty(), CheckKind::Grpc),
        ("custom", !config.custom.is_empty(), CheckKind::Custom),
    ];
    for (field, set, owner) in belongs {
        if set && kind != owner && kind != CheckKind::Off {
            let reason = format!("belongs to kind {}, not {}", owner.word(), kind.word());
            return Err(at.refuse(field, reason));
        }
    }
    if let Some(fault) = config.path.as_deref().and_then(path_fault) {
        return Err(at.refuse("path", fault));
    }
    for (field, text) in [("grpc_service", &config.grpc_service), ("custom", &config.custom)] {
        if text.len() > LONGEST_TEXT {
            return Err(at.refuse(field, "is longer than 1024 bytes"));
        }
    }
    Ok(match kind {
        CheckKind::Off => Kind::Off,
        CheckKind::Http => Kind::Http(config.path.as_deref().map(Into::into)),
        CheckKind::Tcp => Kind::Tcp,
        CheckKind::Grpc => Kind::Grpc(config.grpc_service.as_str().into()),
        CheckKind::Custom if config.custom.is_empty() => {
            return Err(at.refuse("custom", "kind custom needs the name of the check"));
        }
        CheckKind::Custom => Kind::Custom(config.custom.as_str().into()),
    })
}

fn ranges(at: At<'_>, texts: &[String]) -> Result<Box<[(u16, u16)]>, ConfigError> {
    if texts.is_empty() || texts.len() > MOST_RANGES {
        let reason = format!("{} entries are outside 1–{MOST_RANGES}", texts.len());
        return Err(at.refuse("expect", reason));
    }
    let read =
        |text: &str| text.parse().ok().filter(|code| text.len() == 3 && (100..600).contains(code));
    let range = |text: &String| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (read(first), read(last)) {
            (Some(first), Some(last)) if first <= last => Ok((first, last)),
            _ => {
                let shown: String = text.chars().take(32).collect();
                let reason = format!("{shown:?} is not a status such as 204 or 200-299");
                Err(at.refuse("expect", reason))
            }
        }
    };
    texts.iter().map(range).collect()
}

fn header(at: At<'_>, name: &str) -> Result<Option<Arc<str>>, ConfigError> {
    if name.is_empty() {
        return Ok(None);
    }
    at.header("degraded_header", name)?;
    Ok(Some(name.to_ascii_lowercase().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut ChecksConfig)) -> String {
        let mut config = ChecksConfig::default();
        change(&mut config);
        Settings::of(&config, "c").unwrap_err().field
    }

    #[test]
    fn case_000_27_004_06_default_is_off_and_the_interval_is_changeable() {
        assert_eq!(Settings::of(&ChecksConfig::default(), "c"), Ok(Settings::default()));
        assert!(!Settings::default().on());
        let ten = Duration::from_secs(10);
        let config =
            ChecksConfig { kind: CheckKind::Http, interval: ten, ..ChecksConfig::default() };
        let settings = Settings::of(&config, "c").unwrap();
        assert_eq!((settings.on(), settings.interval, settings.timeout.as_secs()), (true, ten, 5));
    }

    #[test]
    fn what_is_not_named_follows_the_interval() {
        let at = |interval| {
            let config = ChecksConfig { interval, ..ChecksConfig::default() };
            let s = Settings::of(&config, "c").unwrap();
            (s.timeout, s.fast_interval, s.no_traffic_interval)
        };
        let ms = Duration::from_millis;
        assert_eq!(at(ms(500)), (ms(500), ms(500), ms(60_000)));
        assert_eq!(at(ms(300_000)), (ms(5_000), ms(1_000), ms(300_000)));
    }

    #[test]
    fn x_09_bad_values_name_the_field() {
        let ms = Duration::from_millis;
        for (span, fine) in [(0, false), (1, false), (10, true), (7 * 86_400_001, false)] {
            let config = ChecksConfig { interval: ms(span), ..ChecksConfig::default() };
            assert_eq!(Settings::of(&config, "c").is_ok(), fine, "{span}");
        }
        assert_eq!(refused(|c| c.interval = Duration::MAX), "c.interval");
        for span in [Duration::ZERO, ms(30_001), Duration::MAX] {
            assert_eq!(refused(|c| c.timeout = Some(span)), "c.timeout");
            assert_eq!(refused(|c| c.fast_interval = Some(span)), "c.fast_interval");
        }
        assert_eq!(refused(|c| c.fast_interval = Some(ms(1))), "c.fast_interval");
        for span in [Duration::ZERO, ms(29_999), Duration::MAX] {
            assert_eq!(refused(|c| c.no_traffic_interval = Some(span)), "c.no_traffic_interval");
        }
        for jitter in [f64::NAN, f64::INFINITY, -0.1, 1.001] {
            assert_eq!(refused(|c| c.jitter = jitter), "c.jitter");
        }
        for bad in [0, u32::MAX] {
            assert_eq!(refused(|c| c.healthy_threshold = bad), "c.healthy_threshold");
            assert_eq!(refused(|c| c.unhealthy_threshold = bad), "c.unhealthy_threshold");
            assert_eq!(refused(|c| c.max_concurrent = bad), "c.max_concurrent");
            assert_eq!(refused(|c| c.history = bad), "c.history");
        }
        assert_eq!(refused(|c| c.history = 65), "c.history");
        for bad in ["", "200-", "299-200", "2xx", "99", "600", "0200", "+20", "200-300-400", "é"] {
            assert_eq!(refused(|c| c.expect = vec![bad.to_owned()]), "c.expect", "{bad}");
        }
        assert_eq!(refused(|c| c.expect.clear()), "c.expect");
        assert_eq!(refused(|c| c.expect = vec!["200".to_owned(); 17]), "c.expect");
        assert_eq!(refused(|c| c.degraded_header = "a b".to_owned()), "c.degraded_header");
    }

    #[test]
    fn case_004_80_a_check_stays_at_its_endpoint() {
        for bad in ["", "health", "http://other/", "/a b", "/#x", "/ß", "/a\r\nHost: x", "/\0"] {
            assert_eq!(refused(|c| c.path = Some(bad.to_owned())), "c.path", "{bad:?}");
        }
        let long = format!("/{}", "x".repeat(LONGEST_TEXT));
        assert_eq!(refused(|c| c.path = Some(long.clone())), "c.path");
        // What discovery names is not trusted either.
        let settings = Settings::default();
        for (found, used) in [
            (None, "/health"),
            (Some("/v1/sys/health?standbyok=true"), "/v1/sys/health?standbyok=true"),
            (Some("http://other/x"), "/health"),
            (Some("/a\r\nHost: x"), "/health"),
            (Some(long.as_str()), "/health"),
        ] {
            assert_eq!(settings.path(found), used);
        }
        let config = ChecksConfig {
            kind: CheckKind::Http,
            path: Some("/ready".to_owned()),
            ..ChecksConfig::default()
        };
        assert_eq!(Settings::of(&config, "c").unwrap().path(Some("/found")), "/ready");
    }

    #[test]
    fn a_setting_of_another_kind_is_refused_unless_all_is_off() {
        type Change = fn(&mut ChecksConfig);
        let changes: [(&str, CheckKind, Change); 4] = [
            ("path", CheckKind::Http, |c| c.path = Some("/x".to_owned())),
            ("read_body", CheckKind::Http, |c| c.read_body = true),
            ("grpc_service", CheckKind::Grpc, |c| c.grpc_service = "a.B".to_owned()),
            ("custom", CheckKind::Custom, |c| c.custom = "disk".to_owned()),
        ];
        for (field, owner, change) in changes {
            for kind in [CheckKind::Off, CheckKind::Http, CheckKind::Tcp, CheckKind::Grpc] {
                let mut config = ChecksConfig { kind, ..ChecksConfig::default() };
                change(&mut config);
                let got = Settings::of(&config, "c").map_err(|e| e.field);
                let fine = kind == owner || kind == CheckKind::Off;
                assert_eq!(got.is_ok(), fine, "{field} under {kind:?}");
                assert!(fine || got == Err(format!("c.{field}")));
            }
        }
        assert_eq!(refused(|c| c.kind = CheckKind::Custom), "c.custom");
    }

    #[test]
    fn statuses_are_matched_to_their_ends() {
        let expect = vec!["200-204".to_owned(), "429".to_owned()];
        let config = ChecksConfig { expect, ..ChecksConfig::default() };
        let settings = Settings::of(&config, "c").unwrap();
        let got: Vec<u16> = (0..=u16::MAX).filter(|code| settings.expects(*code)).collect();
        assert_eq!(got, [200, 201, 202, 203, 204, 429]);
    }

    #[test]
    fn the_longest_gap_counts_the_queue() {
        // 60 s + 10 %, and 79 others at 10 s each over 8 places.
        let gap = Settings::default().longest_gap(80);
        assert_eq!(gap, Duration::from_millis(66_000 + 98_750));
        assert!(Settings::default().longest_gap(u32::MAX) > gap);
        // A lost probe lasts longer than the interval.
        let ms = Duration::from_millis;
        let settings = Settings {
            no_traffic_interval: ms(100),
            interval: ms(100),
            fast_interval: ms(100),
            timeout: ms(100),
            ..Settings::default()
        };
        assert_eq!(settings.longest_gap(1), ms(200));
    }
}
