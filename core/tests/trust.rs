//! The checks of consistency as a client has them: the registry desk and the directory side by
//! side, as a driver holds them, against a small Consul in virtual time.
#![allow(clippy::unwrap_used, clippy::panic)] // test code

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;
use origin_core::config::{
    Config, ConsistencyConfig, ConsulConfig, DiscoveryConfig, RedisConfig, ServiceConfig,
};
use origin_core::consul::registry::{Registry, Rules};
use origin_core::discovery::directory::Resolution;
use origin_core::discovery::{Directory, Surroundings};
use origin_core::job::{Asker, Job, JobOutcome, Poll, Work};
use origin_core::notice::Event;
use origin_core::redis::Reply;
use origin_core::{Time, Wall};

fn at(seconds: u64) -> Time {
    Time::from_millis(seconds * 1_000)
}

/// What Consul knows.
struct World {
    /// Statuses of the members; `None`: the agent answers 500.
    members: Option<Vec<u8>>,
    /// Ports of the instances by service.
    services: BTreeMap<&'static str, Vec<u16>>,
    /// Modify indexes of the keys `services/{name}/index`.
    indexes: BTreeMap<&'static str, u64>,
    keys_fail: bool,
}

/// A client and its Consul.
struct Lab {
    desk: Registry,
    directory: Directory,
    world: World,
    /// Blocking queries that are out.
    watches: Vec<Job>,
    /// Paths and Redis commands that were asked.
    asked: Vec<String>,
    now: Time,
}

impl Lab {
    fn new(change: impl FnOnce(&mut Config)) -> Lab {
        let verify = ConsistencyConfig {
            interval: Duration::from_secs(10),
            index_interval: Duration::from_secs(10),
            jitter: 0.0,
            ..ConsistencyConfig::default()
        };
        let consul = ConsulConfig { verify, ..ConsulConfig::at("http://agent:8500") };
        let discovery = DiscoveryConfig {
            consul: Some(consul),
            ttl: Duration::from_secs(30),
            max_stale: Duration::from_secs(300),
            ..DiscoveryConfig::default()
        };
        let mut config = Config { discovery: Some(discovery), ..Config::default() };
        change(&mut config);
        let around = Surroundings::default();
        let mut directory = Directory::new(&config, 5, &around).unwrap().unwrap();
        directory.calendar(Time::ZERO, Wall(1_700_000_000));
        let consul = config.discovery.unwrap().consul.unwrap();
        let rules = Rules::of(&consul, "discovery.consul", |_| None).unwrap();
        let world = World {
            members: Some(vec![1, 1, 1]),
            services: [("web", vec![80, 81, 82])].into(),
            indexes: BTreeMap::new(),
            keys_fail: false,
        };
        let (watches, asked) = (Vec::new(), Vec::new());
        Lab { desk: Registry::new(rules, 5), directory, world, watches, asked, now: Time::ZERO }
    }

    fn split(change: impl FnOnce(&mut Config)) -> Lab {
        Lab::new(|config| {
            consul(config).verify.split_brain = true;
            change(config);
        })
    }

    fn indexed(change: impl FnOnce(&mut Config)) -> Lab {
        Lab::new(|config| {
            consul(config).verify.index = true;
            change(config);
        })
    }

    fn health(&self, service: &str) -> JobOutcome {
        let ports = self.world.services.get(service).cloned().unwrap_or_default();
        let one = |port: &u16| {
            format!(
                r#"{{"Node":{{"Node":"n1","Address":"10.0.0.1","Datacenter":"dc1"}},"Service":{{"ID":"{port}","Port":{port}}}}}"#
            )
        };
        ok(&format!("[{}]", ports.iter().map(one).collect::<Vec<_>>().join(",")))
    }

