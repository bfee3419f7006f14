//! The registry against the table of contracts §4.3 and against a small model of who wins.

use proptest::prelude::*;

use super::*;

fn settings(change: impl FnOnce(&mut EnvironmentConfig)) -> Settings {
    let mut config = EnvironmentConfig { enabled: true, ..EnvironmentConfig::default() };
    change(&mut config);
    Settings::of(&config, "e").unwrap()
}

fn read(variables: &[(&str, &str)]) -> Result<Environment, ConfigError> {
    Environment::read(&settings(|_| ()), variables.iter().copied())
}

fn scan(variables: &[(&str, &str)]) -> Environment {
    Environment::read(&settings(|c| c.scan = true), variables.iter().copied()).unwrap()
}

fn base(variables: &[(&str, &str)]) -> String {
    read(variables).unwrap().base_url("user-service").unwrap().to_owned()
}

fn refused(variables: &[(&str, &str)]) -> (String, String) {
    let error = read(variables).unwrap_err();
    (error.field, error.reason)
}

/// The six services and their ports as DesignSynapse's registry has them (contracts §4.3).
#[test]
fn case_002_22_25_28_all_six_with_their_defaults() {
    let all = read(&[]).unwrap();
    let got: Vec<(&str, &str)> = all.list().map(|s| (&*s.name, s.base.as_str())).collect();
    assert_eq!(
        got,
        [
            ("analytics-service", "http://localhost:8004/api/v1"),
            ("design-service", "http://localhost:8000/api/v1"),
            ("knowledge-service", "http://localhost:8002/api/v1"),
            ("marketplace-service", "http://localhost:8005/api/v1"),
            ("project-service", "http://localhost:8003/api/v1"),
            ("user-service", "http://localhost:8001/api/v1"),
        ]
    );
    assert!(all.list().all(|s| s.origin == Origin::Default));
}

#[test]
fn case_002_23_24_variables_work_for_all_six() {
    for (name, prefix, port) in SERVICES {
        let (h, p, s) =
            (format!("{prefix}HOST"), format!("{prefix}PORT"), format!("{prefix}PROTOCOL"));
        let cases: [(&[(&str, &str)], String); 5] = [
            (&[(&h, "far")], format!("http://far:{port}/api/v1")),
            (&[(&p, "9")], "http://localhost:9/api/v1".to_owned()),
            (&[(&s, "https")], format!("https://localhost:{port}/api/v1")),
            (&[(&h, " far\n"), (&p, "9"), (&s, "HTTPS")], "https://far:9/api/v1".to_owned()),
            (&[(&h, ""), (&p, "  "), (&s, "")], format!("http://localhost:{port}/api/v1")),
        ];
        for (variables, want) in cases {
            let all = read(variables).unwrap();
            assert_eq!(all.base_url(name).unwrap(), want);
            assert_eq!(all.list().filter(|s| s.origin == Origin::Variables).count(), {
                usize::from(variables[0].1.trim() != "")
            });
        }
    }
}

#[test]
fn case_002_26_27_health_and_readiness_stand_beside_the_api() {
    let all = read(&[("USER_SERVICE_URL", "https://users.example/v2/api/")]).unwrap();
    let users = all.get("user-service").unwrap();
    assert_eq!(users.base.as_str(), "https://users.example/v2/api/");
    assert_eq!(users.health_url(), "https://users.example/health");
    assert_eq!(users.ready_url(), "https://users.example/ready");
    let design = all.get("design-service").unwrap();
    assert_eq!(design.health_url(), "http://localhost:8000/health");
    assert_eq!(design.ready_url(), "http://localhost:8000/ready");
    // What a source hands on says the same.
    let instance = all.instance("design-service").unwrap();
    let path = instance.health.as_deref().unwrap();
    let uri = HealthPath::of(path).at(&instance.address).unwrap();
    assert_eq!(uri.to_string(), "http://localhost:8000/health");
    assert_eq!((&*instance.cluster, instance.weight), ("environment", 1));
    assert!(all.instance("nobody").is_none());
}

