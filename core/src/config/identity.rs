//! Who this program is, as a person writes it: certificate, key and authorities in PEM files, and
//! the token of a service account. No secret stands here, only where it is. What is done with it is
//! in [`crate::identity`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Who this program is to the services it calls, from files that are read again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct IdentityConfig {
    /// Certificates of the authorities that vouch for services, PEM; no others count. Empty, the
    /// default: those the program gives, or Mozilla's list.
    pub ca: String,
    /// Certificate of this program, PEM, and what is between it and the authority. Empty, the
    /// default: the identity the program gives, or none.
    pub cert: String,
    /// Its key, PEM. Required with `cert`; may be the same file.
    pub key: String,
    /// The token of a service account (000-21), one line of at most 16 KiB: in Kubernetes
    /// `/var/run/secrets/kubernetes.io/serviceaccount/token`. Empty, the default: the token the
    /// program gives, or none.
    pub token_file: String,
    /// The services that are sent the token, as `Authorization: Bearer`; nobody else is.
    pub services: Vec<String>,
    /// From one look at the files to the next, 100 ms – 7 days. Default 30 s. PEM files that have
    /// changed and are still the same a second later are put in force while the client runs; a
    /// changed token is used at once. A token that says when it ends (a JWT) is looked at ahead
    /// of that, too.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub poll: Duration,
    /// A certificate that has no successor this long before it expires is warned of, once; a tenth
    /// of its life if that is shorter. 1 s – 7 days. Default 1 day.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub warning: Duration,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        IdentityConfig {
            ca: String::new(),
            cert: String::new(),
            key: String::new(),
            token_file: String::new(),
            services: Vec::new(),
            poll: Duration::from_secs(30),
            warning: Duration::from_secs(86_400),
        }
    }
}
