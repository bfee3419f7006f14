//! The XML that S3 speaks: a few elements with text, nothing else. Reads that into a tree and
//! refuses what could make reading it expensive or surprising: document types and with them
//! entities of one's own, deep nesting, endless elements. Attributes, comments and processing
//! instructions are passed over.
//!
//! Not a reader of XML in general: name spaces are dropped with their prefixes, and what is not
//! well-formed inside a part that is passed over goes unnoticed.

use std::borrow::Cow;

/// Deepest nesting; S3 has four.
const DEEPEST: usize = 16;
/// Most elements: a page of 1 000 keys has about 10 000.
const MOST: usize = 100_000;

/// Why a document is refused. Never repeats any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadXml {
    /// It is larger than allowed.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    /// Its bytes are no UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// It ends too early.
    #[error("it is cut off")]
    Cut,
    /// It is not well-formed.
    #[error("it is not well-formed XML")]
    Malformed,
    /// It has a document type.
    #[error("it has a document type, which is refused")]
    DocumentType,
    /// It names an entity that XML does not have by itself.
    #[error("it uses an unknown entity")]
    Entity,
    /// It is nested too deep.
    #[error("it is nested deeper than {DEEPEST}")]
    TooDeep,
    /// It has too many elements.
    #[error("it has more than {MOST} elements")]
    TooMany,
    /// It is XML, but not what was asked for.
    #[error("it has another shape than expected")]
    Shape,
}

/// An element.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    /// Its name, without prefix.
    pub(crate) name: &'a str,
    /// All text directly in it.
    pub(crate) text: Cow<'a, str>,
    pub(crate) children: Vec<Element<'a>>,
}

impl<'a> Element<'a> {
    /// The first child of this name.
    pub(crate) fn child(&self, name: &str) -> Option<&Element<'a>> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first child of this name.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| &*child.text)
    }
}

/// Reads a document of at most `limit` bytes.
pub(crate) fn read(bytes: &[u8], limit: usize) -> Result<Element<'_>, BadXml> {
    if bytes.len() > limit {
        return Err(BadXml::TooLong(limit));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| BadXml::NotUtf8)?;
    Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(text), count: 0 }.document()
}

struct Reader<'a> {
    rest: &'a str,
    count: usize,
}