#[test]
fn every_written_form_of_an_address() {
    for (variables, want) in [
        (&[("USER_SERVICE_HOST", "::1")][..], "http://[::1]:8001/api/v1"),
        (&[("USER_SERVICE_HOST", "[FE80::A]")], "http://[fe80::a]:8001/api/v1"),
        (&[("USER_SERVICE_HOST", "10.0.0.1")], "http://10.0.0.1:8001/api/v1"),
        (&[("USER_SERVICE_URL", "http://u")], "http://u/api/v1"),
        (&[("USER_SERVICE_URL", "https://u:1/")], "https://u:1/api/v1"),
        // The Docker link form that Kubernetes sets for a Service called `user-service`.
        (&[("USER_SERVICE_PORT", "tcp://10.0.0.11:81")], "http://10.0.0.11:81/api/v1"),
        (&[("USER_SERVICE_PORT", "tcp://[::2]:81")], "http://[::2]:81/api/v1"),
        (
            &[("USER_SERVICE_HOST", "far"), ("USER_SERVICE_PORT", "tcp://10.0.0.11:81")],
            "http://far:81/api/v1",
        ),
        // The URL wins, and what it makes superfluous is not looked at.
        (&[("USER_SERVICE_URL", "http://u:5"), ("USER_SERVICE_PORT", "x")], "http://u:5/api/v1"),
        // The first of two, as getenv has it.
        (&[("USER_SERVICE_HOST", "a"), ("USER_SERVICE_HOST", "b")], "http://a:8001/api/v1"),
    ] {
        assert_eq!(base(variables), want, "{variables:?}");
    }
}

#[test]
fn case_002_31_bad_values_name_their_variable_and_are_not_repeated() {
    for (name, prefix, _) in SERVICES {
        for (end, value) in [
            ("PORT", "http"),
            ("PORT", "0"),
            ("PORT", "65536"),
            ("PORT", "-1"),
            ("PORT", "+80"),
            ("PORT", "80 80"),
            ("PORT", "99999999999999999999999"),
            ("PORT", "tcp://h:0"),
            ("PORT", "tcp://secret@h:1"),
            ("PORT", "tcp://:1"),
            ("PORT", "٣"),
            ("PROTOCOL", "ftp"),
            ("PROTOCOL", "http://"),
            ("HOST", "http://secret"),
            ("HOST", "secret:80"),
            ("HOST", "secret@h"),
            ("HOST", "a/b"),
            ("HOST", "a b"),
            ("HOST", "-a"),
            ("HOST", "fe80::1%eth0"),
            ("HOST", "[a]"),
            ("HOST", "bücher"),
            ("URL", "secret"),
            ("URL", "ftp://secret"),
            ("URL", "http://u:secret@h"),
            ("URL", "http://h:0"),
            ("URL", "http://h/?token=secret"),
        ] {
            let (field, reason) = refused(&[(&format!("{prefix}{end}"), value)]);
            assert_eq!(field, format!("{prefix}{end}"), "{name} {value}");
            assert!(!reason.contains("secret") && !reason.is_empty(), "{value}: {reason}");
        }
        let long = "a".repeat(254);
        assert_eq!(refused(&[(&format!("{prefix}HOST"), &long)]).0, format!("{prefix}HOST"));
        let long = format!("http://{}", "a".repeat(100_000));
        assert_eq!(refused(&[(&format!("{prefix}URL"), &long)]).0, format!("{prefix}URL"));
    }
    assert_eq!(refused(&[("USER_SERVICE_PORT", "70000")]).1, "70000 is outside 1–65535");
}

