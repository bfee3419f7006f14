//! Parsing by tables, the schedule against a small model of "twice the same".

use proptest::prelude::*;

use super::*;
use crate::discovery::document::BadDocument;

const JSON: &str = r#"{"clusters":[{"name":"a","role":"primary"}],"services":{"s":{"endpoints":{"a":"http://h:1/x","b":"http://g"},"internal_endpoints":{"b":"http://in"},"health_endpoints":{"a":"/up"}}}}"#;

fn settings() -> Settings {
    let config = FileConfig { path: Some("services".into()), ..FileConfig::default() };
    Settings::of(&config, "f").unwrap()
}

fn parse(text: &str) -> Result<Content, BadFile> {
    Content::parse(text.as_bytes(), "services", 1 << 20)
}

#[test]
fn x_06_json_is_the_origin_document() {
    let content = parse(JSON).unwrap();
    let names: Vec<&str> = content.services().map(|name| &**name).collect();
    assert_eq!(names, ["s"]);
    let got = |local| -> Vec<String> {
        let (found, refused) = content.instances("s", local).unwrap();
        assert!(refused.is_empty());
        let health = |i: &crate::discovery::Instance| i.health.clone().unwrap_or_default();
        found
            .iter()
            .map(|i| format!("{} {:?} {} {}", i.cluster, i.role, i.address, health(i)))
            .collect()
    };
    assert_eq!(got(None), ["a Primary http://h:1/x /up", "b Backup http://g "]);
    assert_eq!(got(Some("b")), ["b Backup http://in ", "a Primary http://h:1/x /up"]);
    assert!(content.instances("t", None).is_none());
}

#[test]
fn the_format_is_told_by_the_ending_and_then_by_the_first_character() {
    let read = |text: &str, path: &str| Content::parse(text.as_bytes(), path, 1 << 20);
    for path in ["a.json", "a.JSON", "a", "a.conf", "json"] {
        assert!(matches!(read(JSON, path), Ok(Content::Document(_))), "{path}");
    }
    for path in ["a.toml", "a.TOML"] {
        assert!(!matches!(read(JSON, path), Ok(_) | Err(BadFile::Document(_))), "{path}");
    }
    let bad = Err(BadFile::Document(BadDocument::NotJson { line: 1, column: 2, html: false }));
    assert_eq!(read("[services.s]", "a.json"), bad);
    // A byte order mark is not content.
    assert!(read(&format!("\u{feff}  {JSON}"), "a").is_ok());
    assert!(matches!(read("[services]", ".toml"), Ok(Content::Listing(_)) | Err(BadFile::NoToml)));
    for empty in ["", " \n\t", "\u{feff}"] {
        assert_eq!(read(empty, "a.toml"), Err(BadFile::Empty), "{empty:?}");
        assert_eq!(read(empty, "a.json"), Err(BadFile::Empty), "{empty:?}");
    }
    let large = Content::parse(&[b' '; 65], "a", 64);
    assert_eq!(large, Err(BadFile::TooLarge { bytes: 65, most: 64 }));
}

#[cfg(feature = "toml")]
mod toml {
    use super::*;
    use crate::config::{EndpointConfig, ServiceConfig};
    use crate::discovery::Role;
    use crate::discovery::sound::Unsound;

    const TOML: &str = r#"
        ignored = 7
        [services.billing]
        health = "/health"
        note = "unknown fields are ignored"
        endpoints = [
            { address = "http://10.0.0.1:80", cluster = "alpha", role = "primary", weight = 2 },
            { address = "http://[::1]:80/b", tags = ["canary"], metadata = { zone = "b" }, health = "//up" },
        ]
        [[services.db.endpoints]]
        address = "db.internal:5432"
        role = "witness"
        [services.none]
    "#;