impl<'a> Reader<'a> {
    fn document(mut self) -> Result<Element<'a>, BadXml> {
        let mut open: Vec<Element<'a>> = Vec::new();
        let mut root = None;
        loop {
            let (text, tag) = match self.rest.split_once('<') {
                Some((text, rest)) => {
                    self.rest = rest;
                    (text, true)
                }
                None => (std::mem::take(&mut self.rest), false),
            };
            match open.last_mut() {
                Some(element) => append(&mut element.text, unescape(text)?),
                None if text.trim().is_empty() => {}
                None => return Err(BadXml::Malformed),
            }
            if !tag {
                return if open.is_empty() { root.ok_or(BadXml::Cut) } else { Err(BadXml::Cut) };
            }
            if self.aside(&mut open)? {
                continue;
            }
            if let Some(rest) = self.rest.strip_prefix('/') {
                let (name, rest) = rest.split_once('>').ok_or(BadXml::Cut)?;
                self.rest = rest;
                let closed = open.pop().ok_or(BadXml::Malformed)?;
                if local(name.trim_end())? != closed.name {
                    return Err(BadXml::Malformed);
                }
                self.close(closed, &mut open, &mut root);
                continue;
            }
            if root.is_some() {
                return Err(BadXml::Malformed);
            }
            let (name, empty) = self.tag()?;
            self.count += 1;
            if self.count > MOST {
                return Err(BadXml::TooMany);
            }
            if open.len() >= DEEPEST {
                return Err(BadXml::TooDeep);
            }
            let element = Element { name, ..Element::default() };
            if empty {
                self.close(element, &mut open, &mut root);
            } else {
                open.push(element);
            }
        }
    }

    fn close(&self, closed: Element<'a>, open: &mut [Element<'a>], root: &mut Option<Element<'a>>) {
        match open.last_mut() {
            Some(parent) => parent.children.push(closed),
            None => *root = Some(closed),
        }
    }

    /// Passes over what is no element, and takes in what is text after all. Whether it was that.
    fn aside(&mut self, open: &mut [Element<'a>]) -> Result<bool, BadXml> {
        let after = |text: &'a str, end: &str| text.split_once(end).ok_or(BadXml::Cut);
        if let Some(rest) = self.rest.strip_prefix('?') {
            self.rest = after(rest, "?>")?.1;
        } else if let Some(rest) = self.rest.strip_prefix("!--") {
            self.rest = after(rest, "-->")?.1;
        } else if let Some(rest) = self.rest.strip_prefix("![CDATA[") {
            let (text, rest) = after(rest, "]]>")?;
            self.rest = rest;
            let element = open.last_mut().ok_or(BadXml::Malformed)?;
            append(&mut element.text, Cow::Borrowed(text));
        } else if self.rest.starts_with('!') {
            return Err(BadXml::DocumentType);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// The rest of an opening tag: its name, and whether it closes itself.
    fn tag(&mut self) -> Result<(&'a str, bool), BadXml> {
        let mut quote = None;
        for (place, c) in self.rest.bytes().enumerate() {
            match (quote, c) {
                (Some(open), c) if open == c => quote = None,
                (Some(_), _) => {}
                (None, b'"' | b'\'') => quote = Some(c),
                (None, b'<') => return Err(BadXml::Malformed),
                (None, b'>') => {
                    let (inside, rest) = self.rest.split_at(place);
                    self.rest = &rest[1..];
                    let (inside, empty) = match inside.strip_suffix('/') {
                        Some(inside) => (inside, true),
                        None => (inside, false),
                    };
                    let name = inside.split(|c: char| c.is_ascii_whitespace()).next();
                    return Ok((local(name.unwrap_or(""))?, empty));
                }
                _ => {}
            }
        }
        Err(BadXml::Cut)
    }
}

/// A name without its prefix.
fn local(name: &str) -> Result<&str, BadXml> {
    let fine = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if name.is_empty() || name.len() > 256 || !name.chars().all(fine) {
        return Err(BadXml::Malformed);
    }
    Ok(name.rsplit(':').next().unwrap_or(name))
}

fn append<'a>(text: &mut Cow<'a, str>, more: Cow<'a, str>) {
    if text.is_empty() {
        *text = more;
    } else if !more.is_empty() {
        text.to_mut().push_str(&more);
    }
}

/// Text with its entities replaced. Numbers are taken for what they are, also those that XML
/// itself does not allow: a key may hold any character.
fn unescape(text: &str) -> Result<Cow<'_, str>, BadXml> {
    let Some((first, mut rest)) = text.split_once('&') else { return Ok(Cow::Borrowed(text)) };
    let mut out = String::with_capacity(text.len());
    out.push_str(first);
    loop {
        let (name, after) = rest.split_once(';').ok_or(BadXml::Entity)?;
        let number = |digits: &str, radix| {
            let plain = digits.len() <= 8 && digits.chars().all(|c| c.is_digit(radix));
            let code = u32::from_str_radix(digits, radix).ok().filter(|_| plain);
            code.and_then(char::from_u32)
        };
        let character = match name {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => match name.strip_prefix('#') {
                Some(hex) if hex.starts_with(['x', 'X']) => number(&hex[1..], 16),
                Some(digits) => number(digits, 10),
                None => None,
            },
        };
        out.push(character.ok_or(BadXml::Entity)?);
        match after.split_once('&') {
            Some((text, next)) => {
                out.push_str(text);
                rest = next;
            }
            None => {
                out.push_str(after);
                return Ok(Cow::Owned(out));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Result<Element<'_>, BadXml> {
        read(text.as_bytes(), 1 << 20)
    }

    #[test]
    fn reads_what_s3_writes() {
        let text = "\u{feff}<?xml version=\"1.0\"?>\n<!-- > --><s3:Error xmlns:s3='http://x/>'>\
                    <Code>No<!-- -->SuchKey</Code>\n<Empty/><Key>a &lt;&amp;&#x1;&#233;<![CDATA[<b>]]>\
                    </Key ></s3:Error>\n";
        let root = of(text).unwrap();
        assert_eq!((root.name, root.children.len()), ("Error", 3));
        assert_eq!(root.text_of("Code"), Some("NoSuchKey"));
        assert_eq!(root.text_of("Key"), Some("a <&\u{1}é<b>"));
        assert_eq!(root.text_of("Empty"), Some(""));
        assert_eq!(root.text_of("Nothing"), None);
    }

    #[test]
    fn refuses_what_is_broken_or_dear() {
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\">]><x>&a;</x>";
        for (text, why) in [
            ("", BadXml::Cut),
            ("  ", BadXml::Cut),
            ("text", BadXml::Malformed),
            ("<a>", BadXml::Cut),
            ("<a", BadXml::Cut),
            ("<a b='>", BadXml::Cut),
            ("<a></b>", BadXml::Malformed),
            ("<a/><b/>", BadXml::Malformed),
            ("</a>", BadXml::Malformed),
            ("<a/>text", BadXml::Malformed),
            ("< a/>", BadXml::Malformed),
            ("<a><![CDATA[</a>", BadXml::Cut),
            ("<![CDATA[x]]><a/>", BadXml::Malformed),
            ("<a>&nbsp;</a>", BadXml::Entity),
            ("<a>&#xd800;</a>", BadXml::Entity),
            ("<a>&#+65;</a>", BadXml::Entity),
            ("<a>&#;&</a>", BadXml::Entity),
            (bomb, BadXml::DocumentType),
            ("<!ELEMENT a>", BadXml::DocumentType),
        ] {
            assert_eq!(of(text), Err(why), "{text}");
        }
        assert_eq!(read(b"<a>\xff</a>", 99), Err(BadXml::NotUtf8));
        assert_eq!(read(b"<a></a>", 6), Err(BadXml::TooLong(6)));
        assert!(of(&format!("{}{}", "<a>".repeat(16), "</a>".repeat(16))).is_ok());
        assert_eq!(of(&"<a>".repeat(17)), Err(BadXml::TooDeep));
        let many = format!("<r>{}</r>", "<a/>".repeat(MOST));
        assert_eq!(of(&many), Err(BadXml::TooMany));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes, 64);
        }

        #[test]
        fn any_tags_are_survived(parts in proptest::collection::vec(
            prop::sample::select(vec!["<a>", "</a>", "<b/>", "<", ">", "&", "amp;", "#x41;", "<!--",
                "-->", "<![CDATA[", "]]>", "<?", "?>", "x", "'", "\"", "<!D", "ß"]), 0..12)) {
            let _ = of(&parts.concat());
        }

        /// What is escaped comes back, whatever it is.
        #[test]
        fn text_round_trips(text in "\\PC{0,40}") {
            let escaped: String = text.chars().map(|c| match c {
                '<' => "&lt;".to_owned(),
                '&' => "&#38;".to_owned(),
                c => c.to_string(),
            }).collect();
            let document = format!("<a><b>{escaped}</b></a>");
            let root = of(&document).unwrap();
            prop_assert_eq!(root.text_of("b"), Some(&*text));
        }
    }
}