#[test]
fn case_002_29_30_register_get_list() {
    let mut all = read(&[]).unwrap();
    let new = Registration { protocol: Protocol::Https, ..Registration::new("x", "h", 1) };
    assert_eq!(all.register(&new), Ok(None));
    assert_eq!(all.base_url("x").unwrap(), "https://h:1/api/v1");
    let before = all.register(&Registration::new("x", "h", 2)).unwrap().unwrap();
    assert_eq!(before.base.as_str(), "https://h:1/api/v1");
    assert_eq!(all.get("x").unwrap().origin, Origin::Program);
    let _ = all.register(&Registration::new("user-service", "::1", 3)).unwrap().unwrap();
    assert_eq!(all.base_url("user-service").unwrap(), "http://[::1]:3/api/v1");
    assert_eq!(all.list().len(), 7);
    for (name, host, port, field) in [
        ("", "h", 1, "service name"),
        ("a b", "h", 1, "service name"),
        ("a", "", 1, "host"),
        ("a", "h:1", 1, "host"),
        ("a", "h", 0, "port"),
    ] {
        let before = all.clone();
        assert_eq!(all.register(&Registration::new(name, host, port)).unwrap_err().field, field);
        assert_eq!(all, before, "a refused registration changes nothing");
    }
    let unknown = all.base_url("userservice").unwrap_err();
    assert_eq!((unknown.service.as_str(), unknown.known.len()), ("userservice", 7));
    assert_eq!(
        unknown.to_string(),
        "service \"userservice\" is not registered; these are: analytics-service, \
         design-service, knowledge-service, marketplace-service, project-service, user-service, x"
    );
    let count = all.list().len();
    for n in count..MOST_SERVICES {
        all.register(&Registration::new(format!("s{n}"), "h", 1)).unwrap();
    }
    assert!(all.base_url("y").unwrap_err().to_string().ends_with("and 980 more"));
    assert_eq!(all.register(&Registration::new("y", "h", 1)).unwrap_err().field, "service name");
    assert!(all.register(&Registration::new("s9", "h", 1)).unwrap().is_some());
}

/// What Kubernetes sets in every pod of a namespace with the Services `redis-primary` and
/// `user-service` (its documentation of service discovery by environment variables).
#[test]
fn scanning_takes_the_pairs_of_kubernetes() {
    let pod = [
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
        ("KUBERNETES_PORT", "tcp://10.96.0.1:443"),
        ("REDIS_PRIMARY_SERVICE_HOST", "10.0.0.11"),
        ("REDIS_PRIMARY_SERVICE_PORT", "6379"),
        ("REDIS_PRIMARY_PORT", "tcp://10.0.0.11:6379"),
        ("REDIS_PRIMARY_PORT_6379_TCP_ADDR", "10.0.0.11"),
        ("USER_SERVICE_SERVICE_HOST", "10.0.0.12"),
        ("USER_SERVICE_SERVICE_PORT", "80"),
        ("PATH", "/bin"),
    ];
    let all = scan(&pod);
    let found: Vec<(&str, &str)> = all
        .list()
        .filter(|s| s.origin == Origin::Scan)
        .map(|s| (&*s.name, s.base.as_str()))
        .collect();
    let want = [
        ("kubernetes", "https://10.96.0.1:443"),
        ("redis-primary", "http://10.0.0.11:6379"),
        ("user-service", "http://10.0.0.12:80/api/v1"),
    ];
    assert_eq!(found, want);
    assert_eq!(all.list().len(), 8);
    // Only with `scan`, and weaker than a variable of its own.
    assert_eq!(read(&pod).unwrap().list().len(), 6);
    let own = [&pod[..], &[("USER_SERVICE_PORT", "1")]].concat();
    assert_eq!(scan(&own).base_url("user-service").unwrap(), "http://localhost:1/api/v1");
    let link = [&pod[..], &[("USER_SERVICE_PORT", "tcp://10.0.0.12:80")]].concat();
    assert_eq!(scan(&link).base_url("user-service").unwrap(), "http://10.0.0.12:80/api/v1");
}

