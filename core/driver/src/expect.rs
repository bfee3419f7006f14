//! What a server has to prove beyond being vouched for, by target (host and port). Plain data: no
//! TLS library shows in it; how it is enforced is in `tls/`.
//!
//! A host name says too little in a mesh: instances are found by address, and every workload has
//! a certificate of the same authority, so a chain alone would let each pose as any other. There
//! the name in the certificate is a SPIFFE id, and a target says which one it must be.
//!
//! The rules are those of SPIFFE's X.509-SVID and of Consul's Connect. Both ask for one URI in the
//! certificate, compared as a whole. Consul's own Go client compares without regard to case and
//! takes any trust domain, leaving that to the authority; here the trust domain is compared, too,
//! since `Roots` may well hold several authorities.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use origin_core::ConfigError;
use serde::{Deserialize, Serialize};

/// The longest SPIFFE id (the standard's limit), in bytes.
const LONGEST_ID: usize = 2048;
/// The longest trust domain (the standard's limit), in bytes.
const LONGEST_DOMAIN: usize = 255;

/// Whom a certificate has to name. The chain is verified in every case.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Verify {
    /// The host of the URL: a DNS name or an IP address.
    #[default]
    HostName,
    /// This DNS name or IP address, whatever the host of the URL is; also sent as the server name
    /// (SNI). For servers reached by address whose certificates carry a name, as Consul's servers
    /// do (`server.dc1.consul`).
    Name(Arc<str>),
    /// A Consul service, `spiffe://{trust_domain}/ns/default/dc/{any}/svc/{service}`. Instances in
    /// all datacenters of a trust domain are one service, as they are to Consul's intentions; to
    /// hold it to one datacenter, or for another namespace, use [`Verify::Id`].
    Spiffe {
        /// For example `11111111-2222-3333-4444-555555555555.consul`.
        trust_domain: Arc<str>,
        /// The name of the service.
        service: Arc<str>,
    },
    /// Exactly this SPIFFE id.
    Id(Arc<str>),
}

impl Verify {
    /// Whether the one URI of a certificate is the one expected. Never, where a name is.
    #[must_use]
    pub fn admits(&self, uri: &str) -> bool {
        match self {
            Verify::HostName | Verify::Name(_) => false,
            Verify::Id(id) => **id == *uri,
            Verify::Spiffe { trust_domain, service } => {
                let path = uri
                    .strip_prefix("spiffe://")
                    .and_then(|rest| rest.strip_prefix(&**trust_domain))
                    .and_then(|rest| rest.strip_prefix("/ns/default/dc/"));
                path.and_then(|path| path.split_once("/svc/"))
                    .is_some_and(|(datacenter, name)| segment(datacenter) && *name == **service)
            }
        }
    }

    /// Whether it asks for a SPIFFE id.
    #[cfg(feature = "rustls")]
    pub(crate) fn is_id(&self) -> bool {
        matches!(self, Verify::Spiffe { .. } | Verify::Id(_))
    }

    /// What is wrong with it, if anything. Names are read where certificates are.
    fn fault(&self) -> Option<&'static str> {
        match self {
            Verify::HostName | Verify::Name(_) => None,
            Verify::Spiffe { trust_domain, .. } if !domain(trust_domain) => {
                Some("the trust domain may have lower-case letters, digits, `.`, `-` and `_` only")
            }
            Verify::Spiffe { service, .. } => (!segment(service))
                .then_some("the service may have letters, digits, `.`, `-` and `_` only"),
            Verify::Id(id) => {
                let parts = id.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
                let sound = id.len() <= LONGEST_ID
                    && parts
                        .is_some_and(|(host, path)| domain(host) && path.split('/').all(segment));
                (!sound).then_some("not a SPIFFE id (`spiffe://domain/path`)")
            }
        }
    }
}

impl fmt::Display for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verify::HostName => f.write_str("the host name"),
            Verify::Name(name) => f.write_str(name),
            Verify::Spiffe { trust_domain, service } => {
                write!(f, "spiffe://{trust_domain}/ns/default/dc/*/svc/{service}")
            }
            Verify::Id(id) => f.write_str(id),
        }
    }
}

fn domain(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    !text.is_empty() && text.len() <= LONGEST_DOMAIN && text.bytes().all(allowed)
}

