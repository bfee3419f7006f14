//! The desk against a little Vault that is written from the public API documentation: logins,
//! files, nodes that are sealed, rotation and revocation, closing; and a secret that is planted
//! everywhere and must show nowhere.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::vault::{AppRoleConfig, CertAuthConfig, KubernetesAuthConfig, TokenFileConfig};
use crate::config::{VaultAuth, VaultConfig};
use crate::outcome::Fault;

const PLANTED: &str = "pl4nted";

fn config(auth: VaultAuth) -> VaultConfig {
    let urls = vec!["https://v1:8200".to_owned(), "https://v2:8200".to_owned()];
    VaultConfig { auth, urls, ..VaultConfig::default() }
}

fn approle() -> VaultAuth {
    VaultAuth::Approle(AppRoleConfig {
        role_id: "r".into(),
        secret_id_file: Some("/run/secret-id".into()),
        ..AppRoleConfig::default()
    })
}

fn desk(auth: VaultAuth) -> Desk {
    Desk::new(Rules::of(&config(auth), "vault", |_| Some(format!("{PLANTED}-env"))).unwrap(), 1)
}

fn answered(status: u16, body: &str) -> JobOutcome {
    JobOutcome::Answered {
        status,
        headers: http::HeaderMap::new(),
        body: Bytes::from(body.to_owned()),
    }
}

fn login(n: u32, lease: u64) -> JobOutcome {
    answered(
        200,
        &format!(
            r#"{{"auth":{{"client_token":"{PLANTED}-{n}","lease_duration":{lease},"renewable":true}}}}"#
        ),
    )
}

fn file(text: &str) -> JobOutcome {
    JobOutcome::Content(Some(Bytes::from(text.to_owned())))
}

/// The next job, whenever that is.
fn job(desk: &mut Desk, now: &mut Time) -> Job {
    for _ in 0..10 {
        match desk.poll(*now) {
            Poll::Run(job) => return *job,
            Poll::Wait(at) => {
                assert!(at > *now && at < Time::NEVER, "{desk:?}");
                *now = at;
            }
        }
    }
    panic!("no job");
}

/// A job in a line, for comparison.
fn line(job: &Job) -> String {
    match &job.work {
        Work::Http { request, .. } => format!("{} {}", request.method(), request.uri()),
        Work::Read { path, .. } => format!("READ {path}"),
        _ => panic!("{job:?}"),
    }
}

#[track_caller]
fn step(desk: &mut Desk, now: &mut Time, expected: &str, outcome: &JobOutcome) -> Job {
    let job = job(desk, now);
    assert_eq!(line(&job), expected);
    assert!(Desk::owns(job.id) && !crate::consul::registry::Registry::owns(job.id));
    assert!(desk.done(*now, job.id, outcome) && !desk.done(*now, job.id, outcome));
    job
}

