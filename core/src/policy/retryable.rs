//! What is retried: outcome by outcome, compiled to bits.
//!
//! Retrying what cannot succeed, or what must not happen twice, is worse than not retrying. Three
//! questions are asked in this order, and the first "no" is the reason:
//!
//! 1. Did the peer say not to? "Overloaded, do not retry" (SRE book, ch. 21) keeps a retry in the
//!    layer next to the overload, where it costs one call and not a whole tree of them. A
//!    `Retry-After` is not that: it says when, not whether.
//! 2. Is the outcome of a kind that is retried, by class of failure or by status? A 4xx is never
//!    (000-44), except 429 where the class `throttled` is listed.
//! 3. May the request be repeated? A request that certainly did not leave may always (gRPC A6,
//!    "transparent retries"); one that may have arrived only if its method, or the call itself,
//!    says that repeating it does no harm.
//!
//! Whether attempts, deadline and budget allow it is asked elsewhere. Switched off by an empty
//! list of classes and statuses.

use std::fmt;

use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::backoff::{Advice, Forbidden};
use crate::config::field::At;
use crate::config::{ClassesConfig, ConfigError, FaultClass, MethodClass, StatusSet};
use crate::outcome::{Fault, Outcome, Sent};

/// Which outcomes are retried: the compiled [`ClassesConfig`].
///
/// ```
/// use origin_core::config::{ClassesConfig, MethodClass};
/// use origin_core::outcome::{Fault, Outcome, Sent};
/// use origin_core::policy::retryable::{NotRetried, Retryable};
///
/// let rules = Retryable::of(&ClassesConfig::default(), "policy.retry")?;
/// let busy = Outcome::status(503);
/// assert_eq!(rules.allows(MethodClass::Get, None, busy, None), Ok(()));
/// let refused = rules.allows(MethodClass::Post, None, busy, None);
/// assert_eq!(refused, Err(NotRetried::NotRepeatable(MethodClass::Post)));
/// // With an idempotency key the caller knows better than the method.
/// assert_eq!(rules.allows(MethodClass::Post, Some(true), busy, None), Ok(()));
/// // What never left may always be sent again.
/// let never = Outcome::Failed { fault: Fault::Connect, sent: Sent::Never };
/// assert_eq!(rules.allows(MethodClass::Post, None, never, None), Ok(()));
/// # Ok::<(), origin_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Retryable {
    statuses: StatusSet,
    throttled: StatusSet,
    overloaded: StatusSet,
    faults: u16,
    methods: u16,
    overloaded_header: Option<Box<str>>,
}

/// Why an outcome is not retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotRetried {
    /// The peer asked for it.
    Asked(NoRetry),
    /// It is an answer: of no status that is retried.
    Status(u16),
    /// Failures of this kind are not retried.
    Class(FaultClass),
    /// Repeating would meet the same again, wherever it is sent.
    Final(Fault),
    /// The request may have arrived, and repeating it is not known to be safe.
    NotRepeatable(MethodClass),
}

/// How a peer said not to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoRetry {
    /// With the header named by the configuration.
    Header,
    /// With a status that means it.
    Status(u16),
    /// With a pushback that forbids it, as in gRPC.
    Pushback(Forbidden),
}

impl fmt::Display for NotRetried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotRetried::Asked(NoRetry::Header) => f.write_str("the peer is overloaded and says so"),
            NotRetried::Asked(NoRetry::Status(status)) => {
                write!(f, "{status} means overloaded: not retried")
            }
            NotRetried::Asked(NoRetry::Pushback(why)) => why.fmt(f),
            NotRetried::Status(status) => write!(f, "{status} is not retried"),
            NotRetried::Class(class) => write!(f, "failures of class {class} are not retried"),
            NotRetried::Final(fault) => write!(f, "{fault}: it would be the same again"),
            NotRetried::NotRepeatable(method) => {
                write!(f, "the request may have arrived, and {method} is not repeatable")
            }
        }
    }
}

/// The class of a fault; `None` for those that no repeat can mend.
#[must_use]
pub const fn class_of(fault: Fault) -> Option<FaultClass> {
    match fault {
        Fault::Resolve | Fault::Connect | Fault::ConnectTimeout => Some(FaultClass::Connect),
        Fault::Tls => Some(FaultClass::Tls),
        Fault::Timeout => Some(FaultClass::Timeout),
        Fault::Reset => Some(FaultClass::Reset),
        // The address belongs to an endpoint; another one may have a better one.
        Fault::Protocol | Fault::HeadTooLarge | Fault::NotHttp => Some(FaultClass::Protocol),
        Fault::BodyTooLarge | Fault::Request => None,
        // The call gave it up itself, to go on elsewhere.
        Fault::Stalled | Fault::Outrun => Some(FaultClass::Timeout),
    }
}

