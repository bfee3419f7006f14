//! SPIFFE ids of Consul Connect: who a certificate belongs to.
//!
//! `spiffe://{trust domain}/ns/{namespace}/dc/{datacenter}/svc/{service}`. Compared exactly, the
//! trust domain included: the `authorize` endpoint of Consul 1.8.7 does not look at it and allows
//! the same service of a foreign domain, so the check has to be here. Percent signs are refused:
//! an id that has two spellings cannot be compared.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest id (SPIFFE §2.4 allows 2048 bytes).
const LONGEST: usize = 2_048;

/// The identity of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SpiffeId {
    /// The trust domain: which cluster of Consul.
    pub trust_domain: Arc<str>,
    /// The namespace; `default` without Consul Enterprise.
    pub namespace: Arc<str>,
    /// The datacenter.
    pub datacenter: Arc<str>,
    /// The service.
    pub service: Arc<str>,
}

/// Why an identity is not the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Stranger {
    /// It is no SPIFFE id of Consul.
    #[error("the certificate has no SPIFFE id of Consul")]
    Unreadable,
    /// Another trust domain.
    #[error("the certificate is of another trust domain")]
    TrustDomain,
    /// Another namespace.
    #[error("the certificate is of another namespace")]
    Namespace,
    /// Another datacenter.
    #[error("the certificate is of another datacenter")]
    Datacenter,
    /// Another service.
    #[error("the certificate is of another service")]
    Service,
}

impl SpiffeId {
    /// The id of `service` in `datacenter`, in the default namespace; `None` when a part cannot
    /// stand in one.
    #[must_use]
    pub fn new(trust_domain: &str, datacenter: &str, service: &str) -> Option<SpiffeId> {
        let id = SpiffeId {
            trust_domain: trust_domain.into(),
            namespace: "default".into(),
            datacenter: datacenter.into(),
            service: service.into(),
        };
        (SpiffeId::parse(&id.to_string()).as_ref() == Some(&id)).then_some(id)
    }

    /// Reads an id as certificates have it. The trust domain is compared in lower case, as SPIFFE
    /// asks for it; everything else must be exact.
    #[must_use]
    pub fn parse(uri: &str) -> Option<SpiffeId> {
        if uri.len() > LONGEST {
            return None;
        }
        let (scheme, rest) = uri.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("spiffe") {
            return None;
        }
        let mut parts = rest.split('/');
        let trust_domain = parts.next()?.to_ascii_lowercase();
        let domain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
        if trust_domain.is_empty() || trust_domain.len() > 255 || !trust_domain.bytes().all(domain)
        {
            return None;
        }
        let mut labelled = |label: &str| {
            let value = (parts.next()? == label).then(|| parts.next()).flatten()?;
            let path = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
            let good =
                !value.is_empty() && value.bytes().all(path) && value != "." && value != "..";
            good.then(|| Arc::from(value))
        };
        let (namespace, datacenter, service) = (labelled("ns")?, labelled("dc")?, labelled("svc")?);
        parts.next().is_none().then(|| SpiffeId {
            trust_domain: trust_domain.into(),
            namespace,
            datacenter,
            service,
        })
    }

    /// Whether a certificate with the URI names `uris` belongs to this identity. A certificate of
    /// SPIFFE has exactly one; with several, none is believed.
    ///
    /// # Errors
    /// What is different.
    pub fn verify<'a>(&self, uris: impl IntoIterator<Item = &'a str>) -> Result<(), Stranger> {
        let mut uris = uris.into_iter();
        let only = uris.next().filter(|_| uris.next().is_none());
        let found = only.and_then(SpiffeId::parse).ok_or(Stranger::Unreadable)?;
        match () {
            () if found.trust_domain != self.trust_domain => Err(Stranger::TrustDomain),
            () if found.namespace != self.namespace => Err(Stranger::Namespace),
            () if found.datacenter != self.datacenter => Err(Stranger::Datacenter),
            () if found.service != self.service => Err(Stranger::Service),
            () => Ok(()),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SpiffeId { trust_domain, namespace, datacenter, service } = self;
        write!(f, "spiffe://{trust_domain}/ns/{namespace}/dc/{datacenter}/svc/{service}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WEB: &str =
        "spiffe://6c2937e8-0c31-6e0c-a8f9-ccc8775f212f.consul/ns/default/dc/dc1/svc/web";

    #[test]
    fn reads_what_consul_writes() {
        let id = SpiffeId::parse(WEB).unwrap();
        assert_eq!((&*id.datacenter, &*id.service, &*id.namespace), ("dc1", "web", "default"));
        assert_eq!(id.to_string(), WEB);
        assert_eq!(SpiffeId::new(&id.trust_domain, "dc1", "web"), Some(id));
        assert!(
            SpiffeId::new("a b", "dc1", "web").is_none()
                && SpiffeId::new("a", "x/y", "web").is_none()
        );
        for bad in [
            "",
            "spiffe://",
            "https://t/ns/default/dc/dc1/svc/web",
            "spiffe://t/ns/default/dc/dc1/svc/",
            "spiffe://t/ns/default/dc/dc1/svc/web/",
            "spiffe://t/ns/default/dc/dc1/svc/web?x",
            "spiffe://t/ns/default/dc/dc1/svc/..",
            "spiffe://t/dc/dc1/ns/default/svc/web",
            "spiffe://u@t/ns/default/dc/dc1/svc/web",
            "spiffe://t:1/ns/default/dc/dc1/svc/web",
            "spiffe://t/ns/default/dc/dc1/svc/w%65b",
            "spiffe://t",
        ] {
            assert!(SpiffeId::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn only_the_very_same_identity_is_accepted() {
        let id = SpiffeId::parse(WEB).unwrap();
        assert_eq!(id.verify([WEB]), Ok(()));
        let swap = |from: &str, to: &str| id.verify([WEB.replace(from, to).as_str()]);
        assert_eq!(swap("6c29", "6c28"), Err(Stranger::TrustDomain));
        assert_eq!(swap("default", "other"), Err(Stranger::Namespace));
        assert_eq!(swap("dc1", "dc2"), Err(Stranger::Datacenter));
        assert_eq!(swap("/web", "/webs"), Err(Stranger::Service));
        assert_eq!(swap("/web", "/Web"), Err(Stranger::Service));
        assert_eq!(swap("6c2937e8", "6C2937E8"), Ok(()));
        assert_eq!(id.verify([]), Err(Stranger::Unreadable));
        assert_eq!(id.verify([WEB, WEB]), Err(Stranger::Unreadable));
        assert_eq!(id.verify(["https://web"]), Err(Stranger::Unreadable));
    }

    proptest! {
        #[test]
        fn any_text_is_survived_and_what_is_read_round_trips(text in "\\PC{0,60}|spiffe://[a-z.]{1,9}/ns/[a-z]{1,3}/dc/[a-z0-9]{1,3}/svc/[a-z.-]{1,9}") {
            if let Some(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(SpiffeId::parse(&id.to_string()), Some(id.clone()));
                prop_assert_eq!(id.verify([text.as_str()]), Ok(()));
            }
        }
    }
}
