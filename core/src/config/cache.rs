//! The response cache as a person writes it. The machine is [`crate::cache`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which entries leave when there are too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CacheEviction {
    /// When a limit is exceeded, the share `evict_share` of the entries goes at once, those that
    /// were not used for longest. What OnexTree's clients expect: 1001 entries become 801.
    #[default]
    Batch,
    /// One at a time, the one that was not used for longest.
    One,
    /// One at a time, and a key that is asked for once displaces no key that is asked for often
    /// (S3-FIFO). The best share of hits where popularity is uneven, and the cheapest hit.
    ScanResistant,
}

/// A cache of answers, kept in this program and, where `shared` says so, in Redis as well.
///
/// Other caches in these terms: the OnexTree clients are the defaults; a single value for five
/// minutes is `max_entries = 1`; the Consul client of Datapunk is `ttl = "30s"`,
/// `max_entries = 100`, `eviction = "one"`, and its two levels `shared.enabled = true` besides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// `false`: nothing is looked up, stored or counted. Default `true`: an operation is cached
    /// only when it says itself that it may be.
    pub enabled: bool,
    /// How long an answer is fresh, counted from when it was stored; reading does not extend it.
    /// A shorter one takes effect on what is stored already. Default 5 minutes.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub ttl: Duration,
    /// Most entries. 1–10 000 000, default 1 000.
    pub max_entries: u32,
    /// Most bytes, as the entries say they weigh. 1 KiB–1 TiB, default 64 MiB.
    pub max_bytes: u64,
    /// Heaviest entry that is stored, in bytes, at most `max_bytes`. Default 1 MiB.
    pub max_entry_bytes: u64,
    /// `batch`, `one` or `scan_resistant`. Default `batch`.
    pub eviction: CacheEviction,
    /// With `batch`: the share that goes at once, rounded down but at least one entry.
    /// 0.001–0.9, kept to 10⁻⁶, default 0.2.
    pub evict_share: f64,
    /// How long "there is none" (404, 410) is fresh. Default 0 s: it is not stored.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub negative_ttl: Duration,
    /// How long past its freshness an answer may be used while one caller fetches a new one
    /// (RFC 5861 §3). Default 0 s: not at all.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub stale_while_revalidate: Duration,
    /// How long past its freshness an answer may be used when the peer fails or answers with a
    /// 5xx (RFC 5861 §4). Default 0 s: not at all.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub stale_if_error: Duration,
    /// The same when no breaker lets the call through. Default 0 s: not at all.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub stale_if_breaker_open: Duration,
    /// The same when the retry budget, a rate or a concurrency limit has nothing left for the
    /// call. Default 0 s: not at all.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub stale_if_budget_empty: Duration,
    /// The same when the deadline of the call is about to pass. Default 0 s: not at all.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub stale_if_deadline: Duration,
    /// Whether equal requests in flight become one. Default `true`. (A stale answer is always
    /// revalidated by one caller only.)
    pub coalesce: bool,
    /// How long others wait for the one that fetches before one of them takes over; its deadline,
    /// if that is earlier. Default 30 s.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub lease: Duration,
    /// How often dead entries are looked for; those that are read leave anyway. 0 s: never.
    /// Default 1 h.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub cleanup: Duration,
    /// Whether `Cache-Control`, `Expires`, `Age` and `Vary` are heeded, as a private cache does
    /// (RFC 9111). Default `false`: what an operation says is all there is.
    pub respect_headers: bool,
    /// With `respect_headers`: how long past its freshness an answer with an `ETag` or a
    /// `Last-Modified` is kept to ask whether it still holds. It is not served. Default 1 h.
    #[serde(with = "crate::time::text")]
    #[cfg_attr(feature = "schema", schemars(with = "crate::config::schema::Span"))]
    pub keep_validators: Duration,
    /// Request headers whose values belong to the key of every plain HTTP request, at most 16.
    /// Default none.
    pub vary: Vec<String>,
    /// The second level.
    pub shared: SharedCacheConfig,
}

/// The second level of the cache: Redis, shared by the instances of a program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct SharedCacheConfig {
    /// Whether there is one. Default `false`.
    pub enabled: bool,
    /// What all its keys begin with, before a `:`. 1–64 letters, digits, `-`, `_` or `.`;
    /// default `origin`.
    pub namespace: String,
    /// Most entries that can be found by one tag, and by path altogether; those that expire
    /// first are deleted when there are more. 1–1 000 000, default 10 000.
    pub index_entries: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        CacheConfig {
            enabled: true,
            ttl: Duration::from_secs(300),
            max_entries: 1_000,
            max_bytes: 64 << 20,
            max_entry_bytes: 1 << 20,
            eviction: CacheEviction::Batch,
            evict_share: 0.2,
            negative_ttl: Duration::ZERO,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            stale_if_breaker_open: Duration::ZERO,
            stale_if_budget_empty: Duration::ZERO,
            stale_if_deadline: Duration::ZERO,
            coalesce: true,
            lease: Duration::from_secs(30),
            cleanup: Duration::from_secs(3_600),
            respect_headers: false,
            keep_validators: Duration::from_secs(3_600),
            vary: Vec::new(),
            shared: SharedCacheConfig::default(),
        }
    }
}

impl Default for SharedCacheConfig {
    fn default() -> Self {
        SharedCacheConfig { enabled: false, namespace: "origin".to_owned(), index_entries: 10_000 }
    }
}