impl Retryable {
    /// Checks `config`, which stands at `path`, and compiles it.
    ///
    /// # Errors
    /// A status that cannot be in its list, or a header name that is none.
    pub fn of(config: &ClassesConfig, path: &str) -> Result<Retryable, ConfigError> {
        let at = At(path);
        for (field, list, least) in [
            ("statuses", &config.statuses, 500),
            ("throttled", &config.throttled, 400),
            ("overloaded", &config.overloaded, 400),
        ] {
            for code in list {
                at.within(field, *code, least..=599)?;
            }
        }
        for (field, list) in [("statuses", &config.statuses), ("throttled", &config.throttled)] {
            if let Some(code) = list.iter().find(|code| config.overloaded.contains(code)) {
                let reason = format!("{code} is also listed as overloaded, which is never retried");
                return Err(at.refuse(field, reason));
            }
        }
        if let Some(code) = config.throttled.iter().find(|code| config.statuses.contains(code)) {
            let reason =
                format!("{code} is also in {path}.statuses; it can be only one of the two");
            return Err(at.refuse("throttled", reason));
        }
        let name = &config.overloaded_header;
        if !name.is_empty() {
            at.header("overloaded_header", name)?;
        }
        Ok(Retryable::compile(config))
    }

    fn compile(config: &ClassesConfig) -> Retryable {
        let name = &config.overloaded_header;
        Retryable {
            statuses: StatusSet::of(&config.statuses),
            throttled: StatusSet::of(&config.throttled),
            overloaded: StatusSet::of(&config.overloaded),
            faults: config.faults.iter().fold(0, |set, class| set | 1 << *class as u16),
            methods: config.methods.iter().fold(0, |set, method| set | 1 << *method as u16),
            overloaded_header: (!name.is_empty()).then(|| name.to_ascii_lowercase().into()),
        }
    }

    /// Whether an outcome is retried. `repeatable` is what the call says of itself, if it does:
    /// it then stands in for the method. `asked` is what [`Retryable::no_retry`] found.
    ///
    /// # Errors
    /// Why not.
    pub fn allows(
        &self,
        method: MethodClass,
        repeatable: Option<bool>,
        outcome: Outcome,
        asked: Option<NoRetry>,
    ) -> Result<(), NotRetried> {
        if let Some(how) = asked {
            return Err(NotRetried::Asked(how));
        }
        let never_sent = match outcome {
            Outcome::Answered { status, .. } => {
                if self.overloaded.has(status) {
                    return Err(NotRetried::Asked(NoRetry::Status(status)));
                }
                let throttled = self.throttled.has(status) && self.retries(FaultClass::Throttled);
                if !throttled && !self.statuses.has(status) {
                    return Err(NotRetried::Status(status));
                }
                false
            }
            Outcome::Failed { fault, sent } => {
                let Some(class) = class_of(fault) else { return Err(NotRetried::Final(fault)) };
                if !self.retries(class) {
                    return Err(NotRetried::Class(class));
                }
                matches!(sent, Sent::Never)
            }
        };
        let repeatable = match repeatable {
            Some(own) => own,
            None => self.repeats(method),
        };
        if never_sent || repeatable { Ok(()) } else { Err(NotRetried::NotRepeatable(method)) }
    }

    /// Whether requests of this method may be repeated, if the call does not say otherwise.
    #[must_use]
    pub const fn repeats(&self, method: MethodClass) -> bool {
        self.methods >> method as u16 & 1 == 1
    }

    /// Whether an answer says that the peer is asked too often.
    #[must_use]
    pub fn throttles(&self, outcome: Outcome) -> bool {
        matches!(outcome, Outcome::Answered { status, .. } if self.throttled.has(status))
    }

    /// Whether an answer, by its headers and pushback, says not to retry. It looks a header up by
    /// name: ask only of answers that would be retried.
    #[must_use]
    pub fn no_retry(&self, headers: &HeaderMap, advice: Advice) -> Option<NoRetry> {
        if let Advice::Forbidden(why) = advice {
            return Some(NoRetry::Pushback(why));
        }
        let name = self.overloaded_header.as_deref()?;
        headers.contains_key(name).then_some(NoRetry::Header)
    }

