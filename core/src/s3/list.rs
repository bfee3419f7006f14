//! Listing a bucket, page by page (`ListObjectsV2`): what is asked, and what a page says.

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::date;
use super::error::{Code, StorageError};
use super::object::ETag;
use super::xml::{self, BadXml, Element};
use crate::ops::encode_query;
use crate::time::Wall;

/// Largest page read, in bytes: 1 000 keys of 1 KiB, every byte percent-encoded, and the rest.
pub const LARGEST: usize = 8 << 20;

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Only keys that begin so. Empty: all.
    pub prefix: String,
    /// Keys are put together up to this text, as by folders with `/`. Empty: they are not.
    pub delimiter: String,
    /// Only keys after this one, in the order of their bytes. Empty: from the first.
    pub start_after: String,
    /// Most entries of a page, at most 1 000. 0: as many as storage gives.
    pub page: u16,
}

impl ListOptions {
    /// All keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(prefix: impl Into<String>) -> ListOptions {
        ListOptions { prefix: prefix.into(), ..ListOptions::default() }
    }

    /// The query of a page; `after` is what the page before ended with.
    pub(crate) fn query(&self, after: Option<&str>) -> String {
        // Sorted, as the signature has it.
        let mut query = String::new();
        let mut put = |name: &str, value: &str| {
            if !value.is_empty() {
                query.push_str(if query.is_empty() { "?" } else { "&" });
                query.push_str(name);
                query.push('=');
                query.push_str(&encode_query(value));
            }
        };
        put("continuation-token", after.unwrap_or(""));
        put("delimiter", &self.delimiter);
        // A key may hold what XML cannot.
        put("encoding-type", "url");
        put("list-type", "2");
        if self.page > 0 {
            put("max-keys", &self.page.min(1000).to_string());
        }
        put("prefix", &self.prefix);
        put("start-after", &self.start_after);
        query
    }
}

/// An object as a listing has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its entity tag, where storage tells it.
    pub etag: Option<ETag>,
    /// When it was written, where storage tells it.
    pub modified: Option<Wall>,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The objects, in the order of their keys.
    pub objects: Vec<Entry>,
    /// What stands for the keys that were put together up to the delimiter, delimiter included.
    pub prefixes: Vec<String>,
    /// What the next page begins with; `None`: this is the last one.
    pub next: Option<String>,
}

/// Why a page is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadPage {
    /// It cannot be read.
    Unreadable(BadXml),
    /// It says no, in spite of its status.
    Refused(StorageError),
}

/// Reads a page. Complete or not at all: an entry without key or size refuses the page.
///
/// # Errors
/// [`BadPage`].
pub fn read(body: &[u8]) -> Result<Page, BadPage> {
    let root = xml::read(body, LARGEST).map_err(BadPage::Unreadable)?;
    if root.name == "Error" {
        let mut error = StorageError::plain(200, Code::Other("".into()));
        error.take(&root);
        return Err(BadPage::Refused(error));
    }
    page(&root).ok_or(BadPage::Unreadable(BadXml::Shape))
}

fn page(root: &Element<'_>) -> Option<Page> {
    if root.name != "ListBucketResult" {
        return None;
    }
    let encoded = match root.text_of("EncodingType").unwrap_or("") {
        "" => false,
        "url" => true,
        _ => return None,
    };
    let name = |text: &str| {
        let text = if encoded { decode(text)? } else { text.to_owned() };
        (!text.is_empty()).then_some(text)
    };
    let mut page = Page::default();
    for child in &root.children {
        match child.name {
            "Contents" => page.objects.push(Entry {
                key: name(child.text_of("Key")?)?,
                size: child.text_of("Size")?.trim().parse().ok()?,
                etag: child.text_of("ETag").and_then(ETag::new),
                modified: child.text_of("LastModified").and_then(|text| date::iso(text.trim())),
            }),
            "CommonPrefixes" => page.prefixes.push(name(child.text_of("Prefix")?)?),
            _ => {}
        }
    }
    page.next = match root.text_of("IsTruncated").map(str::trim).unwrap_or("false") {
        "false" => None,
        // Without this the rest could not be had, and would be taken for not being there.
        "true" => Some(root.text_of("NextContinuationToken").filter(|t| !t.is_empty())?.to_owned()),
        _ => return None,
    };
    Some(page)
}