    #[test]
    fn a_list_says_everything_about_an_instance() {
        let content = parse(TOML).unwrap();
        let names: Vec<&str> = content.services().map(|name| &**name).collect();
        assert_eq!(names, ["billing", "db", "none"]);
        let (billing, _) = content.instances("billing", None).unwrap();
        assert_eq!(
            (&*billing[0].cluster, billing[0].role, billing[0].weight),
            ("alpha", Role::Primary, 2)
        );
        assert_eq!(billing[0].health.as_deref(), Some("/health"));
        assert_eq!(&*billing[0].id, "http://10.0.0.1:80");
        assert_eq!((&*billing[1].cluster, billing[1].weight), ("static", 1));
        assert_eq!(billing[1].health.as_deref(), Some("//up"));
        assert_eq!((&*billing[1].tags[0], &*billing[1].metadata["zone"]), ("canary", "b"));
        let (db, _) = content.instances("db", None).unwrap();
        assert_eq!((db[0].address.is_http(), db[0].role), (false, Role::Backup));
        assert_eq!(content.instances("none", None), Some((vec![], vec![])));
    }

    #[test]
    fn x_11_what_is_wrong_is_told_by_its_place_and_not_repeated() {
        let one = |endpoint: &str| format!("[services.s]\nendpoints = [{{{endpoint}}}]\n");
        let entry = |end: &str, why| {
            Err(BadFile::Entry { field: format!("services.s.endpoints[0]{end}"), why })
        };
        let shape = |line| Err(BadFile::WrongShape { line });
        for (text, want) in [
            (one("address = \"secret://u:p@h\""), entry(".address", EntryFault::Address)),
            (one("address = \"http://secret:0\""), entry(".address", EntryFault::Address)),
            (one("address = \"secret:0\""), entry("", EntryFault::Unsound(Unsound::Port))),
            (
                one("address = \"http://h\", weight = 1000001"),
                entry("", EntryFault::Unsound(Unsound::Weight(1_000_001))),
            ),
            (
                one("address = \"http://h\", health = \"secret\""),
                entry("", EntryFault::Unsound(Unsound::Health)),
            ),
            (
                one("address = \"http://h\", cluster = \"\""),
                entry("", EntryFault::Unsound(Unsound::Cluster)),
            ),
            (one("cluster = \"secret\""), shape(2)),
            (one("address = \"http://h\", weight = -1"), shape(2)),
            (one("address = \"http://h\", weight = \"secret\""), shape(2)),
            (one("address = \"http://h\", tags = \"secret\""), shape(2)),
            ("services = 7\n".to_owned(), shape(1)),
            ("x = 1\n".to_owned(), shape(1)),
            ("\n[services]\ns = \"secret\"\n".to_owned(), shape(3)),
            ("[services.s\n".to_owned(), Err(BadFile::NotToml { line: 1 })),
            ("a = 1\na = 2\n".to_owned(), Err(BadFile::NotToml { line: 2 })),
            (
                "[services.\"secret thing\"]\n".to_owned(),
                Err(BadFile::Entry { field: "services".to_owned(), why: EntryFault::Name }),
            ),
        ] {
            let got = parse(&text);
            assert_eq!(got, want, "{text}");
            let error = got.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{text}: {error}");
        }
        let bytes = Content::parse(b"[services]\nx = '\xff'", "a", 100);
        assert_eq!(bytes, Err(BadFile::NotToml { line: 2 }));
        let deep = format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(parse(&deep), Err(BadFile::NotToml { .. })));
    }

    #[test]
    fn counts_are_bounded() {
        let services: String = (0..10_001).map(|n| format!("[services.s{n}]\n")).collect();
        assert_eq!(parse(&services), Err(BadFile::TooManyServices(10_001)));
        let many = "{address='http://h'},".repeat(100_001);
        let text = format!("[services.s]\nendpoints=[{many}]");
        let got = Content::parse(text.as_bytes(), "a", 8 << 20);
        assert_eq!(got, Err(BadFile::TooManyInstances(100_001)));
    }

    /// The static source says of an endpoint what the file says of it.
    #[test]
    fn x_06_static_and_file_agree() {
        let text = "[services.s]\nendpoints=[{address='http://h:1', cluster='c', role='primary', weight=3, metadata={zone='a'}}]";
        let endpoint = EndpointConfig {
            cluster: "c".into(),
            role: Role::Primary,
            weight: 3,
            metadata: [("zone".to_owned(), "a".to_owned())].into(),
            ..EndpointConfig::at("http://h:1")
        };
        let service = ServiceConfig { endpoints: vec![endpoint], ..ServiceConfig::default() };
        let empty = ServiceConfig::default();
        let config = [("s".to_owned(), service), ("discovered".to_owned(), empty)].into();
        assert_eq!(parse(text), Ok(Content::Listing(Listing::of(&config).unwrap())));
        let bad = ServiceConfig {
            endpoints: vec![EndpointConfig::at("http://h"), EndpointConfig::at("http://h:0")],
            ..ServiceConfig::default()
        };
        let refused = Listing::of(&[("s".to_owned(), bad)].into()).unwrap_err();
        assert_eq!(refused.field, "services.s.endpoints[1].address");
    }

    proptest! {
        #[test]
        fn any_list_is_survived(text in "(\\[services\\.[a-z]\\]\n|endpoints ?= ?|[\\[{}\\],\"'=.\n]|address|http://h:[0-9]|[ -~é]){0,30}") {
            let _ = Content::parse(text.as_bytes(), "a.toml", 1_000);
        }
    }
}

