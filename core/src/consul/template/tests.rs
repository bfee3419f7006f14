use proptest::prelude::*;

use super::*;
use crate::Address;
use crate::discovery::{Condition, Role};

fn instance(id: &str, address: &str) -> Instance {
    let address = Address::parse(address).unwrap();
    Instance {
        id: id.into(),
        condition: Condition::Passing,
        ..Instance::new("dc1".into(), Role::Primary, address)
    }
}

fn query(name: &str) -> Query {
    Query { name: ServiceName::new(name).unwrap(), tag: None, datacenter: None }
}

fn data() -> Data {
    let mut first = instance("w1", "http://10.0.0.1:80");
    first.tags = vec!["v1".into(), "a\nb".into()];
    first.metadata = [("zone".into(), "eu".into()), ("a-b".into(), "x".into())].into();
    let second = instance("w2", "https://[::1]:443");
    let mut data = Data::default();
    data.services.insert(query("web"), vec![first, second]);
    data.services.insert(query("none"), vec![]);
    let tagged = Query { tag: Some("v1".into()), datacenter: Some("dc2".into()), ..query("web") };
    data.services.insert(tagged, vec![instance("far", "http://b:81")]);
    data.catalogue = Some(
        [("web".into(), vec!["v1".into()]), ("none".into(), vec![]), ("Odd Name".into(), vec![])]
            .into(),
    );
    data.keys = [
        ("a/b".into(), Some("v".into())),
        ("gone".into(), None),
        ("empty".into(), Some("".into())),
    ]
    .into();
    data
}

fn render(text: &str) -> String {
    Template::parse(text).unwrap().render(&data()).unwrap()
}

fn refused(text: &str) -> (u32, Problem) {
    let BadTemplate { line, problem } = Template::parse(text).unwrap_err();
    (line, problem)
}