#[test]
fn scanning_skips_what_it_cannot_use_and_says_so() {
    let all = scan(&[
        ("A_SERVICE_HOST", "h"),
        ("B_SERVICE_PORT", "1"),
        ("C_SERVICE_HOST", "secret@h"),
        ("C_SERVICE_PORT", "1"),
        ("D_SERVICE_HOST", "h"),
        ("D_SERVICE_PORT", "0"),
        ("E_SERVICE_HOST", "h"),
        ("E_SERVICE_PORT", "1"),
        ("E_SERVICE_PROTOCOL", "x"),
        ("É_SERVICE_HOST", "h"),
        ("É_SERVICE_PORT", "1"),
        ("_SERVICE_HOST", "h"),
        ("_SERVICE_PORT", "1"),
        ("F_SERVICE_HOST", "h"),
        ("F_SERVICE_PORT", "2"),
        ("F_SERVICE_PROTOCOL", "https"),
    ]);
    let (skipped, more) = all.skipped();
    let names: Vec<&str> = skipped.iter().map(|s| &*s.variable).collect();
    let want = [
        "C_SERVICE_HOST",
        "D_SERVICE_PORT",
        "E_SERVICE_PROTOCOL",
        "_SERVICE_HOST",
        "É_SERVICE_HOST",
    ];
    assert_eq!((&names[..], more), (&want[..], 0));
    assert!(!format!("{skipped:?}").contains("secret"));
    assert_eq!(all.base_url("f").unwrap(), "https://h:2");
    assert_eq!(all.list().len(), 7);
}

#[test]
fn scanning_is_bounded() {
    let many = |n: usize| {
        (0..n).flat_map(|n| {
            [(format!("S{n:05}_SERVICE_HOST"), "h"), (format!("S{n:05}_SERVICE_PORT"), "1")]
        })
    };
    let own = [("USER_SERVICE_HOST".to_owned(), "far")];
    let all = Environment::read(&settings(|c| c.scan = true), many(20_000).chain(own)).unwrap();
    assert_eq!(all.list().len(), MOST_SERVICES);
    assert_eq!(all.base_url("user-service").unwrap(), "http://far:8001/api/v1");
    let (listed, more) = all.skipped();
    assert!(listed.len() == MOST_SKIPPED && more > 0);
    // What is not even looked at is not kept either.
    assert!(more < 4 * 1_000);
}

#[test]
fn off_reads_nothing_and_without_defaults_only_what_is_set() {
    let wrong = [("USER_SERVICE_PORT", "x")];
    assert_eq!(Environment::read(&Settings::default(), wrong).unwrap().list().len(), 0);
    let strict = settings(|c| c.defaults = false);
    let variables = [
        ("USER_SERVICE_PORT", "1"),
        ("DESIGN_SERVICE_HOST", "d"),
        ("PROJECT_SERVICE_URL", "http://p"),
    ];
    let all = Environment::read(&strict, variables).unwrap();
    let names: Vec<&str> = all.list().map(|s| &*s.name).collect();
    assert_eq!(names, ["design-service", "project-service"]);
    assert!(all.base_url("x").unwrap_err().known.len() == 2);
    // A wrong value is an error also then.
    assert!(Environment::read(&strict, wrong).is_err());
}