#[cfg(not(feature = "toml"))]
#[test]
fn without_the_feature_toml_is_refused_as_such() {
    assert_eq!(parse("[services]"), Err(BadFile::NoToml));
}

#[test]
fn x_09_bad_settings_name_the_field() {
    assert_eq!(Settings::of(&FileConfig::default(), "f"), Ok(Settings::default()));
    let field = |change: &dyn Fn(&mut FileConfig)| {
        let mut config = FileConfig::default();
        change(&mut config);
        Settings::of(&config, "f").map_or_else(|e| e.field, |_| "fine".to_owned())
    };
    let ms = Duration::from_millis;
    for (span, want) in [(ms(0), "f.poll"), (ms(9), "f.poll"), (ms(200), "fine"), (WEEK, "fine")] {
        assert_eq!(field(&|c| c.poll = span), want, "{span:?}");
    }
    assert_eq!(field(&|c| c.poll = ms(199)), "f.settle");
    assert_eq!(field(&|c| c.poll = Duration::MAX), "f.poll");
    assert_eq!(field(&|c| c.settle = Duration::MAX), "f.settle");
    assert_eq!(field(&|c| c.settle = Duration::ZERO), "fine");
    for (bytes, want) in
        [(0, "f.max_bytes"), (63, "f.max_bytes"), (64, "fine"), (usize::MAX, "f.max_bytes")]
    {
        assert_eq!(field(&|c| c.max_bytes = bytes), want, "{bytes}");
    }
    for path in [String::new(), "a\0b".to_owned(), "x".repeat(4_097)] {
        assert_eq!(field(&|c| c.path = Some(path.clone())), "f.path");
    }
}

/// What a look finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    A,
    B,
    /// Says what A says in other bytes.
    Like,
    Bad,
    Missing,
    Failed,
    Dropped,
}

const LOOKS: [Look; 7] =
    [Look::A, Look::B, Look::Like, Look::Bad, Look::Missing, Look::Failed, Look::Dropped];