#[test]
fn case_003_17_what_is_supported() {
    for (text, expected) in [
        ("", ""),
        ("a } b { c }}", "a } b { c }}"),
        (
            r#"{{ range service "web" }}{{ .Address }}:{{ .Port }} {{ end }}"#,
            "10.0.0.1:80 ::1:443 ",
        ),
        (
            r#"{{range service "v1.web@dc2"}}{{.ID}} {{.Name}} {{.Datacenter}} {{.Status}}{{end}}"#,
            "far web dc1 passing",
        ),
        (r#"{{ range service "none" }}x{{ else }}nobody{{ end }}"#, "nobody"),
        (
            r#"{{ range service "web" }}{{ .Meta.zone }}/{{ index .Meta "a-b" }};{{ end }}"#,
            "eu/x;/;",
        ),
        (
            r#"{{ range service "web" }}{{ if .Meta.zone }}{{ .ID }}{{ else }}-{{ end }}{{ end }}"#,
            "w1-",
        ),
        (
            r#"{{ range service "web" }}{{ if .Tags }}{{ range .Tags }}{{ . }},{{ end }}{{ end }}{{ end }}"#,
            "v1,ab,",
        ),
        ("{{ range services }}{{ .Name }} {{ end }}", "Odd Name none web "),
        ("{{ range services }}{{ range service .Name }}{{ .ID }} {{ end }}{{ end }}", "w1 w2 "),
        (
            r#"{{ key "a/b" }}{{ keyOrDefault "gone" "d\"\n" }}{{ if key "empty" }}x{{ end }}"#,
            "vd\"\n",
        ),
        (r#"{{ key `a/b` }}{{ keyOrDefault "gone" "}}" }}"#, "v}}"),
        ("a \n {{- /* no {{ action }} here */ -}} \n b", "ab"),
        ("a {{- key \"a/b\" }} b", "a {{- key \"a/b\" }} b"),
    ] {
        if expected == text && text.contains("{{-") {
            // A minus belongs to white space only.
            assert_eq!(render(text), "av b");
        } else {
            assert_eq!(render(text), expected, "{text}");
        }
    }
}

#[test]
fn anything_else_is_refused_with_its_line() {
    let unknown = |text: &str| Problem::Unknown(text.into());
    for (text, line, problem) in [
        ("a\nb {{ foo }}", 2, unknown("foo")),
        ("{{ .Foo }}", 1, unknown(".Foo")),
        ("{{ key \"a\" | toLower }}", 1, unknown("key \"a\" | toLower")),
        ("{{ $x := 1 }}", 1, unknown("$x := 1")),
        ("{{ range $i := services }}{{ end }}", 1, unknown("range $i := services")),
        ("{{ range service \"a\" \"any\" }}{{ end }}", 1, unknown("range service \"a\" \"any\"")),
        ("{{ if .Meta.x }}{{ else if .Meta.y }}{{ end }}", 1, Problem::NotHere(".Meta.x".into())),
        ("{{ }}", 1, unknown("")),
        ("{{ .Port }}", 1, Problem::NotHere(".Port".into())),
        ("{{ range services }}\n{{ .Port }}{{ end }}", 2, Problem::NotHere(".Port".into())),
        (
            "{{ range service \"a\" }}{{ else }}{{ .Port }}{{ end }}",
            1,
            Problem::NotHere(".Port".into()),
        ),
        (
            "{{ range service \"a\" }}{{ else }}{{ range services }}{{ else }}{{ .Port }}",
            1,
            Problem::NotHere(".Port".into()),
        ),
        ("{{ range service \"a\" }}{{ .Tags }}{{ end }}", 1, unknown(".Tags")),
        (
            "{{ range service \"a\" }}{{ range service .Name }}{{ end }}{{ end }}",
            1,
            Problem::NotHere(".Name".into()),
        ),
        ("{{ range service \"../a\" }}{{ end }}", 1, Problem::Argument("../a".into())),
        ("{{ range service \"a@d c\" }}{{ end }}", 1, Problem::Argument("a@d c".into())),
        ("{{ key \"../a\" }}", 1, Problem::Argument("../a".into())),
        ("\n{{ key \"a }}", 2, Problem::Unclosed),
        ("{{ key \"a\\x\" }}", 1, Problem::Unclosed),
        ("{{", 1, Problem::Unclosed),
        ("{{/* x }}", 1, Problem::Unclosed),
        ("\n\n{{ range services }}\n\n", 3, Problem::NoEnd),
        ("{{ end }}", 1, Problem::Stray),
        ("{{ else }}", 1, Problem::Stray),
        ("{{ range services }}{{ else }}\n{{ else }}{{ end }}", 2, Problem::Stray),
    ] {
        assert_eq!(refused(text), (line, problem), "{text}");
    }
    let deep = |n: usize| format!("{}{}", "{{ range services }}".repeat(n), "{{ end }}".repeat(n));
    assert!(Template::parse(&deep(DEEPEST)).is_ok());
    assert_eq!(refused(&deep(DEEPEST + 1)).1, Problem::TooDeep);
    assert_eq!(refused(&" ".repeat(LARGEST_TEMPLATE + 1)).1, Problem::TooLarge);
}

#[test]
fn what_is_missing_is_said_all_at_once() {
    let text = r#"{{ key "k" }}{{ keyOrDefault "l" "" }}{{ range service "a" }}{{ end }}{{ range services }}{{ end }}{{ if key "m" }}{{ end }}"#;
    let Err(Unrendered::Missing(missing)) = Template::parse(text).unwrap().render(&Data::default())
    else {
        panic!()
    };
    assert_eq!(missing.keys.iter().map(|k| &**k).collect::<Vec<_>>(), ["k", "l", "m"]);
    assert!(missing.catalogue && missing.services.contains(&query("a")));
    let gone = Template::parse("{{ key \"gone\" }}").unwrap().render(&data());
    assert_eq!(gone, Err(Unrendered::NoKey("gone".into())));
}

#[test]
fn output_is_bounded() {
    let mut data = data();
    data.catalogue = Some((0..1_000).map(|n| (n.to_string().into(), vec![])).collect());
    let nested =
        |body: &str| format!("{}{body}{}", "{{ range services }}".repeat(4), "{{ end }}".repeat(4));
    for body in ["xxxxxxxxxxxxxxxx", ""] {
        let got = Template::parse(&nested(body)).unwrap().render(&data);
        assert_eq!(got, Err(Unrendered::TooLarge));
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(text in "(\\{\\{|\\}\\}|-|/\\*|\\*/|\"|`|\\\\| |\n|range|services|service|end|else|if|key|\\.Name|\\.|\"a\"|\u{e4}){0,24}") {
        if let Ok(template) = Template::parse(&text) {
            let _ = template.render(&data());
        }
    }

    /// Text without actions comes out as it went in.
    #[test]
    fn text_is_kept(text in "[^{]{0,60}") {
        prop_assert_eq!(render(&text), text);
    }

    /// Whatever a service says about itself adds no line.
    #[test]
    fn services_add_no_lines(tag in "\\PC{0,5}[\n\r\t\u{85}]?\\PC{0,5}") {
        let mut data = data();
        data.catalogue = Some([("web".into(), vec![tag.as_str().into()])].into());
        let template = Template::parse("{{ range services }}{{ range .Tags }}{{ . }}{{ end }}{{ end }}").unwrap();
        prop_assert!(!template.render(&data).unwrap().chars().any(char::is_control));
    }
}
