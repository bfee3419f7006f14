//! A file on its way to the server: a form of several parts.

/// A file to be added to a design.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// Its name; the server goes by its extension.
    pub filename: &'a str,
    /// Its content, up to 50 MB.
    pub content: &'a [u8],
    /// What it is.
    pub description: Option<&'a str>,
}

impl Upload<'_> {
    /// As a form of several parts (RFC 7578), and what stands between the parts.
    pub(super) fn form(&self) -> (String, Vec<u8>) {
        let found = |line: &str| {
            let line = line.as_bytes();
            let description = self.description.unwrap_or_default().as_bytes();
            [self.content, description].iter().any(|t| t.windows(line.len()).any(|w| w == line))
        };
        let mut number = 0_u64;
        let mut boundary = "origin-part-0".to_owned();
        while found(&boundary) {
            number += 1;
            boundary = format!("origin-part-{number}.");
        }
        let name: String = self.filename.chars().map(quoted).collect();
        let mut form = Vec::with_capacity(self.content.len() + 512);
        if let Some(text) = self.description {
            let head = "Content-Disposition: form-data; name=\"description\"";
            form.extend(format!("--{boundary}\r\n{head}\r\n\r\n{text}\r\n").into_bytes());
        }
        let head = format!("Content-Disposition: form-data; name=\"file\"; filename=\"{name}\"");
        let kind = "Content-Type: application/octet-stream";
        form.extend(format!("--{boundary}\r\n{head}\r\n{kind}\r\n\r\n").into_bytes());
        form.extend(self.content);
        form.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
        (boundary, form)
    }
}

/// A character of a name between quotes: what would end it is written as browsers write it.
fn quoted(c: char) -> String {
    match c {
        '"' => "%22".to_owned(),
        '\r' => "%0D".to_owned(),
        '\n' => "%0A".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_form_has_its_parts_and_a_name_stays_a_name() {
        let (content, description) = (&b"a\r\n--origin-part-0"[..], Some("what origin-part-1. is"));
        let upload = Upload { filename: "a\"\r\nx: y.pdf", content, description };
        let (boundary, form) = upload.form();
        assert_eq!(boundary, "origin-part-2.");
        assert_eq!(
            String::from_utf8(form).unwrap(),
            "--origin-part-2.\r\nContent-Disposition: form-data; name=\"description\"\r\n\r\n\
             what origin-part-1. is\r\n--origin-part-2.\r\nContent-Disposition: form-data; \
             name=\"file\"; filename=\"a%22%0D%0Ax: y.pdf\"\r\nContent-Type: \
             application/octet-stream\r\n\r\na\r\n--origin-part-0\r\n--origin-part-2.--\r\n"
        );
    }

    proptest! {
        #[test]
        fn any_content_stands_between_boundaries(
            content in proptest::collection::vec(any::<u8>(), 0..64),
            filename in "\\PC{0,20}",
        ) {
            let upload = Upload { filename: &filename, content: &content, description: None };
            let (boundary, form) = upload.form();
            let end = format!("\r\n--{boundary}--\r\n");
            let inner = form.strip_suffix(end.as_bytes()).unwrap();
            prop_assert!(inner.ends_with(&content));
        }
    }
}
