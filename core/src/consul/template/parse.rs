//! Reading a template: text and actions, nested, with the place of every field checked.

use std::sync::Arc;

use super::{BadTemplate, DEEPEST, LARGEST_TEMPLATE, Problem, Query};
use crate::consul::kv::Key;
use crate::consul::name::{self, ServiceName};

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Text(Arc<str>),
    Value(Value),
    Range { over: Over, body: Vec<Node>, otherwise: Vec<Node> },
    If { value: Value, body: Vec<Node>, otherwise: Vec<Node> },
}

/// What a range goes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Instances of a service named in the template.
    Service(Query),
    /// Instances of the service at hand.
    ServiceHere,
    Services,
    Tags,
}

/// What is printed or looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Dot,
    Id,
    Name,
    Address,
    Port,
    Datacenter,
    Status,
    Tags,
    Meta(Arc<str>),
    Key(Arc<str>),
    KeyOr(Arc<str>, Arc<str>),
}

/// What `.` is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dot {
    Nothing,
    Instance,
    Service,
    Tag,
}

/// A block that is open.
struct Open {
    line: u32,
    /// What `.` is inside, and around.
    dot: Dot,
    around: Dot,
    head: Head,
    body: Vec<Node>,
    otherwise: Option<Vec<Node>>,
}

enum Head {
    Range(Over),
    If(Value),
}

impl Open {
    fn close(self) -> Node {
        let (body, otherwise) = (self.body, self.otherwise.unwrap_or_default());
        match self.head {
            Head::Range(over) => Node::Range { over, body, otherwise },
            Head::If(value) => Node::If { value, body, otherwise },
        }
    }
}

pub(super) fn template(text: &str) -> Result<Vec<Node>, BadTemplate> {
    if text.len() > LARGEST_TEMPLATE {
        return Err(BadTemplate { line: 1, problem: Problem::TooLarge });
    }
    let mut line = 1_u32;
    let mut done = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (plain, action) = match rest.split_once("{{") {
            Some((plain, action)) => (plain, Some(action)),
            None => (rest, None),
        };
        let cut = |text: &str| u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX);
        let before = action
            .and_then(|a| a.strip_prefix('-'))
            .is_some_and(|a| a.starts_with(char::is_whitespace));
        let mut shown = if trim { plain.trim_start() } else { plain };
        if before {
            shown = shown.trim_end();
        }
        if !shown.is_empty() {
            push(&mut done, &mut open, Node::Text(shown.into()));
        }
        line = line.saturating_add(cut(plain));
        let Some(action) = action else { break };
        let at = |problem| BadTemplate { line, problem };
        let (inside, tail) = close(action).ok_or_else(|| at(Problem::Unclosed))?;
        let inside_lines = cut(inside);
        let bare = if before { &inside[1..] } else { inside };
        let after = bare.strip_suffix('-').filter(|b| b.ends_with(char::is_whitespace));
        trim = after.is_some();
        let bare = after.unwrap_or(bare).trim();
        // A comment stands alone in its action.
        if !(bare.starts_with("/*") && bare.ends_with("*/")) {
            let words = words(bare).ok_or_else(|| at(Problem::Unclosed))?;
            act(&words, bare, line, &mut done, &mut open).map_err(at)?;
        }
        line = line.saturating_add(inside_lines);
        rest = tail;
    }
    match open.first() {
        Some(block) => Err(BadTemplate { line: block.line, problem: Problem::NoEnd }),
        None => Ok(done),
    }
}

fn push(done: &mut Vec<Node>, open: &mut [Open], node: Node) {
    match open.last_mut() {
        None => done.push(node),
        Some(block) => block.otherwise.as_mut().unwrap_or(&mut block.body).push(node),
    }
}

/// Splits at the `}}` that is not within a text or a comment.
fn close(action: &str) -> Option<(&str, &str)> {
    let start = action.trim_start_matches('-').trim_start();
    if start.starts_with("/*") {
        let end = action.find("*/")? + 2;
        let (tail, gap) = (action.get(end..)?, action.get(end..)?.find("}}")?);
        let between = tail.get(..gap)?;
        return (between.trim_matches(|c: char| c.is_whitespace() || c == '-').is_empty())
            .then(|| (action.get(..end + gap).unwrap_or(""), tail.get(gap + 2..).unwrap_or("")));
    }
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in action.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if action.get(at..).is_some_and(|rest| rest.starts_with("}}")) => {
                return Some((action.get(..at)?, action.get(at + 2..)?));
            }
            None => {}
        }
    }
    None
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Plain(String),
    Text(Arc<str>),
}

/// The words of an action; `None` when a text is not closed.
fn words(action: &str) -> Option<Vec<Word>> {
    let mut found = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        if first == '"' || first == '`' {
            let mut text = String::new();
            let mut escaped = false;
            let body = rest.get(1..)?;
            let mut end = None;
            for (at, c) in body.char_indices() {
                match c {
                    _ if escaped => {
                        text.push(match c {
                            'n' => '\n',
                            't' => '\t',
                            '\\' | '"' => c,
                            _ => return None,
                        });
                        escaped = false;
                    }
                    '\\' if first == '"' => escaped = true,
                    _ if c == first => {
                        end = Some(at);
                        break;
                    }
                    _ => text.push(c),
                }
            }
            found.push(Word::Text(text.into()));
            rest = body.get(end? + 1..)?;
        } else {
            let end = rest
                .find(|c: char| c.is_whitespace() || c == '"' || c == '`')
                .unwrap_or(rest.len());
            found.push(Word::Plain(rest.get(..end)?.to_owned()));
            rest = rest.get(end..)?;
        }
        rest = rest.trim_start();
    }
    Some(found)
}

