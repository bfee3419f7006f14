//! Files in virtual time, against a small file system and a small Consul.

use std::collections::BTreeMap;

use super::*;
use crate::config::ConsulConfig;
use crate::config::consul::TemplateConfig;

const TEXT: &str = "{{ range service \"web\" }}server {{ .Address }}:{{ .Port }};\n{{ end }}{{ keyOrDefault \"a/b\" \"none\" }}";

struct Lab {
    renderer: Renderer,
    settings: Settings,
    consul: Consul,
    files: BTreeMap<String, Bytes>,
    /// Ports of `web`; `None`: the agent is down.
    ports: Option<Vec<u16>>,
    keys: BTreeMap<&'static str, &'static str>,
    writes: usize,
    asked: Vec<String>,
    events: Vec<Event>,
    held: bool,
    now: Time,
}

fn template(n: usize) -> TemplateConfig {
    let (source, destination) = (format!("in{n}"), format!("out{n}"));
    TemplateConfig { source, destination, ..TemplateConfig::default() }
}

impl Lab {
    fn new(count: usize) -> Lab {
        let mut config = ConsulConfig::at("http://one:8500");
        config.urls.push("http://two:8500".into());
        config.templates = (0..count).map(template).collect();
        let consul = Consul::of(&config, "c").unwrap();
        let settings = Settings::of(&config);
        Lab {
            renderer: Renderer::new(&settings, 1 << 62),
            settings,
            consul,
            files: (0..count).map(|n| (format!("in{n}"), TEXT.into())).collect(),
            ports: Some(vec![80]),
            keys: BTreeMap::new(),
            writes: 0,
            asked: vec![],
            events: vec![],
            held: false,
            now: Time::ZERO,
        }
    }

    fn poll(&mut self) -> Poll {
        let tokens = Tokens::default();
        self.renderer.poll(self.now, self.held, &self.settings, &self.consul, &tokens)
    }

