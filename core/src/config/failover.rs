//! Failover between tiers as a person writes it. What the numbers mean is argued in
//! [`crate::policy::tiers`]; the integer form is [`crate::policy::tiers::Settings`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When load leaves a tier, when it comes back, and how much may leave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct FailoverConfig {
    /// `false`: strict order. The first tier with any available endpoint gets everything, nothing
    /// is held back and nobody panics. Default `true`.
    pub enabled: bool,
    /// Over-provisioning in percent: a tier with this share of its endpoints healthy, times this
    /// factor, carries that much of the load. 100–100 000. Default 200: a tier keeps everything
    /// until fewer than half of its endpoints are healthy. Envoy's default is 140.
    pub over_provisioning: u32,
    /// A tier with fewer available endpoints than this, in percent, is called at all of its
    /// endpoints, once all tiers together cannot carry the load. 0 switches it off. Default 50.
    pub panic_threshold: u32,
    /// `true`: calls to a tier in panic are refused instead. Default `false`.
    pub fail_on_panic: bool,
    /// Largest share of the load, in percent, that may go to tiers below the first. 0–100.
    /// Default 100: no cap.
    pub max_spill: u32,
    /// What happens to load above `max_spill`. Default shed.
    pub over_cap: OverCap,
    /// How long a tier that was lost must be usable again, without a break, before it is the first
    /// choice again. 0 switches it off. Default 10 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub hold_down: Duration,
    /// Failbacks that need not wait, so that the first ones after a quiet time are quick; one
    /// comes back per `hold_down`. 0–1000, default 2.
    pub free_failbacks: u32,
    /// How long a tier of unknown health is the first choice before a lower one is. 10 s in gRPC.
    /// Default 0: not at all.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub init_grace: Duration,
}

/// What happens to load that would spill beyond the cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OverCap {
    /// It is refused at once, with the numbers.
    #[default]
    Shed,
    /// It stays in the first tier, at any of its endpoints.
    Keep,
}

impl Default for FailoverConfig {
    fn default() -> Self {
        FailoverConfig {
            enabled: true,
            over_provisioning: 200,
            panic_threshold: 50,
            fail_on_panic: false,
            max_spill: 100,
            over_cap: OverCap::Shed,
            hold_down: Duration::from_secs(10),
            free_failbacks: 2,
            init_grace: Duration::ZERO,
        }
    }
}
