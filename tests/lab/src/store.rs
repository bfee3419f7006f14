//! The object store of a world: objects by path, in whole or in parts, and
//! lists of them. It does just enough for a client to tell right from wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::http::{Answer, Request};
use crate::lock;
use crate::registry::etag_of;
use crate::server::Handler;

/// More objects and parts than this are refused: a load test must not fill the memory.
const OBJECT_LIMIT: usize = 1024;
/// A larger object than this is refused when it is put together.
const SIZE_LIMIT: usize = 256 << 20;

/// What replicas of one store have in common.
#[derive(Debug, Default)]
pub struct Store {
    /// By route, as it came: percent-encoded.
    objects: BTreeMap<String, Vec<u8>>,
    /// Objects on their way, by the name of the upload.
    uploads: BTreeMap<String, Upload>,
    /// How many were begun: the next one's name.
    begun: u64,
}

#[derive(Debug)]
struct Upload {
    route: String,
    parts: BTreeMap<u16, Vec<u8>>,
}

impl Store {
    fn is_full(&self) -> bool {
        let parts: usize = self.uploads.values().map(|upload| upload.parts.len().max(1)).sum();
        self.objects.len() + parts >= OBJECT_LIMIT
    }
}

/// An object store spoken to by path: `GET`, `HEAD`, `PUT` and `DELETE` of
/// `/{bucket}/{key}`, the four requests of an upload in parts (`?uploads`,
/// `partNumber`, `uploadId`), `If-None-Match: *` for what must be new, and
/// lists of what was stored (`?list-type=2` with `prefix`, `max-keys`,
/// `start-after` and `continuation-token`). Handlers that share the store are
/// replicas of each other.
///
/// An object that was never stored reads as a deterministic text, so that a
/// demonstration needs no preparation; keys that begin with `missing` do not
/// exist.
#[must_use]
pub fn storage(store: Arc<Mutex<Store>>) -> Handler {
    Arc::new(move |request| {
        let route = request.route();
        if route.starts_with("/minio/health/") || route == "/health" {
            return Answer::new(200);
        }
        let query = request.query().unwrap_or_default();
        let bucket = route.trim_start_matches('/');
        let listed = query.contains("list-type=2");
        let mut store = lock(&store);
        if request.method == "GET" && listed && !bucket.is_empty() && !bucket.contains('/') {
            return list(&store.objects, bucket, query);
        }
        let Some((bucket, key)) = bucket.split_once('/') else {
            return no_such("NoSuchBucket", route);
        };
        if bucket.is_empty() || key.is_empty() {
            return no_such("NoSuchKey", route);
        }
        let upload = asked(query, "uploadId");
        match (request.method.as_str(), upload) {
            ("GET" | "HEAD", _) => read_object(&store.objects, request, bucket, key),
            ("PUT", Some(id)) => part(&mut store, request, &id),
            ("PUT", None) => whole(&mut store, request),
            ("POST", Some(id)) => complete(&mut store, request, &id),
            ("POST", None) if query == "uploads" => begin(&mut store, route),
            ("DELETE", Some(id)) => match store.uploads.remove(&id) {
                Some(_) => Answer::new(204),
                None => no_such("NoSuchUpload", route),
            },
            ("DELETE", None) => {
                store.objects.remove(route);
                Answer::new(204)
            }
            _ => xml(405, "MethodNotAllowed", route),
        }
    })
}

/// Whether an object must not be there yet, and is.
fn in_the_way(store: &Store, request: &Request) -> bool {
    request.header("if-none-match") == Some("*") && store.objects.contains_key(request.route())
}

fn whole(store: &mut Store, request: &Request) -> Answer {
    let route = request.route();
    if in_the_way(store, request) {
        return xml(412, "PreconditionFailed", route);
    }
    if store.is_full() && !store.objects.contains_key(route) {
        return xml(507, "InsufficientStorage", route);
    }
    let etag = etag_of(&request.body);
    store.objects.insert(route.to_owned(), request.body.clone());
    Answer::new(200).header("ETag", &etag)
}