fn text(look: Look) -> Option<&'static str> {
    match look {
        Look::A => Some(r#"{"services":{"s":{"endpoints":{"a":"http://a"}}}}"#),
        Look::Like => Some(r#"{ "services":{"s":{"endpoints":{"a":"http://a"}}}}"#),
        Look::B => Some(r#"{"services":{"s":{"endpoints":{"a":"http://b"}}}}"#),
        Look::Bad => Some(r#"{"services":{"s":{"endpoi"#),
        _ => None,
    }
}

fn outcome(look: Look) -> JobOutcome {
    match (look, text(look)) {
        (_, Some(text)) => JobOutcome::Content(Some(Bytes::from_static(text.as_bytes()))),
        (Look::Missing, _) => JobOutcome::Content(None),
        (Look::Failed, _) => JobOutcome::Failed(Fault::Timeout),
        _ => JobOutcome::Dropped,
    }
}

/// What is in use after each look: the first good content, then one that was found twice with
/// nothing else found between. Looks that find nothing to read do not count.
#[derive(Default)]
struct Model {
    used: Option<Look>,
    last: Option<Look>,
}

impl Model {
    fn look(&mut self, look: Look) {
        if text(look).is_none() {
            return;
        }
        let good = look != Look::Bad;
        if good && (self.used.is_none() || self.last == Some(look)) {
            self.used = Some(look);
        }
        self.last = Some(look);
    }
}

/// Every sequence of five looks: what is in use is what the model says, changes and problems are
/// told once, and the next look is never further away than `poll`.
#[test]
fn a_bad_or_vanished_file_never_replaces_a_good_one() {
    let settings = settings();
    for code in 0..7_usize.pow(5) {
        let (mut file, mut model, mut now) = (FileSource::new(), Model::default(), Time::ZERO);
        let mut left = code;
        let (mut before, mut trouble) = (None, None);
        for _ in 0..5 {
            let look = LOOKS[left % 7];
            left /= 7;
            let Poll::Run(job) = file.poll(now, &settings) else { panic!("due at {now:?}") };
            let heard = file.done(now, job.id, outcome(look), &settings);
            model.look(look);
            let used = file.content().cloned();
            let want = model.used.map(|look| parse(text(look).unwrap()).unwrap());
            assert_eq!(used.as_deref(), want.as_ref(), "{code}");
            assert_eq!(heard == Heard::Changed, used != before, "{code} {heard:?}");
            let problem = file.problem().cloned();
            assert_eq!(heard == Heard::Trouble, problem.is_some() && problem != trouble, "{code}");
            assert!(used.is_some() || model.used.is_none());
            (before, trouble) = (used, problem);
            match file.poll(now, &settings) {
                Poll::Wait(until) => {
                    assert!(until <= now.plus(Duration::from_secs(5)) && until > now);
                    now = until;
                }
                Poll::Run(job) => {
                    assert_eq!(look, Look::Dropped, "{code}");
                    let _ = file.done(now, job.id, JobOutcome::Dropped, &settings);
                }
            }
        }
    }
}

#[test]
fn a_file_that_never_settles_is_read_in_the_end() {
    let (settings, mut file, mut now) = (settings(), FileSource::new(), Time::ZERO);
    let mut changes = 0;
    for n in 0..40 {
        let Poll::Run(job) = file.poll(now, &settings) else { panic!() };
        let text = format!(r#"{{"services":{{"s":{{"endpoints":{{"a":"http://h{n}"}}}}}}}}"#);
        let content = JobOutcome::Content(Some(Bytes::from(text)));
        changes += u32::from(file.done(now, job.id, content, &settings) == Heard::Changed);
        let Poll::Wait(until) = file.poll(now, &settings) else { panic!() };
        now = until;
    }
    // The first at once, then every eighth.
    assert_eq!(changes, 1 + 39 / 8);
}

#[test]
fn without_settling_a_change_counts_at_once() {
    let config =
        FileConfig { path: Some("x".into()), settle: Duration::ZERO, ..FileConfig::default() };
    let (settings, mut file) = (Settings::of(&config, "f").unwrap(), FileSource::new());
    for (n, look) in
        [Look::A, Look::B, Look::A, Look::Bad, Look::Bad, Look::A].into_iter().enumerate()
    {
        let now = Time::from_millis(5_000 * n as u64);
        let Poll::Run(job) = file.poll(now, &settings) else { panic!() };
        let heard = file.done(now, job.id, outcome(look), &settings);
        let want = [
            Heard::Changed,
            Heard::Changed,
            Heard::Changed,
            Heard::Trouble,
            Heard::Same,
            Heard::Recovered,
        ][n];
        assert_eq!(heard, want, "{n}");
        assert_eq!(file.problem().is_some(), matches!(n, 3 | 4));
    }
}

#[test]
fn a_lost_job_is_issued_again_and_a_late_result_is_ignored() {
    let (settings, mut file) = (settings(), FileSource::new());
    let Poll::Run(lost) = file.poll(Time::ZERO, &settings) else { panic!() };
    let Poll::Wait(until) = file.poll(Time::ZERO, &settings) else { panic!("one at a time") };
    assert_eq!(until, lost.deadline.plus(LATE));
    let Poll::Run(again) = file.poll(until, &settings) else { panic!() };
    assert_ne!(again.id, lost.id);
    assert_eq!(file.done(until, lost.id, outcome(Look::A), &settings), Heard::Ignored);
    assert_eq!(file.done(until, again.id, outcome(Look::A), &settings), Heard::Changed);
    assert_eq!(file.done(until, again.id, outcome(Look::B), &settings), Heard::Ignored);
    assert_eq!(file.age(until.plus(Duration::from_secs(7))), Some(Duration::from_secs(7)));
}

/// A clock that went back by an hour does not end the looking for an hour.
#[test]
fn x_07_a_clock_that_goes_back_stops_nothing() {
    let (settings, mut file, late) = (settings(), FileSource::new(), Time::from_millis(3_600_000));
    let Poll::Run(job) = file.poll(late, &settings) else { panic!() };
    let _ = file.done(late, job.id, outcome(Look::A), &settings);
    assert!(matches!(file.poll(Time::ZERO, &settings), Poll::Run(_)));
}

#[test]
fn another_path_is_read_at_once_and_none_ends_it() {
    let (before, mut file, now) = (settings(), FileSource::new(), Time::from_millis(9));
    let Poll::Run(job) = file.poll(now, &before) else { panic!() };
    assert_eq!(file.done(now, job.id, outcome(Look::A), &before), Heard::Changed);
    let config = FileConfig { path: Some("other".into()), ..FileConfig::default() };
    let after = Settings::of(&config, "f").unwrap();
    file.retune(now, &before, &after);
    assert!(file.content().is_some());
    let Poll::Run(job) = file.poll(now, &after) else { panic!() };
    assert!(matches!(&job.work, Work::Read { path, .. } if &**path == "other"));
    let _ = file.done(now, job.id, outcome(Look::Missing), &after);
    assert!(file.content().is_some() && file.problem() == Some(&FileProblem::Missing));
    file.retune(now, &after, &Settings::default());
    assert!(file.content().is_none());
    assert!(matches!(file.poll(now, &Settings::default()), Poll::Wait(Time::NEVER)));
}

proptest! {
    /// A world with a file that changes as it likes, read by a driver that is late, and a clock
    /// that stands or jumps: what is in use was once in the file; looks are at least `settle`
    /// apart unless they were dropped or lost; and a good file that stays is in use soon.
    #[test]
    fn in_any_world_the_last_good_file_wins(
        script in proptest::collection::vec((0_usize..7, 0_u64..12_000), 1..40),
        last in 0_usize..2,
    ) {
        let settings = settings();
        let (mut file, mut now, mut once) = (FileSource::new(), Time::ZERO, Vec::new());
        for (look, pause) in script {
            now = now.plus(Duration::from_millis(pause));
            if let Poll::Run(job) = file.poll(now, &settings) {
                if let Some(text) = text(LOOKS[look]) {
                    once.push(parse(text));
                }
                let _ = file.done(now, job.id, outcome(LOOKS[look]), &settings);
            }
            if let Some(content) = file.content() {
                prop_assert!(once.contains(&Ok((**content).clone())));
            }
        }
        let (end, stays) = (now.plus(Duration::from_millis(5_000 + 200)), LOOKS[last]);
        loop {
            match file.poll(now, &settings) {
                Poll::Run(job) => drop(file.done(now, job.id, outcome(stays), &settings)),
                Poll::Wait(until) if until <= end => now = until,
                Poll::Wait(_) => break,
            }
        }
        let want = parse(text(stays).unwrap()).unwrap();
        prop_assert_eq!(file.content().map(|content| &**content), Some(&want));
        prop_assert!(file.problem().is_none());
    }

    #[test]
    fn odd_clocks_are_survived(times in proptest::collection::vec(
        prop_oneof![Just(0), Just(u64::MAX), Just(u64::MAX - 1), any::<u64>(), 0_u64..10_000_000_000], 0..30,
    )) {
        let (settings, mut file) = (settings(), FileSource::new());
        for nanos in times {
            let now = Time::from_nanos(nanos);
            match file.poll(now, &settings) {
                Poll::Run(job) => {
                    let _ = file.done(now, job.id, outcome(Look::B), &settings);
                    let ends = matches!(file.poll(now, &settings), Poll::Wait(_));
                    prop_assert!(ends, "a job must not be due again at once");
                }
                Poll::Wait(until) => prop_assert!(until > now || now == Time::NEVER),
            }
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for path in ["a", "a.json", "a.toml"] {
            let _ = Content::parse(&bytes, path, 256);
        }
    }

    /// Every prefix of a good document is refused.
    #[test]
    fn a_document_that_is_cut_off_is_refused(cut in 0..JSON.len()) {
        prop_assert!(parse(&JSON[..cut]).is_err());
    }
}