fn act(
    words: &[Word],
    bare: &str,
    line: u32,
    done: &mut Vec<Node>,
    open: &mut Vec<Open>,
) -> Result<(), Problem> {
    let dot = match open.last() {
        None => Dot::Nothing,
        // In the else of a range there is no element.
        Some(Open { head: Head::Range(_), otherwise: Some(_), around, .. }) => *around,
        Some(block) => block.dot,
    };
    let plain = |index: usize| match words.get(index) {
        Some(Word::Plain(word)) => word.as_str(),
        _ => "",
    };
    match (plain(0), words.len()) {
        ("end", 1) => {
            let block = open.pop().ok_or(Problem::Stray)?;
            push(done, open, block.close());
        }
        ("else", 1) => {
            let block =
                open.last_mut().filter(|block| block.otherwise.is_none()).ok_or(Problem::Stray)?;
            block.otherwise = Some(Vec::new());
        }
        ("range" | "if", _) if open.len() >= DEEPEST => return Err(Problem::TooDeep),
        ("range", _) => {
            let (over, inside) = over(words.get(1..).unwrap_or(&[]), bare, dot)?;
            let head = Head::Range(over);
            open.push(Open {
                line,
                dot: inside,
                around: dot,
                head,
                body: Vec::new(),
                otherwise: None,
            });
        }
        ("if", _) => {
            let value = value(words.get(1..).unwrap_or(&[]), bare, dot)?;
            let head = Head::If(value);
            open.push(Open { line, dot, around: dot, head, body: Vec::new(), otherwise: None });
        }
        _ => match value(words, bare, dot)? {
            Value::Tags => return Err(unknown(bare)),
            value => push(done, open, Node::Value(value)),
        },
    }
    Ok(())
}

fn unknown(bare: &str) -> Problem {
    Problem::Unknown(short(bare))
}

fn short(text: &str) -> Arc<str> {
    text.chars().take(40).collect::<String>().into()
}

fn over(words: &[Word], bare: &str, dot: Dot) -> Result<(Over, Dot), Problem> {
    let here =
        |fine: bool, word: &str| if fine { Ok(()) } else { Err(Problem::NotHere(short(word))) };
    match words {
        [Word::Plain(word)] if word == "services" => Ok((Over::Services, Dot::Service)),
        [Word::Plain(word)] if word == ".Tags" => {
            here(matches!(dot, Dot::Instance | Dot::Service), word)?;
            Ok((Over::Tags, Dot::Tag))
        }
        [Word::Plain(word), Word::Plain(name)] if word == "service" && name == ".Name" => {
            here(dot == Dot::Service, name)?;
            Ok((Over::ServiceHere, Dot::Instance))
        }
        [Word::Plain(word), Word::Text(text)] if word == "service" => {
            let query = query(text).ok_or_else(|| Problem::Argument(short(text)))?;
            Ok((Over::Service(query), Dot::Instance))
        }
        _ => Err(unknown(bare)),
    }
}

/// `[tag.]name[@datacenter]`.
fn query(text: &str) -> Option<Query> {
    let (rest, datacenter) = match text.rsplit_once('@') {
        Some((rest, dc)) => (rest, Some(dc)),
        None => (text, None),
    };
    let (tag, name) = match rest.rsplit_once('.') {
        Some((tag, name)) => (Some(tag), name),
        None => (None, rest),
    };
    let fine = datacenter.is_none_or(|dc| name::datacenter(dc).is_ok())
        && tag.is_none_or(|tag| name::tag(tag).is_ok());
    let name = ServiceName::new(name).ok().filter(|_| fine)?;
    Some(Query { name, tag: tag.map(Into::into), datacenter: datacenter.map(Into::into) })
}

fn value(words: &[Word], bare: &str, dot: Dot) -> Result<Value, Problem> {
    let here = |fine: bool, value: Value, word: &str| {
        if fine { Ok(value) } else { Err(Problem::NotHere(short(word))) }
    };
    let instance = dot == Dot::Instance;
    let key = |text: &Arc<str>| match Key::new(text) {
        Ok(_) => Ok(text.clone()),
        Err(_) => Err(Problem::Argument(short(text))),
    };
    match words {
        [Word::Plain(word)] => match word.as_str() {
            "." => here(dot == Dot::Tag, Value::Dot, word),
            ".ID" => here(instance, Value::Id, word),
            ".Name" => here(matches!(dot, Dot::Instance | Dot::Service), Value::Name, word),
            ".Address" => here(instance, Value::Address, word),
            ".Port" => here(instance, Value::Port, word),
            ".Datacenter" => here(instance, Value::Datacenter, word),
            ".Status" => here(instance, Value::Status, word),
            ".Tags" => here(matches!(dot, Dot::Instance | Dot::Service), Value::Tags, word),
            _ => {
                let name = word.strip_prefix(".Meta.").ok_or_else(|| unknown(bare))?;
                let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if name.is_empty() || !name.chars().all(fine) {
                    return Err(unknown(bare));
                }
                here(instance, Value::Meta(name.into()), word)
            }
        },
        [Word::Plain(index), Word::Plain(meta), Word::Text(name)]
            if index == "index" && meta == ".Meta" =>
        {
            here(instance, Value::Meta(name.clone()), meta)
        }
        [Word::Plain(word), Word::Text(path)] if word == "key" => key(path).map(Value::Key),
        [Word::Plain(word), Word::Text(path), Word::Text(other)] if word == "keyOrDefault" => {
            key(path).map(|path| Value::KeyOr(path, other.clone()))
        }
        _ => Err(unknown(bare)),
    }
}