/// One segment of a SPIFFE path.
fn segment(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    !matches!(text, "" | "." | "..") && text.bytes().all(allowed)
}

/// What is expected of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// Whom its certificate has to name. Default: the host of the URL.
    pub verify: Verify,
    /// Offer HTTP/1.1 only. For TLS proxies that accept HTTP/2 in the name of a server that does
    /// not speak it, as Consul's built-in proxy does. gRPC health checks of such a target fail.
    /// Default false: HTTP/2 is offered where the adapter has it.
    pub http1_only: bool,
}

impl Expect {
    /// This name, and nothing else out of the ordinary.
    #[must_use]
    pub fn of(verify: Verify) -> Expect {
        Expect { verify, http1_only: false }
    }

    /// HTTP/1.1 and nothing newer.
    #[must_use]
    pub fn http1_only(self) -> Expect {
        Expect { http1_only: true, ..self }
    }
}

/// What is expected of targets, by host and port. A target that is not in it proves its host name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    targets: BTreeMap<Target, Expect>,
}

/// Host (lower case, no brackets) and port.
pub(crate) type Target = (Arc<str>, u16);

/// The target of a URL's parts. A URL writes IPv6 in brackets; neither resolvers nor certificates
/// know them.
pub(crate) fn target(host: &str, port: u16) -> Target {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    (bare.to_ascii_lowercase().into(), port)
}

impl Expectations {
    /// None: every server proves its host name.
    #[must_use]
    pub fn new() -> Expectations {
        Expectations::default()
    }

    /// Expects `expect` of the server at `host` and `port`, instead of what was expected before.
    /// The host as in the URL, in any case.
    pub fn set(&mut self, host: &str, port: u16, expect: Expect) {
        self.targets.insert(target(host, port), expect);
    }

    /// The same, for chaining.
    #[must_use]
    pub fn with(mut self, host: &str, port: u16, expect: Expect) -> Expectations {
        self.set(host, port, expect);
        self
    }

    /// What is expected of a target.
    #[must_use]
    pub fn of(&self, host: &str, port: u16) -> Expect {
        self.of_target(&target(host, port))
    }

    pub(crate) fn of_target(&self, target: &Target) -> Expect {
        self.targets.get(target).cloned().unwrap_or_default()
    }

