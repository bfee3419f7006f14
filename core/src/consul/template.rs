//! A file rendered from what Consul knows, rewritten only when that changes (003-17): the part of
//! consul-template that configuration files of balancers use, and nothing else.
//!
//! | construct | meaning |
//! |---|---|
//! | `{{ range service "web" }}…{{ else }}…{{ end }}` | for each instance; `"tag.web@dc2"` too |
//! | `{{ range services }}…{{ end }}` | for each service |
//! | `{{ range .Tags }}{{ . }}{{ end }}` | for each tag of an instance or service |
//! | `{{ .Address }}` `{{ .Port }}` `{{ .ID }}` `{{ .Name }}` `{{ .Datacenter }}` `{{ .Status }}` | of an instance; `.Name` of a service |
//! | `{{ .Meta.zone }}`, `{{ index .Meta "a-b" }}` | metadata of an instance; nothing if absent |
//! | `{{ if .Meta.zone }}…{{ else }}…{{ end }}` | whether a value is there and not empty |
//! | `{{ key "path" }}`, `{{ keyOrDefault "path" "text" }}` | a value of the key store |
//! | `{{ range service .Name }}` inside `range services` | all instances of all services |
//! | `{{- … -}}`, `{{/* … */}}` | white space cut off; comment |
//!
//! Anything else is refused with its line when the template is read, not when it is rendered. A
//! rendering that lacks something says what ([`Missing`]), and nothing is written until it is
//! there: a balancer is better off with yesterday's file than with half of today's. When that is
//! done is in [`renderer`]. Control
//! characters in what services say about themselves are left out, so that a tag cannot add a
//! line to a configuration file.

mod gather;
mod parse;
mod render;
pub mod renderer;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::name::ServiceName;
use crate::discovery::Instance;
use parse::Node;

/// Largest template, in bytes.
pub const LARGEST_TEMPLATE: usize = 1 << 20;
/// Largest output, in bytes.
pub const LARGEST_OUTPUT: usize = 16 << 20;
/// Deepest nesting of `range` and `if`.
pub const DEEPEST: usize = 16;

/// A template that was understood.
///
/// ```
/// use std::sync::Arc;
/// use origin_core::consul::ServiceName;
/// use origin_core::consul::template::{Data, Query, Template, Unrendered};
/// use origin_core::discovery::{Instance, Role};
/// use origin_core::Address;
///
/// let text = "{{ range service \"web\" }}server {{ .Address }}:{{ .Port }};\n{{ end }}";
/// let template = Template::parse(text).unwrap();
/// let mut data = Data::default();
/// let Err(Unrendered::Missing(missing)) = template.render(&data) else { panic!() };
/// let web = missing.services.into_iter().next().unwrap();
/// let address = Address::parse("http://10.0.0.1:80").unwrap();
/// data.services.insert(web, vec![Instance::new("dc1".into(), Role::Primary, address)]);
/// assert_eq!(template.render(&data).unwrap(), "server 10.0.0.1:80;\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    nodes: Vec<Node>,
}

/// Why a template was refused: the line, and what stands there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct BadTemplate {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// Too many bytes.
    #[error("the template has more than 1 MiB")]
    TooLarge,
    /// `{{` without `}}`, or a text without its quote.
    #[error("an action is not closed")]
    Unclosed,
    /// `range` or `if` without `end`.
    #[error("this range or if has no end")]
    NoEnd,
    /// `end` or `else` without `range` or `if`, or a second `else`.
    #[error("an end or else belongs to nothing")]
    Stray,
    /// Too many `range` and `if` in each other.
    #[error("range and if are nested more than 16 deep")]
    TooDeep,
    /// A construct that is not supported.
    #[error("{0:?} is not supported")]
    Unknown(Arc<str>),
    /// A field that is not there in this place.
    #[error("{0:?} means nothing here")]
    NotHere(Arc<str>),
    /// A service, tag, datacenter or key that cannot be one.
    #[error("{0:?} is not a service or key")]
    Argument(Arc<str>),
}

/// Names the instances that a template asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Query {
    /// The service.
    pub name: ServiceName,
    /// Only those with this tag.
    pub tag: Option<Arc<str>>,
    /// In this datacenter.
    pub datacenter: Option<Arc<str>>,
}

/// What there is to render from. What was asked for and does not exist is an empty list or
/// `None`, not missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data {
    /// Instances of services.
    pub services: BTreeMap<Query, Vec<Instance>>,
    /// All services with their tags.
    pub catalogue: Option<BTreeMap<Arc<str>, Vec<Arc<str>>>>,
    /// Values of the key store; `None`: there is no such key.
    pub keys: BTreeMap<Arc<str>, Option<Arc<str>>>,
}

/// What has to be fetched before a template can be rendered. Once it is there, more may turn out
/// to be missing (the instances of every service).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Instances of these.
    pub services: BTreeSet<Query>,
    /// The list of all services.
    pub catalogue: bool,
    /// These keys.
    pub keys: BTreeSet<Arc<str>>,
}

/// Why there is no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrendered {
    /// Something was not fetched yet.
    #[error(
        "still to be fetched: {} services, {} keys{}", .0.services.len(), .0.keys.len(),
        if .0.catalogue { ", the catalogue" } else { "" }
    )]
    Missing(Missing),
    /// A key does not exist, and the template gives no other text for it.
    #[error("there is no key {0:?}")]
    NoKey(Arc<str>),
    /// More than 16 MiB of output, or ranges over ranges without end.
    #[error("the output is too large")]
    TooLarge,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// The first thing that is not understood, with its line.
    pub fn parse(text: &str) -> Result<Template, BadTemplate> {
        parse::template(text).map(|nodes| Template { nodes })
    }

    /// The output for `data`.
    ///
    /// # Errors
    /// What is missing, or too large.
    pub fn render(&self, data: &Data) -> Result<String, Unrendered> {
        render::all(&self.nodes, data)
    }
}
