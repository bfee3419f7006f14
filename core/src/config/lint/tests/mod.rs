//! What is said of whole configurations, what must not be said, and whether it is true.

#[cfg(feature = "toml")]
mod words;

use proptest::prelude::*;

use super::*;
use crate::address::Address;
use crate::call::{Action, Call, CallSpec, Event};
use crate::config::backoff::Jitter;
use crate::config::{Mode, PRESETS};
use crate::discovery::directory::Resolution;
use crate::discovery::{Role, plan};
use crate::outcome::{Fault, Outcome, Sent};
use crate::service::Service;
use crate::time::Time;

/// Everything a file can say where another part of it decides.
#[cfg(feature = "toml")]
#[test]
fn a_whole_configuration() {
    let text = r#"
        [policy.outlier]
        consecutive_failures = 5
        [profiles.fast]
        deadline.total = "500ms"
        deadline.attempt = "250ms"
        breaker.failures = 9
        retry.tokens.mode = "quota"
        [profiles.fine]
        deadline.total = "5s"
        outlier.consecutive_failures = 5
        [services.a]
        endpoints = [{ address = "http://a:1" }, { address = "http://a:2" }]
        [services.b.policy]
        budget.enabled = false
        deadline.connect = "2s"
        [services.b.profiles.slow]
        deadline.total = "20s"
        deadline.connect = "3s"
        [services.c.policy.outlier]
        consecutive_failures = 5
    "#;
    let config = Config::from_toml(text).unwrap();
    let said: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    let reads = "is not read: connections of all services follow policy.deadline.connect, which \
                 is the default";
    assert_eq!(
        said,
        [
            "warning: profiles.fast: calls under a profile share these with all others, so those \
             of the service hold: retry.tokens, breaker"
                .to_owned(),
            "warning: profiles.fast.retry.max_attempts: attempts 3 to 6 can never start once 2 \
             have taken the whole timeout: after 2 × 250ms, 0s of the total of 500ms is left"
                .to_owned(),
            "warning: policy.outlier.max_ejected_percent: for services.a: 10 % of 2 endpoints \
             still allows one: 50 %"
                .to_owned(),
            "warning: services.b.policy.budget.enabled: an outage is multiplied by up to 6: \
             retry.max_attempts is 6, and neither the budget nor retry.tokens bounds repeats"
                .to_owned(),
            format!("warning: services.b.policy.deadline.connect: 2s {reads}"),
            format!("warning: services.b.profiles.slow.deadline.connect: 3s {reads}"),
        ]
    );
    assert_eq!(Config::default().warnings(), []);
}

/// The defaults, whatever they are for, and the presets, where nothing is known.
#[test]
fn defaults_and_presets_are_silent() {
    for endpoints in (0..2_000).map(Some).chain([None, Some(u32::MAX)]) {
        assert_eq!(Policy::default().warnings("policy", endpoints), [], "{endpoints:?}");
    }
    for (name, _) in PRESETS {
        assert_eq!(Policy::preset(name).unwrap().warnings("policy", None), [], "{name}");
    }
}

#[test]
fn what_is_refused_has_no_warnings() {
    let mut policy = Policy::default();
    (policy.budget.enabled, policy.budget.ratio) = (false, f64::NAN);
    assert_eq!(policy.warnings("policy", None), []);
}

/// How many attempts a call of this policy makes at so many endpoints of one cluster when each
/// takes its whole timeout, by the machine itself.
fn attempts(policy: &Policy, endpoints: u32) -> u32 {
    let mut policy = policy.clone();
    // What else could end the call, or an attempt early.
    policy.breaker.mode = Mode::Disabled;
    (policy.budget.enabled, policy.stall.enabled) = (false, false);
    policy.retry.attempts_per_cluster = 16;
    let rules = Rules::of(&policy, "p").unwrap();
    let mut service = Service::new("s".into(), rules, 1);
    let found = (0..endpoints).map(|n| {
        let address = Address::parse(&format!("http://10.0.0.{n}:80")).unwrap();
        ("alpha".into(), Role::Primary, address)
    });
    let found: Vec<_> = found.collect();
    service.resolve(Time::ZERO, Resolution::Found(plan::injected(&found, None)));
    let spec = CallSpec { idempotent: Some(true), ..CallSpec::default() };
    let (mut call, mut now) = (Call::new(spec, 1, 1), Time::ZERO);
    let mut action = call.step(&mut service, now, Event::Begin);
    loop {
        let event = match action {
            Action::Send { attempt, deadline, .. } => {
                now = deadline.at;
                let timeout = Outcome::Failed { fault: Fault::Timeout, sent: Sent::Maybe };
                Event::Finished(attempt, timeout)
            }
            Action::WaitUntil(until) => {
                now = until;
                Event::Wake
            }
            _ => return call.attempts(),
        };
        action = call.step(&mut service, now, event);
    }
}

/// What is said of attempts that the endpoints do not make is what the machine does.
#[test]
fn attempts_per_endpoint_are_as_many_as_the_machine_makes() {
    let mut said = 0;
    for (endpoints, own, most) in
        (1..7).flat_map(|e| (1..5).flat_map(move |own| (2..17).map(move |most| (e, own, most))))
    {
        let mut policy = Policy::default();
        policy.deadline.total = Duration::from_secs(3_600);
        policy.retry.max_attempts = most;
        policy.retry.attempts_per_endpoint = own;
        let made = attempts(&policy, endpoints);
        let warned = policy.warnings("p", Some(endpoints));
        let reach = endpoints + own - 1;
        let usual = Policy::default().retry.max_attempts;
        if made < most && most != usual && reach <= 8 {
            said += 1;
            assert!(warned[0].reason.ends_with(&format!("make {made}")), "{}", warned[0]);
        } else {
            assert_eq!(warned, [], "{endpoints} endpoints, {own} each, {most} in all: {made}");
        }
    }
    assert!(said > 200, "{said}");
}

proptest! {
    /// "Can never start" is what the machine does, to the attempt; and where nothing is said, it
    /// makes all of them.
    #[test]
    fn attempts_that_start_are_those_not_warned_about(
        total in 2_u64..80, attempt in 1_u64..50, base in 1_u64..8, most in 1_u32..17,
        floor in 1_u64..6,
    ) {
        let ms = Duration::from_millis;
        let mut policy = Policy::default();
        policy.deadline.total = ms(total);
        policy.deadline.attempt = Some(ms(attempt.min(total - 1)));
        policy.deadline.floor = ms(floor.min(total));
        policy.retry.max_attempts = most;
        policy.retry.attempts_per_endpoint = 16;
        (policy.retry.backoff.base, policy.retry.backoff.jitter) = (ms(base), Jitter::None);
        let made = attempts(&policy, 1);
        let said = policy.warnings("p", None).into_iter().map(|w| w.reason);
        let said: Vec<String> = said.filter(|reason| reason.contains("never start")).collect();
        if made == most {
            prop_assert_eq!(said, [""; 0]);
        } else {
            let next = made + 1;
            let words = if next == most {
                format!("attempt {next} can never")
            } else {
                format!("attempts {next} to {most} can never")
            };
            prop_assert!(said[0].starts_with(&words), "{} but {made} made", said[0]);
        }
    }
}