/// Undoes `encoding-type=url`, where a plus sign is a space. `None`: that is no text.
fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    Some(percent_decode_str(&spaced).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";

    fn of(inside: &str) -> Result<Page, BadPage> {
        read(format!("{HEAD}{inside}</ListBucketResult>").as_bytes())
    }

    #[test]
    fn reads_a_page() {
        let page = of("<Name>b</Name><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
            <NextContinuationToken>t/+=</NextContinuationToken>\
            <Contents><Key>a+b%2B/%C3%BC%01</Key><LastModified>2013-05-24T00:00:00.000Z</LastModified>\
            <ETag>&quot;e&quot;</ETag><Size>5</Size></Contents>\
            <CommonPrefixes><Prefix>x/</Prefix></CommonPrefixes>").unwrap();
        let entry = &page.objects[0];
        assert_eq!((entry.key.as_str(), entry.size), ("a b+/ü\u{1}", 5));
        assert_eq!(entry.etag.as_ref().unwrap().as_str(), "\"e\"");
        assert_eq!(entry.modified, Some(Wall(1_369_353_600)));
        assert_eq!((page.prefixes, page.next.as_deref()), (vec!["x/".to_owned()], Some("t/+=")));
        // Without the encoding a key is what it is.
        let page = of("<Contents><Key>a+b%2B</Key><Size>0</Size></Contents>").unwrap();
        assert_eq!((page.objects[0].key.as_str(), page.next), ("a+b%2B", None));
        assert_eq!(of("").unwrap(), Page::default());
    }

    #[test]
    fn a_page_is_complete_or_none() {
        for inside in [
            "<Contents><Size>1</Size></Contents>",
            "<Contents><Key>a</Key></Contents>",
            "<Contents><Key></Key><Size>1</Size></Contents>",
            "<Contents><Key>a</Key><Size>-1</Size></Contents>",
            "<Contents><Key>a</Key><Size>99999999999999999999</Size></Contents>",
            "<CommonPrefixes/>",
            "<IsTruncated>true</IsTruncated>",
            "<IsTruncated>maybe</IsTruncated>",
            "<EncodingType>rot13</EncodingType>",
            "<EncodingType>url</EncodingType><Contents><Key>%ff</Key><Size>1</Size></Contents>",
        ] {
            assert_eq!(of(inside), Err(BadPage::Unreadable(BadXml::Shape)), "{inside}");
        }
        assert_eq!(read(b"<html/>"), Err(BadPage::Unreadable(BadXml::Shape)));
        let refused = read(b"<Error><Code>SlowDown</Code></Error>");
        assert!(matches!(refused, Err(BadPage::Refused(e)) if e.code == Code::SlowDown));
    }

    #[test]
    fn queries_are_sorted_and_encoded() {
        let options = ListOptions {
            prefix: "a b/".to_owned(),
            delimiter: "/".to_owned(),
            start_after: "ü".to_owned(),
            page: 2000,
        };
        let query = options.query(Some("t+="));
        assert_eq!(
            query,
            "?continuation-token=t%2B%3D&delimiter=%2F&encoding-type=url&list-type=2&\
             max-keys=1000&prefix=a%20b%2F&start-after=%C3%BC"
        );
        assert_eq!(super::super::canonical::query(&query[1..]), &query[1..]);
        assert_eq!(ListOptions::default().query(None), "?encoding-type=url&list-type=2");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes);
        }

        /// However a page is cut off or mangled, no entry comes out half-filled.
        #[test]
        fn nothing_is_half_filled(cut in 0..220_usize, place in 0..220_usize, byte in any::<u8>()) {
            let whole = format!("{HEAD}<Contents><Key>abc</Key><Size>12</Size></Contents>\
                <IsTruncated>false</IsTruncated></ListBucketResult>").into_bytes();
            let cut_off = &whole[..cut.min(whole.len())];
            if cut < whole.len() {
                prop_assert!(read(cut_off).is_err());
            }
            let mut mangled = whole.clone();
            if let Some(at) = mangled.get_mut(place) {
                *at = byte;
            }
            if let Ok(page) = read(&mangled) {
                prop_assert!(page.objects.iter().all(|entry| !entry.key.is_empty()));
            }
        }
    }
}
