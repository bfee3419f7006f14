//! What the operations of the bridge take and yield, and how that is read out of the envelope.
//! Where the clients' contract and the published server name a field differently, either name is
//! read and one is shown (contracts §3.5).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::envelope::{Bad, Data, Fields, Word};
use crate::correlation::Correlation;

/// The hash of a content.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hash {
    /// BLAKE3 as 64 lower-case hexadecimal digits.
    pub hash: String,
    /// How long the service took, in milliseconds.
    pub execution_time_ms: Option<f64>,
    /// What was hashed, in bytes.
    pub file_size_bytes: Option<u64>,
    /// `A` for under 1 ms, `B` up to 2 ms, `C` beyond.
    pub performance_grade: Option<String>,
    /// The id it was asked for under: what a line of a log has beside these numbers (001-102).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Correlation>,
}

impl Data for Hash {
    fn of(mut fields: Fields) -> Result<Hash, Bad> {
        let hash = fields.text(&["hash", "file_hash"])?.filter(|hash| !hash.is_empty());
        Ok(Hash {
            hash: hash.ok_or(Bad::Field("hash"))?,
            execution_time_ms: fields.number(&["execution_time_ms"])?,
            file_size_bytes: fields.count(&["file_size_bytes"])?,
            performance_grade: fields.text(&["performance_grade"])?,
            correlation_id: None,
        })
    }
}

/// What is to be stamped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewStamp {
    /// The hash of the file, from `generate_hash`.
    pub file_hash: String,
    /// Where the file is.
    pub file_path: String,
    /// How long it is, in bytes.
    pub file_size: u64,
    /// Its media type, if known.
    pub content_type: Option<String>,
    /// What the stamp says.
    pub stamp_data: Map<String, Value>,
    /// The text itself. The published server stamps a text and not a hash, so it needs this; the
    /// clients' contract does not have it.
    pub content: Option<String>,
}

impl NewStamp {
    /// What every stamp needs.
    #[must_use]
    pub fn new(file_hash: impl Into<String>, file_path: impl Into<String>, size: u64) -> NewStamp {
        NewStamp {
            file_hash: file_hash.into(),
            file_path: file_path.into(),
            file_size: size,
            ..NewStamp::default()
        }
    }

    /// Adds to what the stamp says.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> NewStamp {
        self.stamp_data.insert(name.into(), value.into());
        self
    }

    /// The text itself, for the published server.
    #[must_use]
    pub fn content(mut self, content: impl Into<String>) -> NewStamp {
        self.content = Some(content.into());
        self
    }
}

/// A stamp.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stamp {
    /// Its id; `None` from a server without a database.
    pub stamp_id: Option<String>,
    /// The hash of what is stamped.
    pub file_hash: String,
    /// The content with the stamp in it.
    pub stamped_content: Option<String>,
    /// The stamp alone.
    pub stamp: Option<String>,
    /// When it was made, as the service writes it.
    pub created_at: Option<String>,
    /// The operation that made it.
    pub op_id: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its version.
    pub version: Option<u64>,
    /// What else the service says.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Data for Stamp {
    fn of(mut fields: Fields) -> Result<Stamp, Bad> {
        let file_hash = fields.text(&["file_hash", "hash"])?.filter(|hash| !hash.is_empty());
        Ok(Stamp {
            file_hash: file_hash.ok_or(Bad::Field("file_hash"))?,
            stamp_id: fields.text(&["stamp_id", "id"])?,
            stamped_content: fields.text(&["stamped_content"])?,
            stamp: fields.text(&["stamp"])?,
            created_at: fields.text(&["created_at"])?,
            op_id: fields.text(&["op_id"])?,
            namespace: fields.text(&["namespace"])?,
            version: fields.count(&["version"])?,
            more: fields.0,
        })
    }
}

