//! The checked form of a [`CacheConfig`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Reason;
use crate::config::field::{At, WEEK, at_least_one, scaled};
use crate::config::{CacheConfig, CacheEviction, ConfigError};
use crate::time::nanos;

const ONE: u64 = 1_000_000;

/// A checked [`CacheConfig`], integers only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    pub(super) enabled: bool,
    pub(super) ttl: u64,
    pub(super) max_entries: u32,
    pub(super) max_bytes: u64,
    pub(super) max_entry: u64,
    pub(super) eviction: CacheEviction,
    share_ppm: u64,
    pub(super) negative_ttl: u64,
    pub(super) revalidate: u64,
    pub(super) on_error: u64,
    on_breaker: u64,
    on_budget: u64,
    on_deadline: u64,
    /// The longest of the bounds above but the first: what an entry is kept for.
    pub(super) longest: u64,
    pub(super) coalesce: bool,
    pub(super) lease: u64,
    /// 0: never.
    pub(super) cleanup: u64,
    pub(super) respect: bool,
    pub(super) keep: u64,
    pub(super) vary: Arc<[Arc<str>]>,
    pub(super) shared: bool,
    pub(super) namespace: Arc<str>,
    pub(super) index_entries: u32,
}

impl Settings {
    /// Checks `config` and compiles it; `path` is where it stands, for the error.
    ///
    /// # Errors
    /// The first field that is zero, out of range or contradicts another.
    pub fn of(config: &CacheConfig, path: &str) -> Result<Settings, ConfigError> {
        let at = At(path);
        at.span("ttl", config.ttl)?;
        at.within("max_entries", config.max_entries, 1..=10_000_000)?;
        at.within("max_bytes", config.max_bytes, 1 << 10..=1 << 40)?;
        at.within("max_entry_bytes", config.max_entry_bytes, 1..=1 << 40)?;
        at.ordered(("max_entry_bytes", config.max_entry_bytes), ("max_bytes", config.max_bytes))?;
        at.within("evict_share", config.evict_share, 0.001..=0.9)?;
        at.span_or_zero("negative_ttl", config.negative_ttl)?;
        at.span_or_zero("stale_while_revalidate", config.stale_while_revalidate)?;
        at.span_or_zero("stale_if_error", config.stale_if_error)?;
        at.span_or_zero("stale_if_breaker_open", config.stale_if_breaker_open)?;
        at.span_or_zero("stale_if_budget_empty", config.stale_if_budget_empty)?;
        at.span_or_zero("stale_if_deadline", config.stale_if_deadline)?;
        at.span("lease", config.lease)?;
        at.span_or_zero("cleanup", config.cleanup)?;
        at.span_or_zero("keep_validators", config.keep_validators)?;
        if config.vary.len() > 16 {
            let reason = format!("{} headers, more than 16", config.vary.len());
            return Err(at.refuse("vary", reason));
        }
        for (index, name) in config.vary.iter().enumerate() {
            at.header(&format!("vary[{index}]"), name)?;
        }
        let shared = &config.shared;
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        if !(1..=64).contains(&shared.namespace.len()) || !shared.namespace.bytes().all(plain) {
            let shown: String = shared.namespace.chars().take(64).collect();
            let reason = format!("{shown:?} is not 1–64 letters, digits, '-', '_' or '.'");
            return Err(at.refuse("shared.namespace", reason));
        }
        at.within("shared.index_entries", shared.index_entries, 1..=1_000_000)?;
        Ok(Settings::compile(config))
    }

    /// Total: whatever the configuration says, the result is safe to run.
    fn compile(config: &CacheConfig) -> Settings {
        let span = |span| nanos(std::cmp::min(span, WEEK));
        let (on_error, on_breaker) = (config.stale_if_error, config.stale_if_breaker_open);
        let (on_budget, on_deadline) = (config.stale_if_budget_empty, config.stale_if_deadline);
        let mut vary: Vec<Arc<str>> =
            config.vary.iter().map(|name| name.to_ascii_lowercase().into()).collect();
        vary.sort();
        vary.dedup();
        Settings {
            enabled: config.enabled,
            ttl: at_least_one(config.ttl),
            max_entries: config.max_entries.clamp(1, 10_000_000),
            max_bytes: config.max_bytes.max(1),
            max_entry: config.max_entry_bytes.clamp(1, config.max_bytes.max(1)),
            eviction: config.eviction,
            share_ppm: scaled(config.evict_share, 1_000_000).clamp(1, ONE / 10 * 9),
            negative_ttl: span(config.negative_ttl),
            revalidate: span(config.stale_while_revalidate),
            on_error: span(on_error),
            on_breaker: span(on_breaker),
            on_budget: span(on_budget),
            on_deadline: span(on_deadline),
            longest: span(on_breaker.max(on_budget).max(on_deadline)),
            coalesce: config.coalesce,
            lease: at_least_one(config.lease),
            cleanup: nanos(config.cleanup),
            respect: config.respect_headers,
            keep: span(config.keep_validators),
            vary: vary.into(),
            shared: config.shared.enabled,
            namespace: config.shared.namespace.as_str().into(),
            index_entries: config.shared.index_entries.max(1),
        }
    }