#[test]
fn case_000_approle_from_a_file_renewed_and_revoked_at_the_end() {
    let (mut d, mut now) = (desk(approle()), Time::ZERO);
    assert_eq!(d.token(now), None);
    step(&mut d, &mut now, "READ /run/secret-id", &file("pl4nted-id\n"));
    let sent =
        step(&mut d, &mut now, "POST https://v1:8200/v1/auth/approle/login", &login(1, 3_600));
    let request = sent.http().unwrap();
    assert_eq!(&request.body()[..], br#"{"role_id":"r","secret_id":"pl4nted-id"}"#);
    assert!(!request.headers().contains_key("x-vault-token"));
    assert_eq!(d.token(now).unwrap().expose(), "pl4nted-1");
    let renewed =
        step(&mut d, &mut now, "POST https://v1:8200/v1/auth/token/renew-self", &login(1, 3_600));
    assert_eq!(renewed.http().unwrap().headers()["x-vault-token"], "pl4nted-1");
    assert!(now >= Time::from_millis(600_000));
    d.close(now);
    let last = job(&mut d, &mut now);
    assert_eq!(line(&last), "POST https://v1:8200/v1/auth/token/revoke-self");
    // A look in between does not forget what is under way.
    assert!(matches!(d.poll(now), Poll::Wait(_)) && !d.is_closed());
    assert!(d.done(now, last.id, &answered(204, "")));
    assert!(d.is_closed() && d.token(now).is_none());
    assert!(matches!(d.poll(now), Poll::Wait(Time::NEVER)));
    let names: Vec<String> = d.notices().since(0).map(|notice| notice.to_string()).collect();
    assert!(names.iter().all(|line| line.starts_with("secrets: vault: ")), "{names:?}");
    assert!(names.len() >= 3, "{names:?}");
}

#[test]
fn case_000_23_a_call_waits_for_what_is_under_way_and_for_nothing_else() {
    let (mut d, mut now) = (desk(VaultAuth::Cert(CertAuthConfig::default())), Time::ZERO);
    assert!(!d.is_waited_for(now) && d.trouble(now).is_none());
    let login_at = |d: &mut Desk, now: &mut Time, outcome: &JobOutcome| {
        let job = job(d, now);
        assert!(d.is_waited_for(*now), "{}", line(&job));
        assert!(d.done(*now, job.id, outcome));
    };
    login_at(&mut d, &mut now, &answered(503, r#"{"errors":["Vault is sealed"]}"#));
    login_at(&mut d, &mut now, &answered(503, r#"{"errors":["Vault is sealed"]}"#));
    // The next try lies in the future.
    assert!(matches!(d.poll(now), Poll::Wait(_)) && !d.is_waited_for(now));
    assert_eq!(d.trouble(now), Some(Trouble::Sealed));
    login_at(&mut d, &mut now, &login(1, 100));
    assert_eq!(d.trouble(now), None);
    // A renewal is waited for only once there is a doubt.
    let renewal = job(&mut d, &mut now);
    assert!(!d.is_waited_for(now));
    d.doubt(now);
    assert!(d.is_waited_for(now));
    assert!(d.done(now, renewal.id, &login(1, 100)));
    let unknown = answered(403, r#"{"errors":["permission denied","invalid token"]}"#);
    login_at(&mut d, &mut now, &unknown);
    login_at(&mut d, &mut now, &login(2, 100));
    assert_eq!(d.token(now).unwrap().expose(), "pl4nted-2");
    // Nobody waits twice within a minute for the word on a token that is only not allowed this.
    d.doubt(now);
    assert!(matches!(d.poll(now), Poll::Wait(_)) && !d.is_waited_for(now));
    let lost =
        VaultConfig { urls: Vec::new(), ..config(VaultAuth::Cert(CertAuthConfig::default())) };
    let lost = Desk::new(Rules::of(&lost, "vault", |_| None).unwrap(), 1);
    assert_eq!(lost.trouble(now), Some(Trouble::NoNode));
}

/// What RustyVault says of a revoked token does not tell it from one that may not do this.
#[test]
fn case_000_23_a_token_that_may_not_look_at_itself_is_in_doubt_until_it_is_replaced() {
    let denied = answered(403, r#"{"error":"Permission denied."}"#);
    let (mut d, mut now) = (desk(approle()), Time::ZERO);
    step(&mut d, &mut now, "READ /run/secret-id", &file("pl4nted-id"));
    step(&mut d, &mut now, "POST https://v1:8200/v1/auth/approle/login", &login(1, 600));
    d.doubt(now);
    for (expected, outcome) in [
        ("GET https://v1:8200/v1/auth/token/lookup-self", &denied),
        ("READ /run/secret-id", &file("pl4nted-id")),
        ("POST https://v1:8200/v1/auth/approle/login", &login(2, 600)),
    ] {
        let job = job(&mut d, &mut now);
        assert_eq!(line(&job), expected);
        assert!(d.is_waited_for(now), "{expected}");
        assert!(d.done(now, job.id, outcome));
    }
    assert_eq!(d.token(now).unwrap().expose(), "pl4nted-2");
    assert!(matches!(d.poll(now), Poll::Wait(_)) && !d.is_waited_for(now));
    // A token that nobody can replace is what it is.
    let (mut d, mut now) = (desk(VaultAuth::TokenEnv("T".into())), Time::ZERO);
    step(&mut d, &mut now, "GET https://v1:8200/v1/auth/token/lookup-self", &denied);
    d.doubt(now);
    step(&mut d, &mut now, "GET https://v1:8200/v1/auth/token/lookup-self", &denied);
    assert!(!d.is_waited_for(now) && matches!(d.poll(now), Poll::Wait(Time::NEVER)));
}

/// A caller that has read the clock before another one brought an answer back looks at the desk
/// after that. What follows from the answer is due for it, too: nobody is out at that moment, so it
/// would take the 403 that it has for the last word.
#[test]
fn case_000_23_who_read_the_clock_too_early_finds_due_what_follows() {
    let denied = answered(403, r#"{"error":"Permission denied."}"#);
    let (mut d, mut now) = (desk(approle()), Time::ZERO);
    step(&mut d, &mut now, "READ /run/secret-id", &file("pl4nted-id"));
    step(&mut d, &mut now, "POST https://v1:8200/v1/auth/approle/login", &login(1, 600));
    let early = now;
    let mut later = now.plus(Duration::from_millis(1));
    d.doubt(later);
    for (expected, outcome) in [
        ("GET https://v1:8200/v1/auth/token/lookup-self", &denied),
        ("READ /run/secret-id", &file("pl4nted-id")),
        ("POST https://v1:8200/v1/auth/approle/login", &login(2, 600)),
    ] {
        let Poll::Run(job) = d.poll(early) else { panic!("{expected}: {d:?}") };
        assert_eq!(line(&job), expected);
        later = later.plus(Duration::from_millis(1));
        assert!(d.done(later, job.id, outcome));
    }
    assert_eq!(d.token(later).unwrap().expose(), "pl4nted-2");
}

#[test]
fn jobs_are_told_from_those_of_others() {
    use crate::consul::followed::Followed;
    let mut d = desk(approle());
    let job = job(&mut d, &mut Time::ZERO.clone());
    assert!(Desk::owns(job.id) && !Followed::owns(job.id));
    assert!(!Desk::owns(JobId(1 << 62)) && !Desk::owns(JobId(1 << 63)) && !Desk::owns(JobId(7)));
}

#[test]
fn a_token_of_the_program_and_one_from_elsewhere_are_refused_together() {
    let token = || Secret::new("pl4nted").unwrap();
    let rules = |auth| Rules::of(&config(auth), "vault", |_| None).unwrap();
    let error = rules(approle()).given(token(), "vault").unwrap_err();
    assert_eq!(error.field, "vault.auth");
    assert!(!error.to_string().contains("pl4nted"));
    let d = Desk::new(rules(VaultAuth::Given).given(token(), "vault").unwrap(), 1);
    assert!(d.token(Time::ZERO).is_some());
}

#[test]
fn every_login_asks_its_own_path() {
    let kubernetes = KubernetesAuthConfig { role: "app".into(), ..KubernetesAuthConfig::default() };
    let (mut d, mut now) = (desk(VaultAuth::Kubernetes(kubernetes)), Time::ZERO);
    step(
        &mut d,
        &mut now,
        "READ /var/run/secrets/kubernetes.io/serviceaccount/token",
        &file("jwt"),
    );
    let sent =
        step(&mut d, &mut now, "POST https://v1:8200/v1/auth/kubernetes/login", &login(1, 60));
    assert_eq!(&sent.http().unwrap().body()[..], br#"{"role":"app","jwt":"jwt"}"#);
    let (mut d, mut now) = (desk(VaultAuth::Cert(CertAuthConfig::default())), Time::ZERO);
    step(&mut d, &mut now, "POST https://v1:8200/v1/auth/cert/login", &login(1, 60));
    let env = AppRoleConfig {
        role_id: "r".into(),
        secret_id_env: Some("S".into()),
        ..AppRoleConfig::default()
    };
    let (mut d, mut now) = (desk(VaultAuth::Approle(env.clone())), Time::ZERO);
    let sent = step(&mut d, &mut now, "POST https://v1:8200/v1/auth/approle/login", &login(1, 60));
    assert_eq!(&sent.http().unwrap().body()[..], br#"{"role_id":"r","secret_id":"pl4nted-env"}"#);
    let unset = Rules::of(&config(VaultAuth::Approle(env)), "vault", |_| None).unwrap_err();
    assert_eq!(unset.field, "vault.auth.approle.secret_id_env");
}

#[test]
fn case_000_03_a_token_of_the_environment_is_used_at_once_and_an_empty_one_is_none() {
    let auth = VaultAuth::TokenEnv("VAULT_CLIENT_TOKEN".into());
    let (mut d, mut now) = (desk(auth.clone()), Time::ZERO);
    assert_eq!(d.token(now).unwrap().expose(), "pl4nted-env");
    let own = answered(200, r#"{"data":{"ttl":100,"renewable":true}}"#);
    step(&mut d, &mut now, "GET https://v1:8200/v1/auth/token/lookup-self", &own);
    step(&mut d, &mut now, "POST https://v1:8200/v1/auth/token/renew-self", &login(9, 100));
    assert!((16_000..=34_000).contains(&now.as_millis()), "{now:?}");
    assert_eq!(d.token(now).unwrap().expose(), "pl4nted-env", "renewing changes no token");
    d.close(now);
    assert!(d.is_closed(), "a token that was given is not revoked");
    let empty = Rules::of(&config(auth), "vault", |_| Some(" ".to_owned())).unwrap();
    let mut d = Desk::new(empty, 1);
    assert!(d.token(now).is_none() && matches!(d.poll(now), Poll::Wait(Time::NEVER)));
    d.give(now, Secret::new("later").unwrap());
    assert!(d.token(now).is_some() && matches!(d.poll(now), Poll::Run(_)));
}

#[test]
fn sealed_standby_and_redirecting_nodes_are_left_for_the_next() {
    let (mut d, mut now) = (desk(VaultAuth::Cert(CertAuthConfig::default())), Time::ZERO);
    step(
        &mut d,
        &mut now,
        "POST https://v1:8200/v1/auth/cert/login",
        &answered(503, r#"{"errors":["Vault is sealed"]}"#),
    );
    let answer = answered(307, "");
    step(&mut d, &mut now, "POST https://v2:8200/v1/auth/cert/login", &answer);
    assert_eq!(now, Time::ZERO);
    step(
        &mut d,
        &mut now,
        "POST https://v1:8200/v1/auth/cert/login",
        &JobOutcome::Failed(Fault::Connect),
    );
    assert!(now >= Time::from_millis(5_000), "only now it has waited");
    step(&mut d, &mut now, "POST https://v2:8200/v1/auth/cert/login", &login(1, 100));
    assert!(d.token(now).is_some());
    // A refusal is no reason for another node.
    d.doubt(now);
    step(
        &mut d,
        &mut now,
        "GET https://v2:8200/v1/auth/token/lookup-self",
        &answered(403, r#"{"errors":["invalid token"]}"#),
    );
    assert!(d.token(now).is_none());
    step(&mut d, &mut now, "POST https://v2:8200/v1/auth/cert/login", &login(2, 100));
    assert_eq!(d.token(now).unwrap().expose(), "pl4nted-2");
}

#[test]
fn nodes_of_the_service_are_used_where_the_settings_name_none() {
    let config =
        VaultConfig { auth: VaultAuth::Cert(CertAuthConfig::default()), ..VaultConfig::default() };
    let mut d = Desk::new(Rules::of(&config, "vault", |_| None).unwrap(), 1);
    let mut now = Time::ZERO;
    assert!(d.needs_nodes() && matches!(d.poll(now), Poll::Wait(Time::NEVER)));
    let address = |text| Address::parse(text).unwrap();
    d.nodes(&[address("redis://no"), address("http://a:1/base")]);
    step(&mut d, &mut now, "POST http://a:1/base/v1/auth/cert/login", &login(1, 100));
    let off =
        VaultConfig { enabled: false, ..self::config(VaultAuth::Cert(CertAuthConfig::default())) };
    let mut d = Desk::new(Rules::of(&off, "vault", |_| None).unwrap(), 1);
    assert!(matches!(d.poll(now), Poll::Wait(Time::NEVER)));
}

#[test]
fn a_file_that_is_rotated_a_hundred_times_never_leaves_the_client_without_a_token() {
    let auth =
        VaultAuth::TokenFile(TokenFileConfig { path: "/t".into(), poll: Duration::from_secs(1) });
    let (mut d, mut now) = (desk(auth), Time::ZERO);
    for n in 0..100_u32 {
        let text = format!("{PLANTED}-{}", n / 2);
        // Looks at the file and at the token come in between, in whatever order.
        for _ in 0..4 {
            let job = job(&mut d, &mut now);
            let outcome = match &job.work {
                Work::Read { .. } => file(&text),
                _ => answered(200, r#"{"data":{"ttl":3600,"renewable":false}}"#),
            };
            assert!(d.done(now, job.id, &outcome));
            assert!(d.token(now).is_some());
        }
        assert_eq!(d.token(now).unwrap().expose(), text);
    }
}

#[test]
fn leases_are_renewed_with_the_token_and_given_back_before_it() {
    let (mut d, mut now) = (desk(VaultAuth::Cert(CertAuthConfig::default())), Time::ZERO);
    step(&mut d, &mut now, "POST https://v1:8200/v1/auth/cert/login", &login(1, 100_000));
    let id = LeaseId::new("database/creds/app/x").unwrap();
    let lease = Lease { id: id.clone(), duration: Duration::from_secs(100), renewable: true };
    assert!(d.adopt(now, &lease));
    let renewed = answered(
        200,
        r#"{"lease_id":"database/creds/app/x","lease_duration":100,"renewable":true}"#,
    );
    let sent = step(&mut d, &mut now, "POST https://v1:8200/v1/sys/leases/renew", &renewed);
    assert_eq!(sent.http().unwrap().headers()["x-vault-token"], "pl4nted-1");
    d.close(now);
    step(
        &mut d,
        &mut now,
        "POST https://v1:8200/v1/sys/leases/revoke",
        &answered(400, r#"{"errors":["invalid lease"]}"#),
    );
    assert!(!d.is_closed());
    step(&mut d, &mut now, "POST https://v1:8200/v1/auth/token/revoke-self", &answered(500, ""));
    step(&mut d, &mut now, "POST https://v2:8200/v1/auth/token/revoke-self", &answered(204, ""));
    assert!(d.is_closed());
    let events: Vec<String> = d.take_events().iter().map(|(_, event)| event.to_string()).collect();
    assert!(
        events.iter().any(|line| line == "vault: lease of database/creds/app given back"),
        "{events:?}"
    );
}

#[test]
fn case_000_45_a_planted_secret_shows_nowhere() {
    let (mut d, mut now) = (desk(approle()), Time::ZERO);
    let mut shown = vec![format!("{:?} {:?}", d.rules, config(approle()))];
    let outcomes = [
        file("pl4nted-id"),
        login(1, 3_600),
        login(1, 3_600),
        answered(403, "pl4nted invalid token"),
    ];
    for outcome in &outcomes {
        let job = job(&mut d, &mut now);
        shown.push(format!("{job:?} {:#?} {outcome:?} {outcome:#?} {d:?} {d:#?}", job.work));
        d.done(now, job.id, outcome);
    }
    let id = LeaseId::new("database/creds/app/pl4nted").unwrap();
    assert!(!d.adopt(now, &Lease { id: id.clone(), duration: Duration::ZERO, renewable: true }));
    shown.push(format!("{id:?} {:?}", d.view()));
    shown.push(serde_json::to_string(d.settings()).unwrap());
    shown.push(serde_json::to_string(&d.keeper).unwrap());
    for (_, event) in d.take_events() {
        shown.push(format!("{event} {event:?} {}", serde_json::to_string(&event).unwrap()));
    }
    assert!(shown.len() > 8);
    for text in shown {
        assert!(!text.contains(PLANTED), "{text}");
    }
}

proptest! {
    /// Any outcome to any job at any time: no panic, no second job of the same kind, and nothing
    /// asked of a node that is not one.
    #[test]
    fn any_outcome_is_survived(
        way in 0_usize..5,
        steps in proptest::collection::vec((0_usize..12, 0_u64..100_000, any::<u8>()), 1..80),
        body in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let ways = [
            VaultAuth::Given,
            VaultAuth::TokenEnv("T".into()),
            VaultAuth::TokenFile(TokenFileConfig { path: "/t".into(), ..TokenFileConfig::default() }),
            approle(),
            VaultAuth::Cert(CertAuthConfig::default()),
        ];
        let (mut d, mut now) = (desk(ways[way].clone()), Time::ZERO);
        for (what, millis, byte) in steps {
            match byte {
                0..10 => d.doubt(now),
                10..15 => d.give(now, Secret::new("g").unwrap()),
                15..18 => d.close(now),
                18..40 => {
                    let id = LeaseId::new(&format!("a/{byte}")).unwrap();
                    let _ = d.adopt(now, &Lease { id, duration: Duration::from_millis(millis), renewable: true });
                }
                _ => {}
            }
            if let Poll::Run(job) = d.poll(now) {
                if let Some(request) = job.http() {
                    let host = request.uri().host();
                    prop_assert!(matches!(host, Some("v1" | "v2")));
                }
                let outcome = [
                    login(1, millis), login(2, 0), file("x"), JobOutcome::Content(None), answered(403, ""),
                    answered(403, "invalid token"), answered(503, "sealed"), answered(400, ""), answered(204, ""),
                    JobOutcome::Failed(Fault::Timeout), JobOutcome::Dropped,
                    JobOutcome::Answered { status: 200, headers: http::HeaderMap::new(), body: Bytes::from(body.clone()) },
                ][what].clone();
                d.done(now, job.id, &outcome);
            } else {
                now = now.plus(Duration::from_millis(millis));
            }
            prop_assert!(d.token(now).is_none_or(|token| !token.expose().is_empty()));
        }
    }
}