    const fn retries(&self, class: FaultClass) -> bool {
        self.faults >> class as u16 & 1 == 1
    }
}

impl Default for Retryable {
    fn default() -> Self {
        Retryable::compile(&ClassesConfig::default())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const FAULTS: [Fault; 11] = [
        Fault::Resolve,
        Fault::Connect,
        Fault::ConnectTimeout,
        Fault::Tls,
        Fault::Timeout,
        Fault::Reset,
        Fault::Protocol,
        Fault::HeadTooLarge,
        Fault::BodyTooLarge,
        Fault::NotHttp,
        Fault::Request,
    ];
    const METHODS: [MethodClass; 9] = [
        MethodClass::Get,
        MethodClass::Head,
        MethodClass::Put,
        MethodClass::Delete,
        MethodClass::Options,
        MethodClass::Trace,
        MethodClass::Post,
        MethodClass::Patch,
        MethodClass::Other,
    ];

    fn failed(fault: Fault) -> Outcome {
        Outcome::Failed { fault, sent: Sent::Maybe }
    }

    fn retried(rules: &Retryable) -> (Vec<Fault>, Vec<u16>) {
        let get = |outcome| rules.allows(MethodClass::Get, None, outcome, None).is_ok();
        let faults = FAULTS.into_iter().filter(|fault| get(failed(*fault))).collect();
        let statuses = (100..1_000).filter(|status| get(Outcome::status(*status))).collect();
        (faults, statuses)
    }

    #[test]
    fn case_x_02_classes_of_the_contracts() {
        use Fault::{Connect, ConnectTimeout, Reset, Resolve, Timeout};
        // 001-40…42: time-outs, network errors, and 503; 001-45: no 4xx.
        let one = ClassesConfig {
            faults: vec![FaultClass::Connect, FaultClass::Timeout, FaultClass::Reset],
            statuses: vec![503],
            ..ClassesConfig::default()
        };
        let expect = (vec![Resolve, Connect, ConnectTimeout, Timeout, Reset], vec![503]);
        assert_eq!(retried(&Retryable::of(&one, "r").unwrap()), expect);
        // 002-03…06: time-outs and connection errors, no 4xx and no 5xx either.
        let two = ClassesConfig {
            faults: vec![FaultClass::Connect, FaultClass::Timeout],
            statuses: vec![],
            ..ClassesConfig::default()
        };
        let expect = (vec![Resolve, Connect, ConnectTimeout, Timeout], vec![]);
        assert_eq!(retried(&Retryable::of(&two, "r").unwrap()), expect);
        // The default is what a call retries today: everything that another try can mend.
        let (faults, statuses) = retried(&Retryable::default());
        assert_eq!((faults.len(), statuses), (9, vec![500, 502, 503, 504]));
        // Nothing at all.
        let off = ClassesConfig { faults: vec![], statuses: vec![], ..ClassesConfig::default() };
        assert_eq!(retried(&Retryable::of(&off, "r").unwrap()), (vec![], vec![]));
    }

    #[test]
    fn case_000_44_a_429_is_retried_only_as_throttling() {
        let busy = Outcome::status(429);
        let ask = |rules: &Retryable| rules.allows(MethodClass::Get, None, busy, None);
        let rules = Retryable::default();
        assert!(rules.throttles(busy) && !rules.throttles(Outcome::status(503)));
        assert_eq!(ask(&rules), Err(NotRetried::Status(429)));
        let mut config = ClassesConfig::default();
        config.faults.push(FaultClass::Throttled);
        assert_eq!(ask(&Retryable::of(&config, "r").unwrap()), Ok(()));
    }

    /// Every combination, against the three questions asked one by one.
    #[test]
    fn all_combinations_answer_in_order() {
        let config = ClassesConfig {
            faults: vec![FaultClass::Timeout, FaultClass::Connect],
            statuses: vec![503],
            overloaded: vec![529],
            methods: vec![MethodClass::Get, MethodClass::Delete],
            ..ClassesConfig::default()
        };
        let rules = Retryable::of(&config, "r").unwrap();
        let mut outcomes: Vec<Outcome> = [200, 404, 429, 500, 503, 529].map(Outcome::status).into();
        for sent in [Sent::Never, Sent::Maybe] {
            outcomes.extend(FAULTS.map(|fault| Outcome::Failed { fault, sent }));
        }
        for method in METHODS {
            for own in [None, Some(false), Some(true)] {
                for asked in [None, Some(NoRetry::Header)] {
                    for outcome in &outcomes {
                        let got = rules.allows(method, own, *outcome, asked);
                        let listed = matches!(method, MethodClass::Get | MethodClass::Delete);
                        let may = own.unwrap_or(listed);
                        let expect = match (asked, outcome) {
                            (Some(how), _) => Err(NotRetried::Asked(how)),
                            (_, Outcome::Answered { status: 529, .. }) => {
                                Err(NotRetried::Asked(NoRetry::Status(529)))
                            }
                            (_, Outcome::Answered { status: 503, .. }) if may => Ok(()),
                            (_, Outcome::Answered { status: 503, .. }) => {
                                Err(NotRetried::NotRepeatable(method))
                            }
                            (_, Outcome::Answered { status, .. }) => {
                                Err(NotRetried::Status(*status))
                            }
                            (_, Outcome::Failed { fault, sent }) => match class_of(*fault) {
                                None => Err(NotRetried::Final(*fault)),
                                Some(FaultClass::Timeout | FaultClass::Connect) => {
                                    if may || *sent == Sent::Never {
                                        Ok(())
                                    } else {
                                        Err(NotRetried::NotRepeatable(method))
                                    }
                                }
                                Some(class) => Err(NotRetried::Class(class)),
                            },
                        };
                        assert_eq!(got, expect, "{method:?} {own:?} {outcome:?}");
                        if let Err(why) = got {
                            assert!(!why.to_string().is_empty());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn overloaded_is_understood_and_retry_after_is_not_that() {
        let rules = Retryable::default();
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_static("5"));
        assert_eq!(rules.no_retry(&headers, Advice::Silent), None);
        let never = Advice::Forbidden(Forbidden::Negative);
        let pushback = NoRetry::Pushback(Forbidden::Negative);
        assert_eq!(rules.no_retry(&headers, never), Some(pushback));
        headers.insert("x-origin-overloaded", HeaderValue::from_static("1"));
        assert_eq!(rules.no_retry(&headers, Advice::Silent), Some(NoRetry::Header));
        let none = ClassesConfig { overloaded_header: String::new(), ..ClassesConfig::default() };
        assert_eq!(Retryable::of(&none, "r").unwrap().no_retry(&headers, Advice::Silent), None);
    }

    #[test]
    fn case_x_09_lists_that_contradict_are_refused() {
        let field = |change: &dyn Fn(&mut ClassesConfig)| {
            let mut config = ClassesConfig::default();
            change(&mut config);
            let _ = Retryable::compile(&config); // total
            Retryable::of(&config, "r").err().map(|e| e.field)
        };
        let refused = |name: &str| Some(format!("r.{name}"));
        for code in [0, 404, 429, 600, u16::MAX] {
            assert_eq!(field(&|c| c.statuses.push(code)), refused("statuses"), "{code}");
        }
        for code in [0, 399, 600, u16::MAX] {
            assert_eq!(field(&|c| c.throttled.push(code)), refused("throttled"), "{code}");
            assert_eq!(field(&|c| c.overloaded.push(code)), refused("overloaded"), "{code}");
        }
        assert_eq!(field(&|c| c.overloaded = vec![503]), refused("statuses"));
        assert_eq!(field(&|c| c.overloaded = vec![429]), refused("throttled"));
        assert_eq!(field(&|c| c.throttled.push(503)), refused("throttled"));
        assert_eq!(field(&|c| c.overloaded_header = "a b".into()), refused("overloaded_header"));
        assert_eq!(Retryable::of(&ClassesConfig::default(), "r"), Ok(Retryable::default()));
    }

    #[test]
    fn methods_are_recognised() {
        for (name, class) in [
            ("GET", MethodClass::Get),
            ("POST", MethodClass::Post),
            ("PATCH", MethodClass::Patch),
            ("CONNECT", MethodClass::Other),
            ("PURGE", MethodClass::Other),
        ] {
            let method = http::Method::from_bytes(name.as_bytes()).unwrap();
            assert_eq!(MethodClass::from(&method), class);
        }
        // The default list is http's own notion of idempotent.
        for method in METHODS {
            let name = serde_json::to_string(&method).unwrap();
            let http = http::Method::from_bytes(name.trim_matches('"').as_bytes()).unwrap();
            let allowed =
                Retryable::default().allows(method, None, Outcome::status(503), None).is_ok();
            assert_eq!(allowed, http.is_idempotent(), "{name}");
        }
    }
}
