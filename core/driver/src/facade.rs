//! Metrics for programs that use the crate `metrics`: what was counted is handed to its recorder.
//! Nothing here is on the way of a call.

use metrics::{Key, Label, Level, Metadata, Recorder, Unit};
use origin_core::config::MetricsConfig;
use origin_core::metrics::{Bounds, FAMILIES, Kind, Labels, Value, page};
use origin_core::snapshot::Snapshot;

use crate::client::Client;
use crate::metering::Last;
use crate::runtime::Runtime;

const METADATA: Metadata<'static> = Metadata::new("origin", Level::INFO, None);

impl<R: Runtime> Client<R> {
    /// Hands all metrics to the present recorder of the crate `metrics`: counters and gauges as they
    /// are, of histograms what came since `last`, each duration as the bound of its bucket. Call it
    /// as often as the recorder is read, every ten seconds say.
    pub fn publish(&self, last: &mut Last) {
        let (now, settings) = (Box::new(self.hub.measure()), self.hub.config());
        metrics::with_recorder(|recorder| {
            hand_over(recorder, last.0.as_deref(), &now, &settings.metrics);
        });
        last.0 = Some(now);
    }
}

fn hand_over(
    recorder: &dyn Recorder,
    before: Option<&Snapshot>,
    now: &Snapshot,
    settings: &MetricsConfig,
) {
    let bounds = Bounds::new(&settings.buckets);
    let (then, now) = (before.map(|before| page(before, settings)), page(now, settings));
    for family in FAMILIES {
        let unit = family.name.ends_with("_seconds").then_some(Unit::Seconds);
        let series = now.series(family.name);
        if before.is_none() && series.is_some_and(|series| !series.is_empty()) {
            let (name, help) = (family.name.into(), family.help.into());
            match family.kind {
                Kind::Counter => recorder.describe_counter(name, unit, help),
                Kind::Gauge => recorder.describe_gauge(name, unit, help),
                Kind::Histogram => recorder.describe_histogram(name, unit, help),
            }
        }
        for (labels, value) in series.into_iter().flatten() {
            let key = key(family.name, family.labels, labels);
            match (family.kind, value) {
                (Kind::Counter, Value::Count(count)) => {
                    recorder.register_counter(&key, &METADATA).absolute(*count);
                }
                (Kind::Histogram, Value::Durations(durations)) => {
                    let then = then.as_ref().and_then(|then| then.series(family.name)?.get(labels));
                    let new = match then {
                        Some(Value::Durations(then)) => durations.since(then),
                        _ => **durations,
                    };
                    let histogram = recorder.register_histogram(&key, &METADATA);
                    let mut bound = 0.0;
                    let mut bounds = bounds.iter();
                    for count in new.counts() {
                        // What exceeds the last bound counts as that: longer, nobody knows.
                        bound = bounds.next().map_or(bound, |nanos| float(nanos) / 1e9);
                        if let (1.., Ok(count)) = (*count, usize::try_from(*count)) {
                            histogram.record_many(bound, count);
                        }
                    }
                }
                (_, value) => {
                    let value = match value {
                        Value::Count(count) => float(*count),
                        Value::Nanos(nanos) => float(*nanos) / 1e9,
                        Value::Millionths(share) => float(*share) / 1e6,
                        Value::Durations(_) => continue,
                    };
                    recorder.register_gauge(&key, &METADATA).set(value);
                }
            }
        }
    }
}

fn key(name: &'static str, names: &'static [&'static str], labels: &Labels<'_>) -> Key {
    let labels = names.iter().zip(labels);
    let labels: Vec<Label> =
        labels.map(|(name, value)| Label::new(*name, value.clone().into_owned())).collect();
    Key::from_parts(name, labels)
}

#[allow(clippy::cast_precision_loss)] // a report
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use metrics::{
        Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, KeyName, SharedString,
    };
    use origin_core::call::{Action, Call, CallSpec, Event};
    use origin_core::config::Rules;
    use origin_core::discovery::directory::Resolution;
    use origin_core::discovery::{Role, plan};
    use origin_core::outcome::Outcome;
    use origin_core::{Address, Service, Time};

    use super::*;

    /// Remembers the last number of each series, and how many durations were recorded.
    #[derive(Clone, Default)]
    struct Book(Arc<Mutex<BTreeMap<String, f64>>>);

    struct Line(Book, String);

    impl Book {
        fn line(&self, key: &Key) -> Arc<Line> {
            let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
            Arc::new(Line(self.clone(), key.name().to_owned() + &labels.collect::<String>()))
        }

        fn get(&self, series: &str) -> Option<f64> {
            self.0.lock().unwrap().get(series).copied()
        }
    }

    impl Recorder for Book {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.line(key))
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(self.line(key))
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(self.line(key))
        }
    }

    impl CounterFn for Line {
        fn increment(&self, _: u64) {}

        fn absolute(&self, value: u64) {
            self.0.0.lock().unwrap().insert(self.1.clone(), float(value));
        }
    }

    impl GaugeFn for Line {
        fn increment(&self, _: f64) {}
        fn decrement(&self, _: f64) {}

        fn set(&self, value: f64) {
            self.0.0.lock().unwrap().insert(self.1.clone(), value);
        }
    }

    impl HistogramFn for Line {
        fn record(&self, value: f64) {
            let name = format!("{} <= {value}", self.1);
            *self.0.0.lock().unwrap().entry(name).or_default() += 1.0;
        }
    }

    #[test]
    fn case_001_129_a_recorder_gets_what_was_counted_and_each_duration_once() {
        let mut service = Service::new("billing".into(), Rules::default(), 1);
        let at = Address::parse("http://10.0.0.1:80").unwrap();
        let endpoints = plan::injected(&[("near".into(), Role::Backup, at)], Some("near"));
        service.resolve(Time::ZERO, Resolution::Found(endpoints));
        let mut now = Time::from_millis(1);
        let mut call = |service: &mut Service, number| {
            let mut call = Call::new(CallSpec::default(), 1, number);
            let Action::Send { attempt, .. } = call.step(service, now, Event::Begin) else {
                panic!("not sent")
            };
            now = now.plus(Duration::from_millis(7));
            let done = call.step(service, now, Event::Finished(attempt, Outcome::status(200)));
            assert!(matches!(done, Action::Done(_)));
            Snapshot { at: now, services: vec![service.snapshot(now)], ..Snapshot::default() }
        };
        let (book, settings) = (Book::default(), MetricsConfig::default());
        let first = call(&mut service, 0);
        hand_over(&book, None, &first, &settings);
        let second = call(&mut service, 1);
        hand_over(&book, Some(&first), &second, &settings);
        hand_over(&book, Some(&second), &second, &settings);
        let get = |series: &str| book.get(series).unwrap_or_else(|| panic!("{series}"));
        assert_eq!(get("origin_calls_total service=billing result=answered"), 2.0);
        let time = "origin_call_duration_seconds service=billing result=answered <= 0.01";
        assert_eq!(get(time), 2.0);
        assert_eq!(get("origin_service_health_ratio service=billing"), 1.0);
    }
}
