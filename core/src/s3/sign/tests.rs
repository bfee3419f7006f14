//! The published examples: numbers are facts. Those of S3 are in the Amazon S3 API reference,
//! "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk"
//! and "Authenticating Requests: Using Query Parameters"; `get-vanilla` and the derived key are
//! in the AWS Signature Version 4 test suite and the AWS General Reference.

use proptest::prelude::*;

use super::*;
use crate::config::StorageConfig;
use crate::secret::Secret;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// 2013-05-24T00:00:00Z.
const DAY: Wall = Wall(1_369_353_600);
const HOST_OF_EXAMPLES: &str = "examplebucket.s3.amazonaws.com";

fn settings(change: impl FnOnce(&mut StorageConfig)) -> Arc<Settings> {
    let mut config = StorageConfig {
        access_key: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
        secret_key: Secret::new(SECRET),
        ..StorageConfig::default()
    };
    change(&mut config);
    Settings::of(&config, "storage", |_| None).unwrap().into()
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> http::Request<Bytes> {
    let mut builder = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Bytes::new()).unwrap()
}

fn authorization(request: &http::Request<Bytes>) -> &str {
    request.headers()[AUTHORIZATION].to_str().unwrap()
}

fn signature_of(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (String, String) {
    let mut request = request(method, &format!("https://{HOST_OF_EXAMPLES}{path}"), headers);
    Signer::new(&settings(|_| ()), body.as_bytes()).unwrap().sign(&mut request, DAY);
    let text = authorization(&request);
    let part = |name: &str| text.split_once(name).unwrap().1.split(',').next().unwrap().to_owned();
    assert!(text.contains("Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"));
    (part("SignedHeaders="), part("Signature="))
}

#[test]
fn the_examples_of_s3() {
    let (names, signature) = signature_of("GET", "/test.txt", &[("range", "bytes=0-9")], "");
    assert_eq!(names, "host;range;x-amz-content-sha256;x-amz-date");
    assert_eq!(signature, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    let put =
        [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
    let (names, signature) = signature_of("PUT", "/test$file.text", &put, "Welcome to Amazon S3.");
    assert_eq!(names, "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class");
    assert_eq!(signature, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    let (_, signature) = signature_of("GET", "/?lifecycle", &[], "");
    assert_eq!(signature, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    let (_, signature) = signature_of("GET", "/?max-keys=2&prefix=J", &[], "");
    assert_eq!(signature, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
    // However the parameters are ordered and spelled, it is the same request.
    let (_, again) = signature_of("GET", "/?prefix=%4A&max-keys=2", &[], "");
    assert_eq!(again, signature);
}

#[test]
fn the_presigned_example_of_s3() {
    let endpoint = Address::parse(&format!("https://{HOST_OF_EXAMPLES}:443")).unwrap();
    let day = Duration::from_secs(86_400);
    let url = presigned(&settings(|_| ()), &endpoint, "/test.txt", DAY, day).unwrap();
    let signature = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    assert_eq!(
        url,
        format!(
            "https://{HOST_OF_EXAMPLES}/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&\
             X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&\
             X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&\
             X-Amz-Signature={signature}"
        )
    );
    let long = presigned(&settings(|_| ()), &endpoint, "/x", DAY, Duration::MAX).unwrap();
    assert!(long.contains("X-Amz-Expires=604800&"), "{long}");
    let nobody = Settings::default();
    assert_eq!(presigned(&nobody, &endpoint, "/x", DAY, day), None);
    let database = Address::parse("db:5432").unwrap();
    assert_eq!(presigned(&settings(|_| ()), &database, "/x", DAY, day), None);
}

#[test]
fn the_vanilla_example_of_the_test_suite() {
    let stamp = Stamp::of(Wall(1_440_938_160));
    let empty = hex(&Sha256::digest(b""));
    let canonical = format!(
        "GET\n/\n\nhost:example.amazonaws.com\nx-amz-date:20150830T123600Z\n\nhost;x-amz-date\n{empty}"
    );
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let signature =
        Scope::of(stamp, "us-east-1", "service").signature(secret, canonical.as_bytes());
    assert_eq!(signature, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    // HMAC-SHA-256, test case 2 of RFC 4231.
    assert_eq!(
        hex(&mac(b"Jefe", b"what do ya want for nothing?")),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
}

#[test]
fn a_host_is_signed_as_it_is_sent() {
    let sign = |mut request: http::Request<Bytes>| {
        Signer::new(&settings(|_| ()), b"").unwrap().sign(&mut request, DAY);
        (authorization(&request).to_owned(), request.uri().to_string())
    };
    let plain = sign(request("GET", "https://h/b/k", &[]));
    assert_eq!(sign(request("GET", "https://h:443/b/k", &[])), plain);
    assert_eq!(sign(request("GET", "https://h:443/b/k", &[("host", "h")])).0, plain.0);
    assert_ne!(sign(request("GET", "https://h:80/b/k", &[])).0, plain.0);
    let bracketed = sign(request("GET", "http://[::1]:80/b/k", &[]));
    assert_eq!(bracketed.1, "http://[::1]/b/k");
    // A second signature takes the place of the first.
    let mut twice = request("GET", "https://h/b/k", &[("authorization", "Bearer x")]);
    let signer = Signer::new(&settings(|_| ()), b"").unwrap();
    signer.sign(&mut twice, Wall(0));
    signer.sign(&mut twice, DAY);
    assert_eq!(authorization(&twice), plain.0);
    assert_eq!(twice.headers().get_all(AUTHORIZATION).iter().count(), 1);
}

#[test]
fn nobody_signs_nothing_and_a_server_sets_the_clock() {
    assert!(Signer::new(&Arc::new(Settings::default()), b"").is_none());
    let signer = Signer::new(&settings(|c| c.sign_payload = false), b"body").unwrap();
    let mut one = request("PUT", "https://h/b/k", &[]);
    signer.clone().at(DAY).sign(&mut one, Wall(7));
    assert_eq!(one.headers()[DATE], "20130524T000000Z");
    assert_eq!(one.headers()[CONTENT], UNSIGNED);
    assert!(signer.clone().at(DAY).is_at() && !signer.is_at());
}

#[test]
fn case_000_45_what_is_secret_is_sent_and_never_printed() {
    let settings = settings(|c| c.session_token = Secret::new("t0ken+of/session"));
    let signer = Signer::new(&settings, b"").unwrap();
    let mut signed = request("GET", "https://h/b/k", &[]);
    signer.sign(&mut signed, DAY);
    assert_eq!(signed.headers()[TOKEN], "t0ken+of/session");
    assert!(authorization(&signed).contains("x-amz-security-token"));
    let shown = format!("{signer:?} {settings:?} {signed:?} {:?}", signed.headers());
    for secret in [SECRET, "t0ken", "Signature="] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let endpoint = Address::parse("http://h").unwrap();
    let url = presigned(&settings, &endpoint, "/b/k", DAY, LONGEST).unwrap();
    assert!(url.contains("X-Amz-Security-Token=t0ken%2Bof%2Fsession"), "{url}");
}

proptest! {
    /// Whatever is signed, the headers are there once, and one bit of difference shows.
    #[test]
    fn every_part_is_covered(
        key in "[ -~]{1,40}", other in "[ -~]{1,40}", body in ".{0,20}", second in any::<u64>(),
    ) {
        prop_assume!(key != other && !crate::ops::segments(&key).is_empty());
        let settings = settings(|_| ());
        let of = |key: &str, body: &str, second: u64| {
            let uri = format!("http://h:9000/b/{}", crate::ops::segments(key));
            let mut request = request("PUT", &uri, &[]);
            Signer::new(&settings, body.as_bytes()).unwrap().sign(&mut request, Wall(second));
            authorization(&request).to_owned()
        };
        let one = of(&key, &body, second);
        prop_assert_eq!(&of(&key, &body, second), &one);
        prop_assert_ne!(&of(&other, &body, second), &one);
        prop_assert_ne!(&of(&key, &format!("{body}x"), second), &one);
    }
}
