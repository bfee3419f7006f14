use http::HeaderMap;

use super::*;

const WALL: Wall = Wall(1_700_000_000);
const ROOTS: &[u8] = include_bytes!("../../../tests/corpus/consul_connect/roots.json");

fn config() -> ConsulConfig {
    let mut config = ConsulConfig::at("https://one:8501");
    config.urls.push("https://two:8501".into());
    config.connect.enabled = true;
    config.connect.service = "web".into();
    config.defaults = true;
    config
}

fn followed() -> Followed {
    let rules = Rules::of(&config(), "discovery.consul", |_| None).unwrap().unwrap();
    Followed::new(at(0), rules, Some(1), 7)
}

fn at(seconds: u64) -> Time {
    Time::from_millis(seconds * 1_000)
}

/// All that is due, as it would be sent.
fn due(followed: &mut Followed, now: Time) -> Vec<(JobId, String)> {
    let mut all = Vec::new();
    while let Poll::Run(job) = followed.poll(now, WALL) {
        assert!(Followed::owns(job.id) && !super::super::registry::Registry::owns(job.id));
        let text = match &job.work {
            Work::Http { request, .. } => request.uri().to_string(),
            Work::Read { path, .. } => path.to_string(),
            _ => panic!(),
        };
        all.push((job.id, text));
    }
    all
}

fn answered(status: u16, index: &str, body: &[u8]) -> JobOutcome {
    let mut headers = HeaderMap::new();
    headers.insert("x-consul-index", index.parse().unwrap());
    JobOutcome::Answered { status, headers, body: body.to_vec().into() }
}

#[test]
fn everything_that_is_followed_is_asked_for_and_each_answer_finds_its_machine() {
    let mut f = followed();
    let jobs = due(&mut f, at(1));
    let urls: Vec<&str> = jobs.iter().map(|(_, url)| url.as_str()).collect();
    assert_eq!(
        urls,
        [
            "https://one:8501/v1/agent/connect/ca/roots",
            "https://one:8501/v1/agent/connect/ca/leaf/web",
            "https://one:8501/v1/config/service-defaults",
            "https://one:8501/v1/config/service-resolver",
            "https://one:8501/v1/config/proxy-defaults",
        ]
    );
    let roots = f.done(at(1), WALL, jobs[0].0, answered(200, "5", ROOTS));
    assert_eq!(roots, News::default(), "half of it");
    let denied = f.done(at(1), WALL, jobs[1].0, answered(403, "5", b"Permission denied"));
    assert_eq!(denied, News::default());
    assert_eq!(f.trouble().unwrap().trouble, Trouble::Forbidden);
    let proxy = br#"[{"Kind":"proxy-defaults","Name":"global",
        "Config":{"local_request_timeout_ms":2000}}]"#;
    assert!(f.done(at(1), WALL, jobs[4].0, answered(200, "5", proxy)).defaults);
    assert_eq!(f.suggestion("web").attempt, Some(Duration::from_secs(2)));
    // Not one of the three comes twice.
    assert_eq!(f.done(at(1), WALL, jobs[4].0, answered(200, "9", b"[]")), News::default());
    // What is there is watched from now on.
    let next = due(&mut f, at(2));
    assert!(next.iter().any(|(_, url)| url.contains("ca/roots?index=5&wait=")), "{next:?}");
    // The files, at their time.
    let files = due(&mut f, at(30));
    assert_eq!(files[0].1, "/etc/consul/ca.pem");
    let unreadable = JobOutcome::Impossible("/etc/consul/ca.pem: denied".into());
    assert_eq!(f.done(at(30), WALL, files[0].0, unreadable), News::default());
    let notices: Vec<String> = f.notices().since(0).map(ToString::to_string).collect();
    assert!(notices[0].contains("the certificate cannot be read"), "{notices:?}");
    assert!(notices.last().unwrap().contains("/etc/consul/ca.pem: denied"), "{notices:?}");
}

#[test]
fn an_agent_that_does_not_answer_is_left_for_the_next_one() {
    let mut f = followed();
    let jobs = due(&mut f, at(1));
    for (id, _) in &jobs {
        let _ = f.done(at(1), WALL, *id, JobOutcome::Failed(Fault::Connect));
    }
    // Once for all of them, which found the same one gone.
    let next = due(&mut f, at(10));
    assert!(!next.is_empty() && next.iter().all(|(_, url)| url.contains("//two:8501")), "{next:?}");
    // The end of a wait says nothing about it; a refusal neither.
    let _ = f.done(at(10), WALL, next[0].0, JobOutcome::Failed(Fault::Timeout));
    let _ = f.done(at(10), WALL, next[1].0, answered(500, "1", b"No cluster leader"));
    let later = due(&mut f, at(200));
    assert!(later.iter().all(|(_, url)| !url.contains("//one")), "{later:?}");
}

#[test]
fn nothing_is_followed_unless_it_is_switched_on() {
    let config = ConsulConfig::at("http://one:8500");
    assert!(Rules::of(&config, "discovery.consul", |_| None).unwrap().is_none());
    // Over TLS there are files.
    let config = ConsulConfig::at("https://one:8501");
    assert!(Rules::of(&config, "discovery.consul", |_| None).unwrap().is_some());
    let mut config = ConsulConfig::at("http://one:8500");
    config.connect.enabled = true;
    let error = Rules::of(&config, "discovery.consul", |_| None).unwrap_err();
    assert_eq!(error.field, "discovery.consul.connect.service");
}

#[test]
fn hostile_answers_change_nothing_and_a_key_is_never_told() {
    let mut f = followed();
    let jobs = due(&mut f, at(1));
    let secret = br#"{"CertPEM":"x","PrivateKeyPEM":"SECRET","ServiceURI":"spiffe://","ValidAfter":"","ValidBefore":""}"#;
    for ((id, _), body) in jobs.iter().zip([&b"{"[..], secret, b"{}", b"[{]", b"\xff"]) {
        assert_eq!(f.done(at(1), WALL, *id, answered(200, "0", body)), News::default());
    }
    assert!(f.in_force().is_none());
    let text = format!("{f:?} {:?}", f.notices());
    assert!(!text.contains("SECRET"), "{text}");
}
