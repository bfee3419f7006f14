//! Rendering: a walk over the nodes of a template that writes, or notes what is missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::parse::{Node, Over, Value};
use super::{Data, LARGEST_OUTPUT, Missing, Query, Unrendered};
use crate::consul::name::ServiceName;
use crate::discovery::{Condition, Instance};

/// Most nodes that one rendering visits: ranges in ranges end.
const MOST_STEPS: u32 = 5_000_000;

/// What `.` is.
#[derive(Clone, Copy)]
enum Dot<'a> {
    Nothing,
    Instance(&'a str, &'a Instance),
    Service(&'a Arc<str>, &'a [Arc<str>]),
    Tag(&'a str),
}

struct Walk<'a> {
    data: &'a Data,
    out: String,
    missing: Missing,
    no_key: Option<Arc<str>>,
    steps: u32,
}

pub(super) fn all(nodes: &[Node], data: &Data) -> Result<String, Unrendered> {
    let mut walk =
        Walk { data, out: String::new(), missing: Missing::default(), no_key: None, steps: 0 };
    if !walk.nodes(nodes, Dot::Nothing) {
        return Err(Unrendered::TooLarge);
    }
    if walk.missing != Missing::default() {
        return Err(Unrendered::Missing(walk.missing));
    }
    match walk.no_key {
        Some(key) => Err(Unrendered::NoKey(key)),
        None => Ok(walk.out),
    }
}

impl<'a> Walk<'a> {
    /// `false`: it is too much.
    fn nodes(&mut self, nodes: &'a [Node], dot: Dot<'a>) -> bool {
        for node in nodes {
            self.steps += 1;
            if self.steps > MOST_STEPS || self.out.len() > LARGEST_OUTPUT {
                return false;
            }
            let fine = match node {
                Node::Text(text) => {
                    self.out.push_str(text);
                    true
                }
                Node::Value(value) => {
                    self.value(value, dot);
                    true
                }
                Node::If { value, body, otherwise } => {
                    let branch = if self.is_there(value, dot) { body } else { otherwise };
                    self.nodes(branch, dot)
                }
                Node::Range { over, body, otherwise } => self.range(over, body, otherwise, dot),
            };
            if !fine {
                return false;
            }
        }
        self.out.len() <= LARGEST_OUTPUT
    }

    fn range(
        &mut self,
        over: &'a Over,
        body: &'a [Node],
        otherwise: &'a [Node],
        dot: Dot<'a>,
    ) -> bool {
        let mut any = false;
        let mut each = |walk: &mut Self, dot| {
            any = true;
            walk.steps += 1;
            walk.nodes(body, dot)
        };
        let fine = match over {
            Over::Service(query) => {
                let name = query.name.as_str();
                let found = self.instances(query);
                found.iter().all(|instance| each(self, Dot::Instance(name, instance)))
            }
            Over::ServiceHere => {
                let Dot::Service(name, _) = dot else { return true };
                // A service that cannot be asked for is as good as one without instances.
                let found = match ServiceName::new(name) {
                    Ok(name) => self.instances(&Query { name, tag: None, datacenter: None }),
                    Err(_) => &[],
                };
                found.iter().all(|instance| each(self, Dot::Instance(name, instance)))
            }
            Over::Services => {
                if self.data.catalogue.is_none() {
                    self.missing.catalogue = true;
                }
                let all: Option<&'a BTreeMap<_, _>> = self.data.catalogue.as_ref();
                all.into_iter().flatten().all(|(name, tags)| each(self, Dot::Service(name, tags)))
            }
            Over::Tags => tags(dot).iter().all(|tag| each(self, Dot::Tag(tag))),
        };
        if any { fine } else { self.nodes(otherwise, dot) }
    }

    fn instances(&mut self, query: &Query) -> &'a [Instance] {
        if let Some(found) = self.data.services.get(query) {
            return found;
        }
        self.missing.services.insert(query.clone());
        &[]
    }

    fn is_there(&mut self, value: &'a Value, dot: Dot<'a>) -> bool {
        match value {
            Value::Tags => !tags(dot).is_empty(),
            Value::Key(path) => self.key(path).is_some_and(|text| !text.is_empty()),
            _ => {
                let before = self.out.len();
                self.value(value, dot);
                let wrote = self.out.len() > before;
                self.out.truncate(before);
                wrote
            }
        }
    }

    /// The value of a key; `None` when there is none or it is not known yet.
    fn key(&mut self, path: &Arc<str>) -> Option<&'a str> {
        let found = self.data.keys.get(path);
        if found.is_none() {
            self.missing.keys.insert(path.clone());
        }
        found?.as_deref()
    }

    fn value(&mut self, value: &'a Value, dot: Dot<'a>) {
        match (value, dot) {
            (Value::Key(path), _) => match self.key(path) {
                Some(text) => self.out.push_str(text),
                None => self.no_key = self.no_key.take().or_else(|| Some(path.clone())),
            },
            (Value::KeyOr(path, other), _) => {
                let text = self.key(path).unwrap_or(other);
                self.out.push_str(text);
            }
            (Value::Dot, Dot::Tag(tag)) => self.said(tag),
            (Value::Name, Dot::Service(name, _)) => self.said(name),
            (Value::Name, Dot::Instance(name, _)) => self.said(name),
            (_, Dot::Instance(_, instance)) => self.field(value, instance),
            // Not in this place; the parser has seen to it.
            _ => {}
        }
    }

    fn field(&mut self, value: &Value, instance: &'a Instance) {
        let place = instance.address.host_and_port();
        match value {
            Value::Id => self.said(&instance.id),
            Value::Address => self.said(place.map_or("", |(host, _)| host)),
            Value::Port => {
                if let Some((_, port)) = place {
                    self.out.push_str(&port.to_string());
                }
            }
            Value::Datacenter => self.said(&instance.cluster),
            Value::Status => self.out.push_str(match instance.condition {
                Condition::Unknown => "unknown",
                Condition::Passing => "passing",
                Condition::Warning => "warning",
                Condition::Critical => "critical",
            }),
            Value::Meta(key) => self.said(instance.metadata.get(key).map_or("", |value| &**value)),
            _ => {}
        }
    }

    /// What others say about themselves, without control characters.
    fn said(&mut self, text: &str) {
        self.out.extend(text.chars().filter(|c| !c.is_control()));
    }
}

fn tags(dot: Dot<'_>) -> &[Arc<str>] {
    match dot {
        Dot::Instance(_, instance) => &instance.tags,
        Dot::Service(_, tags) => tags,
        _ => &[],
    }
}