    fn answer(&mut self, work: &Work) -> JobOutcome {
        match work {
            Work::Read { path, most } => match self.files.get(&**path) {
                Some(bytes) if bytes.len() > *most => JobOutcome::Failed(Fault::BodyTooLarge),
                there => JobOutcome::Content(there.cloned()),
            },
            Work::Write { path, content } => {
                self.writes += 1;
                self.files.insert(path.to_string(), content.clone());
                JobOutcome::Written
            }
            Work::Http { request, .. } => {
                let uri = request.uri();
                self.asked.push(uri.to_string());
                let Some(ports) = &self.ports else { return JobOutcome::Failed(Fault::Connect) };
                let one = |port: &u16| {
                    format!(
                        r#"{{"Node":{{"Address":"10.0.0.1"}},"Service":{{"ID":"w{port}","Port":{port}}}}}"#
                    )
                };
                let (status, body) = match uri.path() {
                    "/v1/health/service/web" => {
                        (200, format!("[{}]", ports.iter().map(one).collect::<Vec<_>>().join(",")))
                    }
                    "/v1/catalog/services" => (200, r#"{"web":["b","a"]}"#.into()),
                    path => match self.keys.get(path.strip_prefix("/v1/kv/").unwrap()) {
                        Some(value) => {
                            (200, format!(r#"[{{"Key":"k","Value":"{value}","ModifyIndex":1}}]"#))
                        }
                        None => (404, String::new()),
                    },
                };
                let headers = http::HeaderMap::new();
                JobOutcome::Answered { status, headers, body: body.into() }
            }
            _ => panic!(),
        }
    }

    fn done(&mut self, id: JobId, outcome: JobOutcome) {
        let event = self.renderer.done(self.now, id, outcome, &self.settings, &self.consul);
        self.events.extend(event);
    }

    fn until(&mut self, seconds: u64) -> &mut Self {
        let end = Time::from_millis(seconds * 1_000);
        loop {
            match self.poll() {
                Poll::Run(job) => {
                    let outcome = self.answer(&job.work);
                    self.done(job.id, outcome);
                }
                Poll::Wait(next) if next > end => {
                    self.now = end;
                    return self;
                }
                Poll::Wait(next) => self.now = next,
            }
        }
    }

    fn out(&self) -> &str {
        std::str::from_utf8(&self.files["out0"]).unwrap()
    }
}

#[test]
fn case_003_17_rendered_every_minute_and_written_only_on_change() {
    let mut lab = Lab::new(1);
    lab.until(0);
    assert_eq!((lab.out(), lab.writes), ("server 10.0.0.1:80;\nnone", 1));
    assert_eq!(lab.asked.len(), 2);
    assert!(matches!(lab.events[..], [Event::Written { bytes: 24, .. }]));
    lab.until(59);
    assert_eq!(lab.asked.len(), 2, "not before the period");
    lab.until(130);
    assert_eq!((lab.asked.len(), lab.writes), (6, 1), "asked, and not written");
    lab.ports = Some(vec![81, 80]);
    lab.keys.insert("a/b", "djE=");
    lab.until(180);
    assert_eq!((lab.out(), lab.writes), ("server 10.0.0.1:80;\nserver 10.0.0.1:81;\nv1", 2));
    // The order of the server is none.
    lab.ports = Some(vec![80, 81]);
    lab.until(300);
    assert_eq!(lab.writes, 2);
    // Edits: of the file, undone; of the template, heeded.
    lab.files.insert("out0".into(), "mine".into());
    lab.until(360);
    assert_eq!((lab.out().len(), lab.writes), (42, 3));
    lab.files.insert(
        "in0".into(),
        "{{ range services }}{{ range .Tags }}{{ . }}{{ end }}{{ end }}".into(),
    );
    lab.until(420);
    assert_eq!(lab.out(), "ab");
    assert_eq!(lab.events.len(), 4);
}

#[test]
fn case_003_17_a_consul_that_fails_leaves_the_old_file() {
    let mut lab = Lab::new(1);
    lab.until(0);
    lab.ports = None;
    lab.asked.clear();
    lab.until(400);
    assert_eq!((lab.out(), lab.writes), ("server 10.0.0.1:80;\nnone", 1));
    let [_, Event::Failed { why: Failure::Consul(_), retry_in, .. }] = &lab.events[..] else {
        panic!("{:?}", lab.events)
    };
    assert_eq!(*retry_in, Duration::from_secs(5));
    // After 5, 20, 45 s and then every period; each time another agent.
    assert_eq!(lab.asked.len(), 8, "{:?}", lab.asked);
    assert!(lab.asked[0].contains("one") && lab.asked[1].contains("two"));
    lab.ports = Some(vec![80]);
    lab.until(500);
    assert_eq!(lab.writes, 1);
    assert!(matches!(lab.events[2..], [Event::Recovered { .. }]));
}

#[test]
fn case_003_17_what_cannot_be_rendered_is_said_and_nothing_is_written() {
    let bad = BadTemplate { line: 1, problem: super::super::Problem::Unknown("nonsense".into()) };
    let failures: [(&[u8], Failure); 5] = [
        (b"{{ nonsense }}", Failure::Template(bad)),
        (b"{{ key \"no/key\" }}", Failure::NoKey("no/key".into())),
        (b"{{ key \"bin\" }}", Failure::KeyNotText("bin".into())),
        (b"\xff", Failure::NotText),
        (b"", Failure::NoTemplate),
    ];
    for (text, expected) in failures {
        let mut lab = Lab::new(1);
        lab.keys.insert("bin", "/w==");
        lab.files.insert("out0".into(), "old".into());
        lab.files.insert("in0".into(), Bytes::from_static(text));
        if text.is_empty() {
            lab.files.remove("in0");
        }
        lab.until(200);
        assert_eq!((lab.out(), lab.writes), ("old", 0));
        let [Event::Failed { why, .. }] = &lab.events[..] else { panic!("{:?}", lab.events) };
        assert_eq!(*why, expected);
        assert!(!lab.events[0].to_string().is_empty());
    }
    // A file that is none of ours by its size is left alone.
    let mut lab = Lab::new(1);
    lab.files.insert("out0".into(), vec![b'x'; LARGEST_OUTPUT + 1].into());
    lab.until(100);
    assert_eq!(lab.writes, 0);
}

/// Bounded: four at once; what is lost is begun anew; what is dropped is done again.
#[test]
fn files_are_rendered_four_at_a_time_and_leases_end() {
    let mut lab = Lab::new(6);
    let mut jobs = vec![];
    while let Poll::Run(job) = lab.poll() {
        jobs.push(job);
    }
    assert_eq!(jobs.len(), 4);
    let first = jobs.remove(0);
    lab.done(first.id, JobOutcome::Dropped);
    let Poll::Run(again) = lab.poll() else { panic!() };
    let path = |job: &Job| match &job.work {
        Work::Read { path, .. } => path.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(path(&again), path(&first));
    lab.done(first.id, JobOutcome::Content(None));
    assert_eq!(lab.events, [], "an old number");
    let Poll::Wait(ends) = lab.poll() else { panic!() };
    lab.now = ends;
    lab.until(100);
    assert_eq!(lab.files.len(), 12);
    lab.now = Time::NEVER;
    assert!(matches!(lab.poll(), Poll::Run(_)));
}

#[test]
fn case_003_57_nothing_is_rendered_while_the_cluster_is_not_whole() {
    let mut lab = Lab::new(1);
    lab.held = true;
    lab.until(100);
    assert!(lab.asked.is_empty());
    lab.held = false;
    let Poll::Run(job) = lab.poll() else { panic!() };
    lab.done(job.id, JobOutcome::Content(Some(TEXT.into())));
    let Poll::Run(job) = lab.poll() else { panic!() };
    lab.held = true;
    assert!(matches!(lab.poll(), Poll::Wait(Time::NEVER)));
    let outcome = lab.answer(&job.work);
    lab.done(job.id, outcome);
    lab.held = false;
    lab.asked.clear();
    lab.until(110);
    assert_eq!((lab.asked.len(), lab.writes), (2, 1), "from the beginning");
}

/// What is gathered may be secret.
#[test]
fn nothing_of_the_content_is_shown() {
    let mut lab = Lab::new(1);
    lab.files.insert("in0".into(), "{{ key \"a/b\" }}planted-secret".into());
    lab.keys.insert("a/b", "cGxhbnRlZC1zZWNyZXQ=");
    while let Poll::Run(job) = lab.poll() {
        let outcome = lab.answer(&job.work);
        lab.done(job.id, outcome);
        let shown = format!("{:?} {:?}", lab.renderer, lab.events);
        assert!(!shown.contains("planted"), "{shown}");
    }
    assert_eq!(lab.out(), "planted-secretplanted-secret");
}