#[test]
fn x_09_bad_settings_name_the_field() {
    assert_eq!(Settings::of(&EnvironmentConfig::default(), "e"), Ok(Settings::default()));
    let field = |change: fn(&mut EnvironmentConfig)| {
        let mut config = EnvironmentConfig::default();
        change(&mut config);
        Settings::of(&config, "e").unwrap_err().field
    };
    assert_eq!(field(|c| c.prefix = "api".into()), "e.prefix");
    assert_eq!(field(|c| c.prefix = "/a?b".into()), "e.prefix");
    assert_eq!(field(|c| c.prefix = "//a".into()), "e.prefix");
    assert_eq!(field(|c| c.scan_prefix = "/a b".into()), "e.scan_prefix");
    assert_eq!(field(|c| c.scan_prefix = format!("/{}", "a".repeat(2_000))), "e.scan_prefix");
    assert_eq!(field(|c| c.prefix = "/@".into()), "e.prefix");
    assert_eq!(field(|c| c.health = String::new()), "e.health");
    assert_eq!(field(|c| c.ready = "http://x/".into()), "e.ready");
    assert_eq!(field(|c| c.cluster = String::new()), "e.cluster");
    assert_eq!(field(|c| c.cluster = "a\n".into()), "e.cluster");
    // None is a prefix too.
    for prefix in ["", "/"] {
        let bare = settings(|c| prefix.clone_into(&mut c.prefix));
        let all = Environment::read::<&str, &str>(&bare, []).unwrap();
        assert_eq!(all.base_url("user-service").unwrap(), "http://localhost:8001");
    }
}

#[test]
fn lines_are_pairs() {
    let text = b"A=1\nB==2\n\nrubbish\n\xff=1\nC=\0D=x y\r\n";
    let got: Vec<_> = lines(text).collect();
    assert_eq!(got, [("A", "1"), ("B", "=2"), ("C", ""), ("D", "x y\r")]);
}

/// Who wins, in the fewest words: an index into each list of values, where 0 is unset.
fn model(url: usize, host: usize, port: usize, protocol: usize) -> String {
    if url > 0 {
        return ["http://u:5/api/v1", "https://u/own"][url - 1].to_owned();
    }
    let scheme = ["http", "http", "https"][protocol];
    let port_number = [8001, 9, 81][port];
    let host = match (host, port) {
        (0, 2) => "10.0.0.11",
        (host, _) => ["localhost", "far", "[::1]"][host],
    };
    format!("{scheme}://{host}:{port_number}/api/v1")
}

#[test]
fn every_combination_is_what_the_model_says() {
    const URLS: [&str; 3] = ["", "http://u:5", "https://u/own"];
    const HOSTS: [&str; 3] = ["", "far", "::1"];
    const PORTS: [&str; 3] = [" ", "9", "tcp://10.0.0.11:81"];
    const PROTOCOLS: [&str; 3] = ["", "http", "HTTPS"];
    for code in 0..81 {
        let (u, h, p, s) = (code % 3, code / 3 % 3, code / 9 % 3, code / 27);
        let got = base(&[
            ("USER_SERVICE_PROTOCOL", PROTOCOLS[s]),
            ("USER_SERVICE_PORT", PORTS[p]),
            ("USER_SERVICE_HOST", HOSTS[h]),
            ("USER_SERVICE_URL", URLS[u]),
        ]);
        assert_eq!(got, model(u, h, p, s), "url {u} host {h} port {p} protocol {s}");
    }
}

proptest! {
    /// Whatever stands in the environment: no panic; what is registered is callable, and its
    /// health check goes to its own host; an error names a variable that is there.
    #[test]
    fn any_environment_is_survived(
        variables in proptest::collection::vec(
            ("(USER|DESIGN|X|É|)_SERVICE_(HOST|PORT|PROTOCOL|URL|)", "[ -~é]{0,12}|(tcp|http|https)://[a-z\\[\\]:0-9/]{0,9}|[0-9:.]{0,6}"),
            0..12,
        ),
        scan: bool,
    ) {
        let settings = settings(|c| c.scan = scan);
        match Environment::read(&settings, variables.iter().map(|(n, v)| (n, v))) {
            Ok(all) => for service in all.list() {
                let host = service.base.host_and_port();
                prop_assert!(service.base.is_http() && host.is_some());
                let health = Address::parse(&service.health_url()).unwrap();
                prop_assert_eq!(health.host_and_port(), host);
                prop_assert!(health.as_str().ends_with("/health"));
            },
            Err(error) => prop_assert!(variables.iter().any(|(name, _)| *name == error.field)),
        }
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Environment::read(&settings(|c| c.scan = true), lines(&bytes));
    }
}