    /// Whether nothing is cached.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        !self.enabled
    }

    /// Whether there is a second level.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.enabled && self.shared
    }

    /// Whether HTTP headers are heeded.
    #[must_use]
    pub const fn respects_headers(&self) -> bool {
        self.respect
    }

    /// The request headers that belong to every key of plain HTTP, in lower case and sorted.
    #[must_use]
    pub fn vary(&self) -> &[Arc<str>] {
        &self.vary
    }

    /// So many entries of `count` go at once.
    pub(super) fn batch(&self, count: u32) -> u32 {
        let share = u64::from(count) * self.share_ppm / ONE;
        // At least one, or a small cache would never shrink; never all, the newest is wanted.
        u32::try_from(share).unwrap_or(u32::MAX).max(1).min(count.saturating_sub(1))
    }

    /// The share that goes at once, in millionths.
    pub(super) const fn share_ppm(&self) -> u64 {
        self.share_ppm
    }

    /// How stale an answer may be for `reason`, where neither it nor its entry says more.
    pub(super) const fn bound(&self, reason: Reason) -> u64 {
        match reason {
            Reason::Fresh | Reason::Asked => 0,
            Reason::Revalidating => self.revalidate,
            Reason::Error => self.on_error,
            Reason::BreakerOpen => self.on_breaker,
            Reason::BudgetEmpty => self.on_budget,
            Reason::DeadlineDying => self.on_deadline,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings::compile(&CacheConfig::default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn refused(change: impl FnOnce(&mut CacheConfig)) -> String {
        let mut config = CacheConfig::default();
        change(&mut config);
        // Whatever is refused must still compile to something that runs.
        let _ = Settings::compile(&config);
        Settings::of(&config, "cache").unwrap_err().field
    }

    #[test]
    fn the_default_configuration_is_sound() {
        assert_eq!(Settings::of(&CacheConfig::default(), "c"), Ok(Settings::default()));
        assert_eq!(Settings::default().ttl, 300_000_000_000);
    }

    /// Every number at 0, at its largest and as NaN.
    #[test]
    fn bad_input_is_refused_by_its_field() {
        let (none, long) = (Duration::ZERO, Duration::MAX);
        for span in [none, long] {
            assert_eq!(refused(|c| c.ttl = span), "cache.ttl");
            assert_eq!(refused(|c| c.lease = span), "cache.lease");
        }
        assert_eq!(refused(|c| c.negative_ttl = long), "cache.negative_ttl");
        let field = "cache.stale_while_revalidate";
        assert_eq!(refused(|c| c.stale_while_revalidate = long), field);
        assert_eq!(refused(|c| c.stale_if_error = long), "cache.stale_if_error");
        assert_eq!(refused(|c| c.stale_if_breaker_open = long), "cache.stale_if_breaker_open");
        assert_eq!(refused(|c| c.stale_if_budget_empty = long), "cache.stale_if_budget_empty");
        assert_eq!(refused(|c| c.stale_if_deadline = long), "cache.stale_if_deadline");
        assert_eq!(refused(|c| c.cleanup = long), "cache.cleanup");
        assert_eq!(refused(|c| c.keep_validators = long), "cache.keep_validators");
        for entries in [0, u32::MAX] {
            assert_eq!(refused(|c| c.max_entries = entries), "cache.max_entries");
            let field = "cache.shared.index_entries";
            assert_eq!(refused(|c| c.shared.index_entries = entries), field);
        }
        for bytes in [0, 1, u64::MAX] {
            assert_eq!(refused(|c| c.max_bytes = bytes), "cache.max_bytes");
        }
        for bytes in [0, (64 << 20) + 1, u64::MAX] {
            assert_eq!(refused(|c| c.max_entry_bytes = bytes), "cache.max_entry_bytes");
        }
        for share in [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(refused(|c| c.evict_share = share), "cache.evict_share");
        }
        assert_eq!(refused(|c| c.vary = vec!["a b".into()]), "cache.vary[0]");
        assert_eq!(refused(|c| c.vary = vec!["a".into(); 17]), "cache.vary");
        for name in ["", "a:b", "a b", &"x".repeat(65)] {
            assert_eq!(refused(|c| c.shared.namespace = name.into()), "cache.shared.namespace");
        }
    }

    #[test]
    fn a_batch_is_at_least_one_and_never_all() {
        let settings = Settings::default();
        let batches = [1, 2, 3, 4, 5, 10, 1_001].map(|count| settings.batch(count));
        assert_eq!(batches, [0, 1, 1, 1, 1, 2, 200]);
        let greedy = CacheConfig { evict_share: 0.9, ..CacheConfig::default() };
        assert_eq!(Settings::of(&greedy, "c").unwrap().batch(2), 1);
        assert_eq!(settings.batch(u32::MAX), 858_993_459);
    }
}
