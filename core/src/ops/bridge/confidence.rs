//! How much an answer of `get_intelligence` is worth, by the formula of the newer clients
//! (contracts §3.9): four parts, each 0–1, weighed 35, 30, 20 and 15 to the hundred. In parts per
//! million, so that the same answer has the same score everywhere. It is never asked for by this
//! library itself; whoever does not want it does not call it.

use serde::Serialize;
use serde_json::Value;

use super::data::Intelligence;

const ONE: u64 = 1_000_000;

/// How good a score is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Below 0.2.
    Minimal,
    /// From 0.2.
    Low,
    /// From 0.5.
    Medium,
    /// From 0.8.
    High,
}

/// A score and its parts, in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Confidence {
    /// All together.
    pub score_ppm: u64,
    /// How good that is.
    pub level: Level,
    /// `analysis_type` and `recommendations` are there, the latter in more than 100 characters.
    pub data_quality_ppm: u64,
    /// Ten patterns, of 100 characters in the mean.
    pub pattern_strength_ppm: u64,
    /// `nodes_analyzed`, `files_scanned` and `tree_loaded` are there, and the tree is loaded.
    pub coverage_ppm: u64,
    /// Twenty relationships.
    pub relationship_density_ppm: u64,
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

fn share(part: u64, all: u64) -> u64 {
    (part.min(all) * ONE) / all.max(1)
}

impl Intelligence {
    /// How much it is worth. A stand-in is worth nothing.
    ///
    /// ```
    /// use origin_core::ops::bridge::{Intelligence, Level};
    ///
    /// let mut known = Intelligence::default();
    /// assert_eq!(known.confidence().level, Level::Minimal);
    /// known.intelligence.insert("analysis_type".into(), "full".into());
    /// known.patterns = vec!["p".repeat(100); 10];
    /// // Half of 0.35, all of 0.30.
    /// assert_eq!(known.confidence().score_ppm, 475_000);
    /// ```
    #[must_use]
    pub fn confidence(&self) -> Confidence {
        let there = |map: &serde_json::Map<String, Value>, names: &[&str]| {
            let found = names.iter().filter(|name| map.get(**name).is_some_and(|v| !v.is_null()));
            share(count(found.count()), count(names.len()))
        };
        let recommendations = self.intelligence.get("recommendations").and_then(Value::as_str);
        let detailed = recommendations.is_some_and(|text| text.chars().nth(100).is_some());
        let quality = there(&self.intelligence, &["analysis_type", "recommendations"])
            + if detailed { ONE / 5 } else { 0 };
        let patterns = count(self.patterns.len());
        let length = self.patterns.iter().map(|pattern| count(pattern.chars().count()));
        let length = length.fold(0, u64::saturating_add);
        let strength =
            u64::midpoint(share(patterns, 10), share(length, patterns.saturating_mul(100)));
        let loaded = self.metadata.get("tree_loaded").and_then(Value::as_bool) == Some(true);
        let coverage = there(&self.metadata, &["nodes_analyzed", "files_scanned", "tree_loaded"])
            + if loaded { ONE * 3 / 10 } else { 0 };
        let worth = |part: u64| if self.degraded { 0 } else { part.min(ONE) };
        let (quality, strength) = (worth(quality), worth(strength));
        let (coverage, density) =
            (worth(coverage), worth(share(count(self.relationships.len()), 20)));
        let score = (quality * 35 + strength * 30 + coverage * 20 + density * 15) / 100;
        Confidence {
            score_ppm: score,
            level: match score {
                800_000.. => Level::High,
                500_000.. => Level::Medium,
                200_000.. => Level::Low,
                _ => Level::Minimal,
            },
            data_quality_ppm: quality,
            pattern_strength_ppm: strength,
            coverage_ppm: coverage,
            relationship_density_ppm: density,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn known(
        patterns: &[String],
        relations: usize,
        intelligence: Value,
        metadata: Value,
    ) -> Intelligence {
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        Intelligence {
            intelligence: map(intelligence),
            patterns: patterns.to_vec(),
            relationships: vec![serde_json::Map::new(); relations],
            metadata: map(metadata),
            degraded: false,
        }
    }

    #[test]
    fn the_best_answer_is_worth_all_and_a_stand_in_nothing() {
        let mut best = known(
            &vec!["p".repeat(100); 10],
            20,
            json!({"analysis_type": "x", "recommendations": "r".repeat(101)}),
            json!({"nodes_analyzed": 1, "files_scanned": 1, "tree_loaded": true}),
        );
        let worth = best.confidence();
        assert_eq!((worth.score_ppm, worth.level), (ONE, Level::High));
        best.degraded = true;
        let worth = best.confidence();
        assert_eq!((worth.score_ppm, worth.level), (0, Level::Minimal));
    }

    proptest! {
        #[test]
        fn the_score_is_that_of_the_formula_in_floats(
            patterns in prop::collection::vec("[a-zü]{0,150}", 0..14),
            relations in 0_usize..30,
            kind: bool, advice in 0_usize..150, nodes: bool, loaded: Option<bool>,
        ) {
            let mut intelligence = json!({});
            if kind { intelligence["analysis_type"] = json!("x"); }
            if advice > 0 { intelligence["recommendations"] = json!("r".repeat(advice)); }
            let mut metadata = json!({});
            if nodes { metadata["nodes_analyzed"] = json!(3); }
            if let Some(loaded) = loaded { metadata["tree_loaded"] = json!(loaded); }
            let worth = known(&patterns, relations, intelligence, metadata).confidence();
            let bit = |yes: bool| f64::from(u8::from(yes));
            let count = patterns.len() as f64;
            let mean = patterns.iter().map(|p| p.chars().count() as f64).sum::<f64>() / count.max(1.0);
            let quality = (bit(kind) + bit(advice > 0)) / 2.0 + 0.2 * bit(advice > 100);
            let strength = f64::midpoint((count / 10.0).min(1.0), (mean / 100.0).min(1.0));
            let coverage = (bit(nodes) + bit(loaded.is_some())) / 3.0 + 0.3 * bit(loaded == Some(true));
            let density = (relations as f64 / 20.0).min(1.0);
            let score = quality.min(1.0) * 0.35 + strength * 0.30 + coverage.min(1.0) * 0.20 + density * 0.15;
            prop_assert!((score * 1e6 - worth.score_ppm as f64).abs() < 3.0, "{score} {worth:?}");
        }
    }
}
