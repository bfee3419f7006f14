//! Warnings: what a configuration says that will surprise whoever wrote it. Nothing here is
//! refused, because all of it works in some way; what can never work is refused by
//! [`Rules::of`](super::Rules::of).
//!
//! The argument: a configuration is read by people who believe it. "Six attempts" that the
//! deadline cuts to two, a failure rate over a hundred calls in a window that sees twenty, "at
//! most 10 % ejected" that means every third endpoint: each is legal, and each is found out in an
//! outage. Every warning names the field and says the numbers; one that cannot be computed
//! exactly, or that a careful author could well have meant, is not given. The defaults and all
//! presets are silent, which a test holds.
//!
//! | file | holds against each other |
//! |---|---|
//! | `time` | deadlines, waits, delays |
//! | `volume` | minimum counts, and what the expected rate of calls can fill |
//! | `sense` | policies whose absence or number makes another one idle or harmful |

mod sense;
mod time;
mod volume;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{Config, Policy, Rules};
use crate::time::DurationText;

/// Something in a configuration that will surprise.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Warning {
    /// The field as written in `origin.toml`, for example `policy.retry.max_attempts`.
    pub field: String,
    /// What happens instead of what one would expect, with the numbers.
    pub reason: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning: {}: {}", self.field, self.reason)
    }
}

/// What is being looked at.
struct Lint<'a> {
    path: &'a str,
    policy: &'a Policy,
    rules: &'a Rules,
    /// How many endpoints there are, where that is known.
    endpoints: Option<u32>,
    found: Vec<Warning>,
}

impl Lint<'_> {
    fn warn(&mut self, field: &str, reason: String) {
        self.found.push(Warning { field: format!("{}.{field}", self.path), reason });
    }
}

impl Policy {
    /// What will surprise in this policy, which stands at `path`. `endpoints` is how many
    /// endpoints it is for, where that is known. A policy that is refused has no warnings.
    ///
    /// ```
    /// use std::time::Duration;
    /// use origin_core::config::Policy;
    ///
    /// let mut policy = Policy::default();
    /// policy.deadline.total = Duration::from_millis(500);
    /// policy.deadline.attempt = Some(Duration::from_millis(250));
    /// let warnings = policy.warnings("policy", None);
    /// assert_eq!(
    ///     warnings[0].to_string(),
    ///     "warning: policy.retry.max_attempts: attempts 3 to 6 can never start once 2 have taken \
    ///      the whole timeout: after 2 × 250ms, 0s of the total of 500ms is left"
    /// );
    /// ```
    #[must_use]
    pub fn warnings(&self, path: &str, endpoints: Option<u32>) -> Vec<Warning> {
        let Ok(rules) = Rules::of(self, path) else { return Vec::new() };
        let mut lint = Lint { path, policy: self, rules: &rules, endpoints, found: Vec::new() };
        time::look(&mut lint);
        volume::look(&mut lint);
        sense::look(&mut lint);
        lint.found
    }
}

impl Config {
    /// What will surprise in this configuration: its policies, and what they hide from each
    /// other. Parts that are refused have no warnings; see [`Config::check`].
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let mut found = self.policy.warnings("policy", None);
        let client = self.policy.deadline.connect;
        for (name, profile) in &self.profiles {
            found.extend(of_profile(profile, &self.policy, client, &format!("profiles.{name}")));
        }
        for (name, service) in &self.services {
            let count = u32::try_from(service.endpoints.len()).unwrap_or(u32::MAX);
            let endpoints = Some(count).filter(|count| *count > 0);
            let path = format!("services.{name}");
            match &service.policy {
                Some(own) => {
                    let policy = format!("{path}.policy");
                    found.extend(own.warnings(&policy, endpoints));
                    found.extend(connect(own, client, &policy));
                }
                None => {
                    // The same policy again, but now it is known for how many endpoints.
                    let again = self.policy.warnings("policy", endpoints);
                    let new: Vec<Warning> =
                        again.into_iter().filter(|w| !found.contains(w)).collect();
                    found.extend(
                        new.into_iter()
                            .map(|w| Warning { reason: format!("for {path}: {}", w.reason), ..w }),
                    );
                }
            }
            let shared = service.policy.as_ref().unwrap_or(&self.policy);
            for (profile, policy) in &service.profiles {
                let path = format!("{path}.profiles.{profile}");
                found.extend(of_profile(policy, shared, client, &path));
            }
        }
        found
    }
}

/// A profile: what its calls share is that of the service, so that is looked at instead, and what
/// would be said of the service anyway is not said again.
fn of_profile(
    profile: &Policy,
    service: &Policy,
    client: Option<Duration>,
    path: &str,
) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut seen = profile.clone();
    let hidden = share(&mut seen, service);
    if !hidden.is_empty() {
        found.push(Warning {
            field: path.to_owned(),
            reason: format!(
                "calls under a profile share these with all others, so those of the service hold: \
                 {}",
                hidden.join(", ")
            ),
        });
    }
    let known = service.warnings(path, None);
    let own = seen.warnings(path, None);
    found.extend(own.into_iter().filter(|warning| !known.contains(warning)));
    found.extend(connect(profile, client, path));
    found
}

/// Puts what calls share in place of the profile's own, and names what the profile says in vain.
fn share(profile: &mut Policy, service: &Policy) -> Vec<&'static str> {
    let usual = Policy::default();
    let mut hidden = Vec::new();
    macro_rules! shared {
        ($($name:literal $($field:ident).+;)*) => {$(
            let said = profile.$($field).+ != usual.$($field).+;
            if said && profile.$($field).+ != service.$($field).+ {
                hidden.push($name);
            }
            profile.$($field).+ = service.$($field).+.clone();
        )*};
    }
    shared! {
        "retry.tokens" retry.tokens;
        "latency" latency;
        "breaker" breaker;
        "service_breaker" service_breaker;
        "throttle" throttle;
        "concurrency" concurrency;
        "queue" queue;
        "rate" rate;
        "stall" stall;
        "checks" checks;
        "balance" balance;
        "failover" failover;
        "outlier" outlier;
    }
    hidden
}

/// Connections are made under one limit for all services of a client.
fn connect(policy: &Policy, client: Option<Duration>, path: &str) -> Option<Warning> {
    let own = policy.deadline.connect.filter(|own| Some(*own) != client)?;
    let client = client.map_or("the default".to_owned(), |span| DurationText(span).to_string());
    Some(Warning {
        field: format!("{path}.deadline.connect"),
        reason: format!(
            "{} is not read: connections of all services follow policy.deadline.connect, which is \
             {client}",
            DurationText(own)
        ),
    })
}

#[cfg(test)]
mod tests;