/// What came of checking the stamps in a content.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Validation {
    /// Whether all is well.
    pub validation_result: bool,
    /// Stamps found.
    pub stamps_found: u64,
    /// Those that are valid; counted in `details` where the service does not say it.
    pub valid_stamps: Option<u64>,
    /// Those that are not.
    pub invalid_stamps: Option<u64>,
    /// One entry per stamp.
    pub details: Vec<Value>,
    /// The hash of the content as it is, where the service says it.
    pub current_hash: Option<String>,
    /// Whether the service could check a part only.
    pub partial: bool,
}

impl Data for Validation {
    fn of(mut fields: Fields) -> Result<Validation, Bad> {
        let result = fields.truth(&["validation_result", "is_valid"])?;
        let details = fields.list(&["details", "validation_details"])?;
        let verdicts = details.iter().map(|one| one.get("is_valid").and_then(Value::as_bool));
        let verdicts: Option<Vec<bool>> = verdicts.collect();
        let counted = |word: bool| {
            let all = verdicts.as_ref()?.iter().filter(|valid| **valid == word);
            u64::try_from(all.count()).ok()
        };
        Ok(Validation {
            validation_result: result.ok_or(Bad::Field("validation_result"))?,
            stamps_found: fields.count(&["stamps_found"])?.ok_or(Bad::Field("stamps_found"))?,
            valid_stamps: fields.count(&["valid_stamps"])?.or_else(|| counted(true)),
            invalid_stamps: fields.count(&["invalid_stamps"])?.or_else(|| counted(false)),
            details,
            current_hash: fields.text(&["current_hash"])?,
            partial: false,
        })
    }
}

/// What came of making many stamps at once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Batch {
    /// All items.
    pub total: u64,
    /// Stamps made.
    pub successful: u64,
    /// Items that failed.
    pub failed: u64,
    /// One entry per item.
    pub results: Vec<Value>,
    /// Whether the service calls it a partial success.
    pub partial: bool,
}

impl Data for Batch {
    fn of(mut fields: Fields) -> Result<Batch, Bad> {
        let mut count =
            |names: &[&'static str; 2]| fields.count(names)?.ok_or(Bad::Field(names[0]));
        Ok(Batch {
            total: count(&["total", "total_items"])?,
            successful: count(&["successful", "successful_items"])?,
            failed: count(&["failed", "failed_items"])?,
            results: fields.list(&["results"])?,
            partial: false,
        })
    }
}

/// What is marked when an envelope says `partial`.
pub(super) trait MaybePartial {
    fn mark(self, word: Word) -> Self;
}

impl MaybePartial for Validation {
    fn mark(self, word: Word) -> Validation {
        Validation { partial: word == Word::Partial, ..self }
    }
}

impl MaybePartial for Batch {
    fn mark(self, word: Word) -> Batch {
        Batch { partial: word == Word::Partial, ..self }
    }
}

/// A question for intelligence about a context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IntelligenceQuery {
    /// What it is about.
    pub context: String,
    /// Whether patterns are wanted. Default `true`.
    pub include_patterns: bool,
    /// Whether relationships are wanted. Default `true`.
    pub include_relationships: bool,
    /// `false`: ask the service, whatever is remembered. Default `true`.
    #[serde(skip)]
    pub use_cache: bool,
}

impl IntelligenceQuery {
    /// Everything about this context.
    #[must_use]
    pub fn new(context: impl Into<String>) -> IntelligenceQuery {
        IntelligenceQuery {
            context: context.into(),
            include_patterns: true,
            include_relationships: true,
            use_cache: true,
        }
    }
}

/// A question for knowledge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KnowledgeQuery {
    /// What is asked.
    pub query: String,
    /// How deep to look. Default 3.
    pub max_depth: u32,
    /// What narrows it. Default none.
    pub filters: Option<Map<String, Value>>,
    /// `false`: ask the service, whatever is remembered. Default `true`.
    #[serde(skip)]
    pub use_cache: bool,
}

impl KnowledgeQuery {
    /// This question, three levels deep.
    #[must_use]
    pub fn new(query: impl Into<String>) -> KnowledgeQuery {
        KnowledgeQuery { query: query.into(), max_depth: 3, filters: None, use_cache: true }
    }
}

