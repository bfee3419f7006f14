//! A subscriber that keeps what it is told, for the thread of one test: the calls of a test run on
//! its own thread on every runtime.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) target: String,
    pub(crate) text: String,
    pub(crate) fields: BTreeMap<String, String>,
}

impl Line {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    pub(crate) fn event(&self) -> &str {
        self.field("event").unwrap_or_default()
    }
}

/// One span.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    pub(crate) parent: Option<u64>,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) closed: bool,
}

impl Span {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

#[derive(Default)]
struct Kept {
    lines: Vec<Line>,
    spans: Vec<Span>,
    entered: Vec<u64>,
    handles: BTreeMap<u64, u64>,
}

/// What a test sees.
#[derive(Clone, Default)]
pub(crate) struct Capture {
    kept: Arc<Mutex<Kept>>,
    most: Option<Level>,
}

/// Does this while everything that is said on this thread is kept.
pub(crate) fn during<T>(then: impl FnOnce(&Capture) -> T) -> T {
    up_to(Level::TRACE, then)
}

/// The same with lines and spans up to a level.
pub(crate) fn up_to<T>(level: Level, then: impl FnOnce(&Capture) -> T) -> T {
    let capture = Capture { most: Some(level), ..Capture::default() };
    tracing::subscriber::with_default(capture.clone(), || then(&capture))
}

impl Capture {
    fn with<T>(&self, then: impl FnOnce(&mut Kept) -> T) -> T {
        then(&mut self.kept.lock().unwrap())
    }

    /// The lines since the last look.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.with(|kept| std::mem::take(&mut kept.lines))
    }

    /// Those of calls, as level and text.
    pub(crate) fn calls(&self) -> Vec<(Level, String)> {
        let lines = self.lines().into_iter();
        lines.filter(|l| l.target == "origin::call").map(|l| (l.level, l.text)).collect()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.with(|kept| kept.spans.clone())
    }

    /// Everything that was said, as one text.
    pub(crate) fn everything(&self) -> String {
        self.with(|kept| format!("{:?} {:?}", kept.lines, kept.spans))
    }
}

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("origin::")
            && self.most.is_some_and(|l| *metadata.level() <= l)
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        self.most.map(Into::into)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        self.with(|kept| {
            let id = kept.spans.len() as u64 + 1;
            let parent = match attributes.parent() {
                Some(parent) => Some(parent.into_u64()),
                None if attributes.is_contextual() => kept.entered.last().copied(),
                None => None,
            };
            let name = attributes.metadata().name();
            kept.spans.push(Span { id, name, parent, fields: fields.0, closed: false });
            kept.handles.insert(id, 1);
            Id::from_u64(id)
        })
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.with(|kept| kept.spans[span.into_u64() as usize - 1].fields.extend(fields.0));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let text = fields.0.remove("message").unwrap_or_default();
        let metadata = event.metadata();
        self.with(|kept| {
            let (level, target) = (*metadata.level(), metadata.target().to_owned());
            kept.lines.push(Line { level, target, text, fields: fields.0 });
        });
    }

    fn enter(&self, span: &Id) {
        self.with(|kept| kept.entered.push(span.into_u64()));
    }

    fn exit(&self, _: &Id) {
        self.with(|kept| kept.entered.pop());
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.with(|kept| *kept.handles.entry(id.into_u64()).or_default() += 1);
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        self.with(|kept| {
            let handles = kept.handles.entry(id.into_u64()).or_default();
            *handles -= 1;
            let over = *handles == 0;
            kept.spans[id.into_u64() as usize - 1].closed |= over;
            over
        })
    }
}