fn begin(store: &mut Store, route: &str) -> Answer {
    if store.is_full() {
        return xml(507, "InsufficientStorage", route);
    }
    let id = format!("upload-{}", store.begun);
    store.begun += 1;
    let upload = Upload { route: route.to_owned(), parts: BTreeMap::new() };
    store.uploads.insert(id.clone(), upload);
    document("InitiateMultipartUploadResult", &format!("<UploadId>{id}</UploadId>"))
}

fn part(store: &mut Store, request: &Request, id: &str) -> Answer {
    let route = request.route();
    let number = asked(request.query().unwrap_or_default(), "partNumber");
    let number = number.and_then(|text| text.parse().ok()).filter(|number| *number > 0);
    let full = store.is_full();
    let Some(upload) = store.uploads.get_mut(id).filter(|upload| upload.route == route) else {
        return no_such("NoSuchUpload", route);
    };
    let Some(number) = number else { return xml(400, "InvalidPart", route) };
    if full && !upload.parts.contains_key(&number) {
        return xml(507, "InsufficientStorage", route);
    }
    let etag = etag_of(&request.body);
    upload.parts.insert(number, request.body.clone());
    Answer::new(200).header("ETag", &etag)
}

/// Puts the parts together that the request names, in its order.
fn complete(store: &mut Store, request: &Request, id: &str) -> Answer {
    let route = request.route();
    if in_the_way(store, request) {
        return xml(412, "PreconditionFailed", route);
    }
    let Some(upload) = store.uploads.get(id).filter(|upload| upload.route == route) else {
        return no_such("NoSuchUpload", route);
    };
    let named = String::from_utf8_lossy(&request.body).replace("&quot;", "\"");
    let mut object = Vec::new();
    for one in named.split("<Part>").skip(1) {
        let inside = |tag: &str| {
            let (_, rest) = one.split_once(&format!("<{tag}>"))?;
            rest.split_once('<').map(|(text, _)| text.to_owned())
        };
        let number = inside("PartNumber").and_then(|text| text.parse().ok());
        let part = number.and_then(|number: u16| upload.parts.get(&number));
        match part.filter(|part| inside("ETag").as_deref() == Some(&*etag_of(part))) {
            Some(part) => object.extend_from_slice(part),
            None => return xml(400, "InvalidPart", route),
        }
        if object.len() > SIZE_LIMIT {
            return xml(400, "EntityTooLarge", route);
        }
    }
    let etag = etag_of(&object).replace('"', "&quot;");
    store.uploads.remove(id);
    store.objects.insert(route.to_owned(), object);
    document("CompleteMultipartUploadResult", &format!("<ETag>{etag}</ETag>"))
}

/// A parameter of the query, decoded.
fn asked(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| decode(value))
}

/// A page of the keys in a bucket. Keys are kept as they stood in the path,
/// percent-encoded, which is how `encoding-type=url` wants them back.
fn list(objects: &BTreeMap<String, Vec<u8>>, bucket: &str, query: &str) -> Answer {
    let ask = |name: &str| asked(query, name);
    if ask("delimiter").is_some() {
        return xml(501, "NotImplemented", bucket);
    }
    let most = ask("max-keys").and_then(|text| text.parse().ok()).unwrap_or(1000).min(1000);
    let prefix = ask("prefix").unwrap_or_default();
    let after = ask("continuation-token").or_else(|| ask("start-after")).unwrap_or_default();
    let begin = format!("/{bucket}/");
    let mut found: Vec<(String, &str, &Vec<u8>)> = objects
        .range(begin.clone()..)
        .take_while(|(route, _)| route.starts_with(&begin))
        .map(|(route, body)| (decode(&route[begin.len()..]), &route[begin.len()..], body))
        .filter(|(key, _, _)| key.starts_with(&prefix) && *key > after)
        .collect();
    found.sort();
    let cut = found.len() > most;
    found.truncate(most);
    let next = found
        .last()
        .filter(|_| cut)
        .map(|(_, encoded, _)| format!("<NextContinuationToken>{encoded}</NextContinuationToken>"));
    let rows: String = found
        .iter()
        .map(|(_, encoded, body)| {
            let (size, tag) = (body.len(), etag_of(body).replace('"', "&quot;"));
            format!(
                "<Contents><Key>{encoded}</Key><Size>{size}</Size><ETag>{tag}</ETag></Contents>"
            )
        })
        .collect();
    let inside = format!(
        "<EncodingType>url</EncodingType><IsTruncated>{cut}</IsTruncated>{rows}{}",
        next.unwrap_or_default()
    );
    document("ListBucketResult", &inside)
}

