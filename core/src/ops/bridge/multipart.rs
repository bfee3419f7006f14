//! One file as `multipart/form-data` (RFC 7578), with a boundary that does not occur in it.

use std::collections::BTreeSet;

use bytes::Bytes;

/// What every boundary begins with; a number follows.
const STEM: &[u8] = b"origin-part-";

/// The body with `content` as the file `data` of the field `file`, and its media type.
pub(super) fn file(content: &[u8]) -> (String, Bytes) {
    let boundary = format!("origin-part-{:08x}", free(content));
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"data\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let mut body = Vec::with_capacity(head.len() + content.len() + tail.len());
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(content);
    body.extend_from_slice(tail.as_bytes());
    (format!("multipart/form-data; boundary={boundary}"), body.into())
}

/// The lowest number whose boundary is not in `content`, found in one pass: no content can be
/// made so that this takes long, and the same content always has the same.
fn free(content: &[u8]) -> u32 {
    let mut taken = BTreeSet::new();
    let mut rest = content;
    while let Some(at) = rest.iter().position(|byte| *byte == STEM[0]) {
        rest = &rest[at..];
        if let Some(digits) = rest.strip_prefix(STEM).and_then(|behind| behind.get(..8))
            && let Ok(text) = std::str::from_utf8(digits)
            && let Ok(number) = u32::from_str_radix(text, 16)
        {
            taken.insert(number);
        }
        rest = &rest[1..];
    }
    (0..).find(|number| !taken.contains(number)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn case_001_06_one_part_of_the_name_and_type_of_the_contract() {
        let (media, body) = file(b"\x00hi");
        assert_eq!(media, "multipart/form-data; boundary=origin-part-00000000");
        assert_eq!(
            &body[..],
            b"--origin-part-00000000\r\nContent-Disposition: form-data; name=\"file\"; \
              filename=\"data\"\r\nContent-Type: application/octet-stream\r\n\r\n\
              \x00hi\r\n--origin-part-00000000--\r\n"
        );
    }

    proptest! {
        #[test]
        fn no_content_holds_its_own_boundary(
            pieces in prop::collection::vec((0_u32..6, "[a-o\r\n-]{0,5}"), 0..12),
        ) {
            let content: String =
                pieces.iter().map(|(n, text)| format!("{text}origin-part-{n:08x}")).collect();
            let (media, body) = file(content.as_bytes());
            let boundary = media.split_once('=').unwrap().1;
            prop_assert!(!content.contains(boundary));
            let text = String::from_utf8(body.to_vec()).unwrap();
            prop_assert_eq!(text.matches(boundary).count(), 2);
            prop_assert!(text.contains(&content));
        }
    }
}
