//! The moments that a report refers to: phase boundaries, and the three that
//! the headline figures are measured from. Times are offsets from the start
//! of the run, the same zero that samples use.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One phase boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The name of the phase that begins here.
    pub name: String,
    /// When it begins.
    #[serde(rename = "at_ms", with = "as_millis")]
    pub at: Duration,
}

/// When what happened in a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The cluster that the client is in.
    pub local: String,
    /// The phases in order.
    pub phases: Vec<Mark>,
    /// The end of the last phase.
    #[serde(rename = "end_ms", with = "as_millis")]
    pub end: Duration,
    /// The first moment something was broken on purpose.
    pub disturbed_ms: Option<u64>,
    /// The moment the whole local cluster began to refuse connections.
    pub refused_ms: Option<u64>,
    /// The first moment after it when nothing was broken any more.
    pub recovered_ms: Option<u64>,
    /// The beginning of the phase after recovery: where it counts as calm.
    pub calm_ms: Option<u64>,
}

impl Timeline {
    /// The part of a run that the headline latencies are taken from: from the
    /// first disturbance to the calm after recovery. What is unknown is the
    /// start or the end of the run.
    #[must_use]
    pub fn window(&self) -> (Duration, Duration) {
        (
            self.disturbed_ms.map_or(Duration::ZERO, Duration::from_millis),
            self.calm_ms.map_or(self.end, Duration::from_millis),
        )
    }

    /// Each phase with its beginning and end.
    pub fn spans(&self) -> impl Iterator<Item = (&str, Duration, Duration)> {
        self.phases.iter().enumerate().map(|(index, mark)| {
            let until = self.phases.get(index + 1).map_or(self.end, |next| next.at);
            (mark.name.as_str(), mark.at, until.max(mark.at))
        })
    }
}

/// Durations as whole milliseconds, for files that people write.
pub(crate) mod as_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes whole milliseconds.
    pub(crate) fn serialize<S: Serializer>(span: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    /// Reads whole milliseconds.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        u64::deserialize(input).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_the_run_and_files_use_milliseconds() {
        let text = r#"{"local":"beta","phases":[{"name":"calm","at_ms":0},{"name":"storm","at_ms":40}],
            "end_ms":100,"disturbed_ms":40,"refused_ms":null,"recovered_ms":null,"calm_ms":null}"#;
        let timeline: Timeline = serde_json::from_str(text).unwrap();
        let spans: Vec<_> = timeline.spans().collect();
        assert_eq!(spans[0], ("calm", Duration::ZERO, Duration::from_millis(40)));
        assert_eq!(spans[1].2, Duration::from_millis(100));
        assert_eq!(timeline.window().0, Duration::from_millis(40));
        assert_eq!(timeline.window().1, timeline.end);
    }
}