/// Percent-decoding; what is no UTF-8 afterwards is replaced.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let digits = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn read_object(
    objects: &BTreeMap<String, Vec<u8>>,
    request: &Request,
    bucket: &str,
    key: &str,
) -> Answer {
    let body = match objects.get(request.route()) {
        Some(body) => body.clone(),
        None if key.starts_with("missing") => return no_such("NoSuchKey", request.route()),
        None => format!("object {key} of bucket {bucket}\n").into_bytes(),
    };
    let etag = etag_of(&body);
    let answer = if request.has_match(&etag) {
        Answer::new(304)
    } else {
        Answer::bytes(200, "application/octet-stream", body)
    };
    answer.header("ETag", &etag)
}

fn no_such(code: &str, resource: &str) -> Answer {
    xml(404, code, resource)
}

fn xml(status: u16, code: &str, resource: &str) -> Answer {
    // The resource comes from the client: nothing of it may become markup.
    let resource: String =
        resource.chars().filter(|letter| !matches!(letter, '<' | '>' | '&')).collect();
    let mut answer = document(
        "Error",
        &format!("<Code>{code}</Code><Message>{code}</Message><Resource>{resource}</Resource>"),
    );
    answer.status = status;
    answer
}

fn document(root: &str, inside: &str) -> Answer {
    let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
    let body = format!("{declaration}\n<{root}>{inside}</{root}>");
    Answer::bytes(200, "application/xml", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(handler: &Handler, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        handler(&Request {
            method: method.into(),
            path: path.into(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            body: b"new".to_vec(),
        })
    }

    #[test]
    fn objects_read_write_and_vanish() {
        let store = storage(Arc::default());
        let first = ask(&store, "GET", "/b/dir/k", &[]);
        assert_eq!(first.body, b"object dir/k of bucket b\n");
        assert_eq!(ask(&store, "PUT", "/b/dir/k", &[]).status, 200);
        let second = ask(&store, "GET", "/b/dir/k", &[]);
        assert_eq!(second.body, b"new");
        let tag = etag_of(b"new");
        let again = ask(&store, "GET", "/b/dir/k", &[("If-None-Match", &tag)]);
        assert_eq!(again.status, 304);
        assert_eq!(ask(&store, "DELETE", "/b/dir/k", &[]).status, 204);
        assert_eq!(ask(&store, "GET", "/b/dir/k", &[]).body, first.body);
        let absent = ask(&store, "GET", "/b/missing<x>", &[]);
        assert_eq!(absent.status, 404);
        let text = String::from_utf8(absent.body).unwrap();
        assert!(text.contains("<Code>NoSuchKey</Code>") && text.contains("/b/missingx"));
        assert_eq!(ask(&store, "GET", "/b", &[]).status, 404);
    }

    #[test]
    fn keys_are_listed_page_by_page() {
        let store = storage(Arc::default());
        for key in ["a/1", "a/%C3%A4", "a/2", "b/1"] {
            ask(&store, "PUT", &format!("/b/{key}"), &[]);
        }
        ask(&store, "PUT", "/other/x", &[]);
        let page = |query: &str| {
            let answer = ask(&store, "GET", &format!("/b?list-type=2{query}"), &[]);
            String::from_utf8(answer.body).unwrap()
        };
        let keys = |page: &str| {
            let rows = page.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
            rows.map(|(key, _)| key.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&page("")), ["a/1", "a/2", "a/%C3%A4", "b/1"]);
        let first = page("&prefix=a%2F&max-keys=2");
        assert_eq!(keys(&first), ["a/1", "a/2"]);
        assert!(first.contains("<NextContinuationToken>a/2<"), "{first}");
        let second = page("&prefix=a%2F&max-keys=2&continuation-token=a%2F2");
        assert_eq!(keys(&second), ["a/%C3%A4"]);
        assert!(second.contains("<IsTruncated>false") && !second.contains("Continuation"));
    }

    #[test]
    fn an_object_store_is_bounded() {
        let store = storage(Arc::default());
        for number in 0..OBJECT_LIMIT {
            assert_eq!(ask(&store, "PUT", &format!("/b/{number}"), &[]).status, 200);
        }
        assert_eq!(ask(&store, "PUT", "/b/more", &[]).status, 507);
        assert_eq!(ask(&store, "PUT", "/b/1", &[]).status, 200);
    }

    fn text(answer: Answer) -> String {
        String::from_utf8(answer.body).unwrap()
    }

    #[test]
    fn objects_are_put_together_of_the_parts_that_are_named() {
        let handler = storage(Arc::default());
        let send = |method: &str, path: &str, body: &str| {
            handler(&Request {
                method: method.into(),
                path: path.into(),
                headers: Vec::new(),
                body: body.into(),
            })
        };
        let begun = text(send("POST", "/b/k?uploads", ""));
        assert!(begun.contains("<UploadId>upload-0</UploadId>"), "{begun}");
        let mut named = String::new();
        for (number, body) in [(2, "two"), (1, "one"), (3, "never named")] {
            let path = format!("/b/k?partNumber={number}&uploadId=upload-0");
            let answer = send("PUT", &path, body);
            assert_eq!(answer.status, 200);
            let (_, tag) = &answer.headers[0];
            if number < 3 {
                let part = format!("<PartNumber>{number}</PartNumber><ETag>{tag}</ETag>");
                named = format!("<Part>{part}</Part>{named}");
            }
        }
        assert_eq!(send("PUT", "/b/other?partNumber=1&uploadId=upload-0", "").status, 404);
        assert_eq!(send("PUT", "/b/k?partNumber=0&uploadId=upload-0", "").status, 400);
        let wrong = named.replace("<PartNumber>1", "<PartNumber>7");
        assert_eq!(send("POST", "/b/k?uploadId=upload-0", &wrong).status, 400);
        let done = send("POST", "/b/k?uploadId=upload-0", &named);
        assert!(done.status == 200 && text(done).contains("<ETag>&quot;"));
        assert_eq!(send("GET", "/b/k", "").body, b"onetwo");
        assert_eq!(send("POST", "/b/k?uploadId=upload-0", &named).status, 404, "it is over");
        send("POST", "/b/k?uploads", "");
        assert_eq!(send("DELETE", "/b/k?uploadId=upload-1", "").status, 204);
        assert_eq!(send("DELETE", "/b/k?uploadId=upload-1", "").status, 404);
    }

    #[test]
    fn what_must_be_new_does_not_take_the_place_of_what_is_there() {
        let store = storage(Arc::default());
        let new = [("If-None-Match", "*")];
        assert_eq!(ask(&store, "PUT", "/b/k", &new).status, 200);
        let refused = ask(&store, "PUT", "/b/k", &new);
        assert!(refused.status == 412 && text(refused).contains("PreconditionFailed"));
        assert_eq!(ask(&store, "PUT", "/b/k", &[]).status, 200);
    }
}