    fn answer(&mut self, work: &Work) -> JobOutcome {
        let request = match work {
            Work::Redis(commands) => {
                self.asked.push(format!("redis {:?}", commands[0]));
                let miss = commands.iter().map(|_| Reply::Text(bytes::Bytes::new()));
                return JobOutcome::Replies(miss.collect());
            }
            Work::Http { request, .. } => request,
            other => panic!("{other:?}"),
        };
        let path = request.uri().path().to_owned();
        self.asked.push(request.uri().path_and_query().unwrap().to_string());
        if let Some(service) = path.strip_prefix("/v1/health/service/") {
            return self.health(service);
        }
        if path == "/v1/agent/members" {
            let one = |status| format!(r#"{{"Name":"n","Status":{status}}}"#);
            return match &self.world.members {
                Some(all) => {
                    ok(&format!("[{}]", all.iter().map(one).collect::<Vec<_>>().join(",")))
                }
                None => failed(),
            };
        }
        let service = path.strip_prefix("/v1/kv/services/").unwrap().strip_suffix("/index");
        match self.world.indexes.get(service.unwrap()) {
            _ if self.world.keys_fail => failed(),
            Some(n) => ok(&format!(r#"[{{"Key":"k","Value":"MQ==","ModifyIndex":{n}}}]"#)),
            None => {
                JobOutcome::Answered { status: 404, headers: HeaderMap::new(), body: "".into() }
            }
        }
    }

    fn done(&mut self, job: &Job, outcome: JobOutcome) {
        if Registry::owns(job.id) {
            if let Some(told) = self.desk.done(self.now, job.id, &outcome) {
                let _ = self.directory.heed(self.now, &told);
            }
        } else {
            let _ = self.directory.job_done(self.now, job.id, outcome);
        }
    }

    /// Everything that is due until then, second by second, by a background.
    fn until(&mut self, seconds: u64) -> &mut Self {
        loop {
            for _ in 0..100 {
                let usage = self.directory.take_usage();
                self.desk.usage(self.now, &usage);
                let job = match self.desk.poll(self.now) {
                    Poll::Run(job) => job,
                    Poll::Wait(_) => match self.directory.poll_job(self.now, Asker::Background) {
                        Poll::Run(job) => job,
                        Poll::Wait(_) => break,
                    },
                };
                if job.http().is_some_and(|r| r.uri().query().unwrap_or("").contains("index=")) {
                    self.watches.push(*job);
                    continue;
                }
                let outcome = self.answer(&job.work);
                self.done(&job, outcome);
            }
            if self.now >= at(seconds) {
                return self;
            }
            self.now = self.now.plus(Duration::from_secs(1));
        }
    }

    /// All blocking queries come back with what there is.
    fn return_watches(&mut self) {
        for job in std::mem::take(&mut self.watches) {
            let outcome = self.answer(&job.work);
            self.done(&job, outcome);
        }
    }

    fn ports(&mut self, service: &str) -> Vec<u16> {
        match self.directory.resolve(self.now, service) {
            Resolution::Found(list) => {
                list.iter().map(|one| one.address.host_and_port().unwrap().1).collect()
            }
            Resolution::Pending => vec![],
            other => panic!("{other:?}"),
        }
    }

    /// What was asked since this was last asked, of what begins so.
    fn asked(&mut self, prefix: &str) -> usize {
        let count = self.asked.iter().filter(|path| path.starts_with(prefix)).count();
        self.asked.retain(|path| !path.starts_with(prefix));
        count
    }

    fn events(&self) -> Vec<Event> {
        let all = self.directory.notices().since(0).map(|notice| notice.event.clone());
        all.filter(|e| !matches!(e, Event::MassRemoval { .. })).collect()
    }

    fn held_back(&self) -> bool {
        self.directory.snapshot(self.now).iter().any(|feed| feed.held_back)
    }
}

const WEB: &str = "/v1/health/service/web";

fn consul(config: &mut Config) -> &mut ConsulConfig {
    config.discovery.as_mut().unwrap().consul.as_mut().unwrap()
}

fn ok(body: &str) -> JobOutcome {
    let mut headers = HeaderMap::new();
    headers.insert("x-consul-index", http::HeaderValue::from(7_u64));
    JobOutcome::Answered { status: 200, headers, body: body.to_owned().into() }
}

fn failed() -> JobOutcome {
    JobOutcome::Answered { status: 500, headers: HeaderMap::new(), body: "no".into() }
}

/// While too few members are alive nothing that is known is refreshed, visibly; once they are
/// there again it is, at once.
#[test]
fn case_003_55_57_a_cluster_that_is_not_whole_refreshes_nothing() {
    let mut lab = Lab::split(|_| ());
    assert!(lab.ports("web").is_empty());
    lab.until(5);
    assert_eq!((lab.ports("web"), lab.held_back()), (vec![80, 81, 82], false));
    assert_eq!(lab.events(), [], "whole from the first count");
    // Two of three, of whom one sees one instance only.
    lab.world.members = Some(vec![1, 1, 4]);
    lab.world.services.insert("web", vec![80]);
    lab.until(12);
    assert!(lab.held_back());
    let said = |alive| Event::ClusterHealthCheckFailed { alive, minimum: 3, error: None };
    assert_eq!(lab.events(), [said(2)]);
    assert!(lab.events()[0].to_string().contains("2 members are alive, 3 are needed"));
    lab.asked.clear();
    assert_eq!(lab.watches.len(), 1);
    lab.return_watches();
    assert_eq!(lab.ports("web"), [80, 81, 82], "what was on its way is set aside");
    assert_eq!(lab.asked(WEB), 1);
    lab.until(60);
    assert_eq!((lab.asked(WEB), lab.ports("web")), (0, vec![80, 81, 82]));
    // Nor by calls, which are not told to ask.
    let call = Asker::Call { service: "web", until: at(100) };
    assert!(matches!(lab.directory.poll_job(at(60), call), Poll::Wait(_)));
    assert!(lab.directory.call_due(at(60), "web") > at(60));
    assert_eq!(lab.events(), [said(2)], "said once");
    lab.world.members = Some(vec![1, 3, 4]);
    lab.until(70);
    assert_eq!(lab.events(), [said(2), said(1)]);
    // Whole again: asked at once, and now it is believed.
    lab.world.members = Some(vec![1, 1, 1]);
    lab.world.services.insert("web", vec![80, 81, 83]);
    lab.until(82);
    assert_eq!((lab.ports("web"), lab.held_back()), (vec![80, 81, 83], false));
    assert!(lab.asked(WEB) >= 1);
    let last = lab.events().pop().unwrap();
    let Event::ClusterHealthy { alive: 3, minimum: 3, failed_for } = last else { panic!() };
    assert_eq!(failed_for, Duration::from_secs(70));
}

#[test]
fn case_003_56_an_agent_that_cannot_say_is_not_whole_either() {
    let mut lab = Lab::split(|_| ());
    let _ = lab.ports("web");
    lab.until(5);
    lab.world.members = None;
    lab.world.services.insert("web", vec![80]);
    lab.until(12).return_watches();
    lab.until(30);
    assert!(lab.held_back());
    assert_eq!(lab.ports("web"), [80, 81, 82]);
    let [event @ Event::ClusterHealthCheckFailed { alive: 0, error: Some(_), .. }] =
        &lab.events()[..]
    else {
        panic!("{:?}", lab.events())
    };
    assert!(event.to_string().contains("500"), "{event}");
}

/// What is not known at all is asked: half a list is better than none. It is not for others.
#[test]
fn case_003_57_where_nothing_is_known_consul_is_asked_all_the_same() {
    let mut lab = Lab::split(|config| {
        config.redis = Some(RedisConfig::at("redis://r:6379"));
    });
    lab.world.members = Some(vec![1, 1]);
    lab.until(1);
    lab.world.services.insert("other", vec![90]);
    let _ = (lab.ports("web"), lab.ports("other"), lab.ports("none"));
    lab.until(5);
    assert_eq!((lab.ports("web"), lab.ports("other")), (vec![80, 81, 82], vec![90]));
    assert!(!lab.asked.iter().any(|asked| asked.contains("SET")), "{:?}", lab.asked);
    // An empty answer is no knowledge.
    lab.world.services.insert("none", vec![91]);
    lab.until(20).return_watches();
    lab.until(40);
    assert_eq!(lab.ports("none"), [91]);
    lab.asked.clear();
    lab.until(60);
    assert_eq!(lab.asked("/v1/health/"), 0, "now all of them are known");
}

/// The bound on staleness is that of any source that cannot be asked.
#[test]
fn case_003_57_what_is_too_old_is_asked_about_though_the_cluster_is_not_whole() {
    let mut lab = Lab::split(|config| {
        config.discovery.as_mut().unwrap().max_stale = Duration::from_secs(60);
    });
    let _ = lab.ports("web");
    lab.until(5);
    lab.world.members = Some(vec![1]);
    lab.until(12).return_watches();
    lab.world.services.insert("web", vec![80]);
    lab.until(85);
    assert_eq!(lab.ports("web"), [80, 81, 82]);
    // 30 s fresh and 60 s beyond.
    lab.until(95);
    assert!(lab.ports("web").starts_with(&[80]));
    assert_eq!(lab.asked(WEB), 4, "the first, the watch, what was out, this one");
}

/// A client whose members nobody counts any more is not held back for ever by the last count.
#[test]
fn case_003_57_a_verdict_lapses() {
    let mut lab = Lab::split(|config| {
        consul(config).verify.interval = Duration::from_secs(60);
    });
    assert!(lab.ports("web").is_empty());
    let call = Asker::Call { service: "web", until: at(1_000) };
    let Poll::Run(job) = lab.directory.poll_job(at(0), call) else { panic!() };
    let outcome = lab.answer(&job.work);
    lab.done(&job, outcome);
    lab.world.members = Some(vec![1]);
    let Poll::Run(job) = lab.desk.poll(at(0)) else { panic!() };
    let outcome = lab.answer(&job.work);
    lab.done(&job, outcome);
    assert!(lab.held_back());
    // From now on only calls look after it. Two intervals and two time-outs after the count.
    assert_eq!(lab.directory.call_due(at(1), "web"), at(130));
    let Poll::Wait(until) = lab.directory.poll_job(at(129), call) else { panic!() };
    assert_eq!(until, at(130));
    let Poll::Run(job) = lab.directory.poll_job(at(130), call) else { panic!() };
    assert!(job.http().unwrap().uri().path().ends_with("/web"));
}

/// The five rules of the comparison, each by what is asked again and what is there meanwhile.
#[test]
fn case_003_58_59_60_61_62_an_index_that_moves_drops_what_is_known() {
    let mut lab = Lab::indexed(|_| ());
    lab.world.indexes.insert("web", 7);
    let _ = lab.ports("web");
    lab.until(5);
    // 003-61: nothing was remembered, what was known is dropped and asked anew.
    assert_eq!(lab.asked("/v1/kv/services/web/index"), 1);
    assert!(lab.asked(WEB) >= 1);
    assert_eq!(lab.ports("web"), [80, 81, 82]);
    // 003-59: equal, kept.
    lab.until(25);
    assert_eq!(lab.asked("/v1/kv/services/web/index"), 2);
    assert_eq!(lab.asked(WEB), 0);
    // 003-60: an error keeps it.
    lab.world.keys_fail = true;
    lab.until(35);
    assert_eq!((lab.asked("/v1/kv/"), lab.asked(WEB)), (1, 0));
    lab.world.keys_fail = false;
    // 003-58: another one; what was known is gone until the source has answered.
    lab.world.indexes.insert("web", 9);
    lab.world.services.insert("web", vec![85]);
    lab.until(45);
    assert_eq!(lab.ports("web"), [85], "at once, no watch has returned");
    assert!(lab.asked(WEB) >= 1);
    assert_eq!(lab.events().iter().filter(|e| matches!(e, Event::CacheDropped { .. })).count(), 1);
    // Remembered: dropped once only.
    lab.until(65);
    assert_eq!(lab.asked(WEB), 0);
    // 003-62: no key is a value like another.
    lab.world.indexes.clear();
    lab.until(75);
    assert!(lab.asked(WEB) >= 1);
    lab.until(95);
    assert_eq!(lab.asked(WEB), 0);
}

/// All datacenters, here and in the shared level; not by the name of the client's own.
#[test]
fn case_003_63_all_variants_are_dropped_on_both_levels() {
    let mut lab = Lab::indexed(|config| {
        consul(config).fallback_datacenters = vec!["dc2".to_owned()];
        config.redis = Some(RedisConfig::at("redis://r:6379"));
        let mut service = ServiceConfig::default();
        service.lookup.name = Some("web".to_owned());
        service.lookup.tag = Some("v1".to_owned());
        config.services.insert("shop".to_owned(), service);
    });
    lab.world.indexes.insert("web", 7);
    let _ = (lab.ports("web"), lab.ports("shop"));
    lab.until(15);
    lab.asked.clear();
    lab.world.indexes.insert("web", 8);
    lab.world.services.insert("web", vec![85]);
    lab.until(25);
    let again = |lab: &mut Lab, query: &str| {
        let seen = lab.asked.iter().any(|path| path.starts_with(WEB) && path.contains(query));
        assert!(seen, "{query}: {:?}", lab.asked);
    };
    for query in ["dc=dc2", "tag=v1", "passing"] {
        again(&mut lab, query);
    }
    assert_eq!((lab.ports("web"), lab.ports("shop")), (vec![85], vec![85]));
    let dropped: Vec<&String> = lab
        .asked
        .iter()
        .filter(|asked| asked.starts_with("redis") && asked.contains("DEL"))
        .collect();
    assert!(!dropped.is_empty(), "{:?}", lab.asked);
    assert!(dropped.iter().all(|one| one.contains("service:discovery:web")), "{dropped:?}");
    assert_eq!(lab.asked("/v1/kv/services/shop"), 0);
}

/// While the cluster is not whole its index is not believed either; afterwards it is heeded.
#[test]
fn case_003_57_58_an_index_that_moves_meanwhile_waits() {
    let mut lab = Lab::indexed(|config| consul(config).verify.split_brain = true);
    // So many that their loss would be doubted, were it not for the index.
    let many: Vec<u16> = (80..100).collect();
    lab.world.services.insert("web", many.clone());
    lab.world.indexes.insert("web", 7);
    let _ = lab.ports("web");
    lab.until(5);
    lab.world.members = Some(vec![1, 1]);
    lab.until(15).return_watches();
    lab.world.indexes.insert("web", 8);
    lab.world.services.insert("web", vec![80]);
    lab.asked.clear();
    lab.until(35);
    assert_eq!((lab.asked(WEB), lab.ports("web")), (0, many));
    lab.world.members = Some(vec![1, 1, 1]);
    lab.until(46);
    assert_eq!(lab.ports("web"), [80], "dropped, not held in reserve");
}