/// Which way to go from a node of the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Towards the root.
    Up,
    /// Away from it.
    Down,
    /// Both ways.
    #[default]
    Both,
}

/// A direction other than `up`, `down` and `both`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a direction is \"up\", \"down\" or \"both\"")]
pub struct BadDirection;

impl FromStr for Direction {
    type Err = BadDirection;

    fn from_str(text: &str) -> Result<Direction, BadDirection> {
        match text {
            "up" => Ok(Direction::Up),
            "down" => Ok(Direction::Down),
            "both" => Ok(Direction::Both),
            _ => Err(BadDirection),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Up => "up",
            Direction::Down => "down",
            Direction::Both => "both",
        })
    }
}

/// A walk through the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Walk {
    /// Where it begins.
    pub start_node: String,
    /// Which way it goes. Default both.
    pub direction: Direction,
    /// Most nodes it visits. Default 100.
    pub max_nodes: u32,
    /// `false`: ask the service, whatever is remembered. Default `true`.
    #[serde(skip)]
    pub use_cache: bool,
}

impl Walk {
    /// From this node both ways, over 100 nodes at most.
    #[must_use]
    pub fn new(start_node: impl Into<String>) -> Walk {
        Walk {
            start_node: start_node.into(),
            direction: Direction::Both,
            max_nodes: 100,
            use_cache: true,
        }
    }
}

/// What is known about a context.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Intelligence {
    /// The analysis: `analysis_type`, `confidence_score` (as text), `recommendations`.
    pub intelligence: Map<String, Value>,
    /// Patterns found.
    pub patterns: Vec<String>,
    /// Relationships found.
    pub relationships: Vec<Map<String, Value>>,
    /// How it was found.
    pub metadata: Map<String, Value>,
    /// Whether it only stands in for an answer that could not be had.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub degraded: bool,
}

impl Data for Intelligence {
    fn of(mut fields: Fields) -> Result<Intelligence, Bad> {
        fields.need("intelligence")?;
        let texts = fields.list(&["patterns"])?.into_iter().map(|pattern| match pattern {
            Value::String(text) => Ok(text),
            _ => Err(Bad::Field("patterns")),
        });
        let patterns = texts.collect::<Result<_, _>>()?;
        let maps = fields.list(&["relationships"])?.into_iter().map(|one| match one {
            Value::Object(map) => Ok(map),
            _ => Err(Bad::Field("relationships")),
        });
        let relationships = maps.collect::<Result<_, _>>()?;
        Ok(Intelligence {
            intelligence: fields.map(&["intelligence"])?,
            patterns,
            relationships,
            metadata: fields.map(&["metadata"])?,
            degraded: false,
        })
    }
}

/// What a question for knowledge found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Knowledge {
    /// What was found.
    pub results: Vec<Value>,
    /// How it hangs together.
    pub paths: Vec<Value>,
    /// How it was found.
    pub metadata: Map<String, Value>,
}

impl Data for Knowledge {
    fn of(mut fields: Fields) -> Result<Knowledge, Bad> {
        fields.need("results")?;
        Ok(Knowledge {
            results: fields.list(&["results"])?,
            paths: fields.list(&["paths"])?,
            metadata: fields.map(&["metadata"])?,
        })
    }
}

/// What a walk saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Seen {
    /// Nodes.
    pub nodes: Vec<Value>,
    /// What connects them.
    pub edges: Vec<Value>,
    /// How they were found.
    pub metadata: Map<String, Value>,
}

impl Data for Seen {
    fn of(mut fields: Fields) -> Result<Seen, Bad> {
        fields.need("nodes")?;
        Ok(Seen {
            nodes: fields.list(&["nodes"])?,
            edges: fields.list(&["edges"])?,
            metadata: fields.map(&["metadata"])?,
        })
    }
}

/// What the metrics of a service are inside an envelope: anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Anything(pub(super) Map<String, Value>);

impl Data for Anything {
    fn of(fields: Fields) -> Result<Anything, Bad> {
        Ok(Anything(fields.0))
    }
}
