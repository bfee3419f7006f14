use proptest::prelude::*;

use super::*;
use crate::config::ConsulConfig;
use crate::config::consul::TokenSource;
use crate::secret::Secret;

fn head(pairs: &[(&'static str, &str)]) -> Head {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    Head::of(&headers)
}

#[test]
fn the_head_of_a_reply() {
    let got = head(&[
        ("x-consul-index", "26"),
        ("x-consul-knownleader", "true"),
        ("x-consul-lastcontact", "10124"),
        ("x-cache", "HIT"),
        ("age", "3"),
    ]);
    assert_eq!(got.index, Some(26));
    assert_eq!((got.known_leader, got.cache_hit), (Some(true), Some(true)));
    assert_eq!(got.last_contact, Some(Duration::from_millis(10_124)));
    assert_eq!(got.age, Some(Duration::from_secs(3)));
    for nonsense in ["0", "-1", "", "x", "+5", "99999999999999999999999"] {
        assert_eq!(head(&[("x-consul-index", nonsense), ("x-cache", "hm")]), Head::default());
    }
    assert_eq!(head(&[("x-consul-index", "4"), ("x-consul-index", "5")]).index, None);
}

#[test]
fn stale_replies_have_an_age_limit() {
    let config = ConsulConfig {
        max_stale: Duration::from_secs(2),
        consistency: Consistency::Stale,
        ..ConsulConfig::default()
    };
    let stale = Settings::of(&config, "consul").unwrap();
    let contact = |ms: &str, settings| head(&[("x-consul-lastcontact", ms)]).too_stale(settings);
    assert_eq!(contact("2500", &stale), Some(Duration::from_millis(500)));
    assert_eq!(contact("2000", &stale), None);
    assert_eq!(contact("2500", &Settings::default()), None);
}

#[test]
fn case_003_42_each_class_has_its_token_and_none_is_in_a_url() {
    let token = |text| Some(TokenSource::Text(Secret::new(text).unwrap()));
    let sent = |agent: Option<TokenSource>, service: Option<TokenSource>, class| {
        let config =
            ConsulConfig { agent_token: agent, service_token: service, ..ConsulConfig::default() };
        let settings = Settings::of(&config, "consul").unwrap();
        let tokens = Tokens::of(&settings, |_| None).unwrap();
        let request = Api::new(&settings, &tokens).get(class, "/v1/x", Query::default()).unwrap();
        assert!(!format!("{request:?}").contains("s3cret"), "sensitive");
        request.headers().get(TOKEN_HEADER).map(|v| v.to_str().unwrap().to_owned())
    };
    let (a, s) = (token("s3cret-a"), token("s3cret-s"));
    assert_eq!(sent(a.clone(), s.clone(), Class::Agent).as_deref(), Some("s3cret-a"));
    assert_eq!(sent(a.clone(), s.clone(), Class::Service).as_deref(), Some("s3cret-s"));
    assert_eq!(sent(None, s, Class::Agent).as_deref(), Some("s3cret-s"));
    assert_eq!(sent(a, None, Class::Service), None);
}

#[test]
fn agents_are_counted_around_and_keep_their_base_path() {
    let urls = vec!["http://a:1".to_owned(), "https://gate/consul/".to_owned()];
    let settings =
        Settings::of(&ConsulConfig { urls, ..ConsulConfig::default() }, "consul").unwrap();
    let tokens = Tokens::default();
    let uri = |agent| {
        let api = Api::new(&settings, &tokens).at(agent);
        api.get(Class::Service, "/v1/x", Query::default().with("q", "a b&c"))
            .unwrap()
            .uri()
            .to_string()
    };
    assert_eq!(uri(0), "http://a:1/v1/x?q=a%20b%26c");
    assert_eq!(uri(1), "https://gate/consul/v1/x?q=a%20b%26c");
    assert_eq!(uri(usize::MAX), uri(1));
}

#[test]
fn reads_carry_consistency_datacenter_and_cursor() {
    let config = ConsulConfig {
        consistency: Consistency::Cached,
        stale_if_error: Some(Duration::from_secs(60)),
        datacenter: Some("dc1".into()),
        ..ConsulConfig::default()
    };
    let settings = Settings::of(&config, "consul").unwrap();
    let tokens = Tokens::default();
    let api = Api::new(&settings, &tokens);
    let cursor = Some(Cursor { index: 0, wait: Duration::from_secs(300) });
    let request = api.read("/v1/x", Query::default(), None, cursor).unwrap();
    assert_eq!(request.uri().query(), Some("dc=dc1&cached=true&index=1&wait=5m"));
    assert_eq!(request.headers()[CACHE_CONTROL], "max-age=30, stale-if-error=60");
    let other = api.read("/v1/x", Query::default(), Some("dc2"), None).unwrap();
    assert_eq!(other.uri().query(), Some("dc=dc2&cached=true"));
}

#[test]
fn lists_are_bounded_and_errors_are_typed() {
    let settings = Settings::default();
    let list = |n: usize| format!("[{}1]", "1,".repeat(n - 1));
    let read = |text: &str| {
        open::<Many<u8>>(&settings, "a list", 200, text.as_bytes()).map(|many| many.0.len())
    };
    assert_eq!(read(&list(MOST)), Ok(MOST));
    assert!(matches!(read(&list(MOST + 1)), Err(ConsulError::TooMany { .. })));
    assert_eq!(read("null"), Ok(0));
    assert!(matches!(
        read("[\"s3cret\"]"),
        Err(ConsulError::Unreadable { why: Unreadable::Shape, .. })
    ));
    assert!(!read("[\"s3cret\"]").unwrap_err().to_string().contains("s3cret"));
    for broken in ["", "[1", "<html>", "{}x"] {
        assert!(matches!(read(broken), Err(ConsulError::Unreadable { .. })), "{broken}");
    }
    let small =
        Settings::of(&ConsulConfig { max_bytes: 1_024, ..ConsulConfig::default() }, "consul")
            .unwrap();
    let large = open::<Many<u8>>(&small, "x", 200, &[b' '; 1_025]);
    assert!(matches!(large, Err(ConsulError::TooLarge { .. })));
    assert!(truth(200, b"true\n").unwrap() && !truth(200, b"false").unwrap());
}

proptest! {
    #[test]
    fn any_header_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let mut headers = HeaderMap::new();
            for name in ["x-consul-index", "x-consul-knownleader", "x-consul-lastcontact", "x-cache", "age"] {
                headers.append(name, value.clone());
            }
            prop_assert!(Head::of(&headers).index != Some(0));
        }
    }
}