    /// All that were set, by host and port.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u16, &Expect)> {
        self.targets.iter().map(|((host, port), expect)| (&**host, *port, expect))
    }

    /// Refuses ids that no certificate can have.
    ///
    /// # Errors
    /// The field is `expect.{host}:{port}`.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (host, port, expect) in self.iter() {
            if let Some(fault) = expect.verify.fault() {
                let reason = format!("{}: {fault}", expect.verify);
                return Err(ConfigError::new(format!("expect.{host}:{port}"), reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "11111111-2222-3333-4444-555555555555.consul";

    fn web() -> Verify {
        Verify::Spiffe { trust_domain: DOMAIN.into(), service: "web".into() }
    }

    #[test]
    fn a_consul_service_is_known_by_its_id() {
        // The form Consul 1.8.7 gives its leaf certificates.
        assert!(web().admits(&format!("spiffe://{DOMAIN}/ns/default/dc/dc1/svc/web")));
        assert!(web().admits(&format!("spiffe://{DOMAIN}/ns/default/dc/dc2/svc/web")));
        for other in [
            "",
            "spiffe://",
            "spiffe://other.consul/ns/default/dc/dc1/svc/web",
            &format!("spiffe://x{DOMAIN}/ns/default/dc/dc1/svc/web"),
            &format!("spiffe://{DOMAIN}.evil/ns/default/dc/dc1/svc/web"),
            &format!("spiffe://{DOMAIN}@evil/ns/default/dc/dc1/svc/web"),
            &format!("https://{DOMAIN}/ns/default/dc/dc1/svc/web"),
            &format!("spiffe://{DOMAIN}/ns/default/dc/dc1/svc/web2"),
            &format!("spiffe://{DOMAIN}/ns/default/dc/dc1/svc/web/"),
            &format!("spiffe://{DOMAIN}/ns/default/dc/dc1/svc/Web"),
            &format!("spiffe://{DOMAIN}/ns/other/dc/dc1/svc/web"),
            &format!("spiffe://{DOMAIN}/ns/default/dc//svc/web"),
            &format!("spiffe://{DOMAIN}/ns/default/dc/../svc/web"),
            &format!("spiffe://{DOMAIN}/ns/default/dc/a/svc/web/svc/web"),
            &format!("spiffe://{DOMAIN}/ns/default/dc/a/b/svc/web"),
            &format!("spiffe://{DOMAIN}/ns/default/dc/dc1/svc/web?x"),
            &format!("spiffe://{DOMAIN}/ns/default/dc/dc1/svc/other#/svc/web"),
        ] {
            assert!(!web().admits(other), "{other}");
        }
    }

    /// Every id one byte away, by change or insertion, is another id; but for the
    /// datacenter, which is free.
    #[test]
    fn one_byte_makes_another_id() {
        let id = format!("spiffe://{DOMAIN}/ns/default/dc/dc1/svc/web");
        let exact = Verify::Id(id.clone().into());
        let free = id.find("dc1").unwrap()..id.find("/svc").unwrap();
        assert!(exact.admits(&id) && web().admits(&id));
        for at in 0..=id.len() {
            for byte in 0..=127_u8 {
                let mut all = vec![[id.as_bytes()[..at].to_vec(), vec![byte]].concat()];
                all.push(all[0].clone());
                all[0].extend(&id.as_bytes()[at..]);
                if at < id.len() {
                    all[1].extend(&id.as_bytes()[at + 1..]);
                }
                for other in all {
                    let other = String::from_utf8(other).unwrap();
                    assert_eq!(exact.admits(&other), other == id, "{other:?}");
                    let in_datacenter = (free.start..=free.end).contains(&at) && byte != b'/';
                    if !in_datacenter {
                        assert_eq!(web().admits(&other), other == id, "{other:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn names_never_admit_an_id() {
        let id = "spiffe://d/x";
        assert!(!Verify::HostName.admits(id) && !Verify::Name(id.into()).admits(id));
    }

    #[test]
    fn what_no_certificate_can_have_is_refused_with_its_target() {
        let spiffe = |trust_domain: &str, service: &str| Verify::Spiffe {
            trust_domain: trust_domain.into(),
            service: service.into(),
        };
        for good in [
            Verify::HostName,
            web(),
            Verify::Id("spiffe://datapunk/a".into()),
            Verify::Id("spiffe://d/ns/default/dc/dc1/svc/Web_1".into()),
        ] {
            let all = Expectations::new().with("h", 1, Expect::of(good.clone()));
            assert_eq!(all.check(), Ok(()), "{good}");
        }
        for bad in [
            spiffe("", "web"),
            spiffe("Upper", "web"),
            spiffe("a/b", "web"),
            spiffe(&"a".repeat(256), "web"),
            spiffe("a", ""),
            spiffe("a", ".."),
            spiffe("a", "x/y"),
            spiffe("a", "x y"),
            Verify::Id("".into()),
            Verify::Id("spiffe://d".into()),
            Verify::Id("spiffe://d/".into()),
            Verify::Id("spiffe://d/a//b".into()),
            Verify::Id("spiffe://d/../b".into()),
            Verify::Id("https://d/a".into()),
            Verify::Id(format!("spiffe://d/{}", "a".repeat(LONGEST_ID)).into()),
        ] {
            let all = Expectations::new().with("[::1]", 8443, Expect::of(bad.clone()));
            let error = all.check().unwrap_err();
            assert_eq!(error.field, "expect.::1:8443", "{bad}");
        }
    }

    #[test]
    fn targets_are_found_as_urls_write_them() {
        let one = Expect::of(web());
        let all = Expectations::new().with("Web.Example", 443, one.clone()).with(
            "::1",
            8443,
            one.clone(),
        );
        assert_eq!(all.of("web.EXAMPLE", 443), one);
        assert_eq!(all.of("[::1]", 8443), one);
        assert_eq!(all.of("web.example", 444), Expect::default());
        let iterated: Vec<_> = all.iter().map(|(host, port, _)| (host, port)).collect();
        assert_eq!(iterated, [("::1", 8443), ("web.example", 443)]);
    }
}
