//! Where the configuration comes from, what is refused in it and where that stood, and `check-config`.

use std::process::Command;

use serde_json::Value;

use crate::bench::{Room, code, origin, text};

#[test]
fn the_file_the_environment_and_flags_win_in_that_order() {
    let room = Room::new();
    let file = room.file(
        "origin.toml",
        "local_cluster = \"of-the-file\"\n\n[policy]\npreset = \"omninode\"\n\
         deadline.total = \"20s\"\ndeadline.attempt = \"2s\"\n\
         [discovery]\nurl = \"http://127.0.0.1:9/\"\n",
    );
    let effective = |command: &mut Command| {
        let output = command.args(["--effective", "--json"]).output().unwrap();
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["effective"].take()
    };
    let said = |value: &str, origin: &str| serde_json::json!({"value": value, "origin": origin});
    let out = effective(&mut origin(&["check-config", &file]));
    assert_eq!(out["local_cluster"], said("of-the-file", &format!("{file}:1")));
    assert_eq!(out["policy.deadline.total"], said("20s", &format!("{file}:5")));
    assert_eq!(out["policy.breaker.open"], said("1m", &format!("preset at {file}:4")));
    assert_eq!(out["limits.idle_timeout"], said("1m", "default"));

    let mut command = origin(&["check-config", &file]);
    let environment = |command: &mut Command| {
        command.env("ORIGIN_LOCAL_CLUSTER", "of-the-environment");
        command.env("ORIGIN__POLICY__DEADLINE__TOTAL", "15s");
    };
    environment(&mut command);
    let out = effective(&mut command);
    assert_eq!(out["local_cluster"], said("of-the-environment", "$ORIGIN_LOCAL_CLUSTER"));
    assert_eq!(out["policy.deadline.total"], said("15s", "$ORIGIN__POLICY__DEADLINE__TOTAL"));
    assert_eq!(out["policy.deadline.attempt"], said("2s", &format!("{file}:6")));

    let mut command = origin(&["check-config", &file, "--local", "of-a-flag"]);
    command.args(["--set", "policy.deadline.total=10s", "--set", "policy.retry.max_attempts=2"]);
    environment(&mut command);
    let out = effective(&mut command);
    assert_eq!(out["local_cluster"], said("of-a-flag", "--local"));
    assert_eq!(out["policy.deadline.total"], said("10s", "--set policy.deadline.total"));
    assert_eq!(out["policy.retry.max_attempts"]["value"], 2);

    // The usual file, and one that a variable names.
    let mut command = origin(&["check-config"]);
    let out = effective(command.current_dir(&room.0));
    assert_eq!(out["local_cluster"], said("of-the-file", "origin.toml:1"));
    let out = effective(origin(&["check-config"]).env("ORIGIN_CONFIG", &file));
    assert_eq!(out["local_cluster"]["value"], "of-the-file");
}

#[test]
fn mistakes_in_the_configuration_are_told_with_their_place() {
    let room = Room::new();
    let unknown = room.file("a.toml", "seed = 1\n[policy.retry]\nmax_attemps = 3\n");
    let broken = room.file("b.toml", "seed = \n");
    let odd = room.file("c.toml", "[policy.deadline]\ntotal = \"500ms\"\nattempt = \"250ms\"\n[discovery]\nurl = \"http://127.0.0.1:9/\"\n");
    let refused = room.file("d.toml", "[policy.deadline]\ntotal = \"0s\"\n");
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        (code(&output), text(&output.stdout), text(&output.stderr))
    };
    for (file, place) in [
        (&unknown, ":3: unknown field `max_attemps`"),
        (&broken, ":1: "),
        (&refused, "policy.deadline.total"),
    ] {
        // Every command reads it the same way.
        for command in
            [&["check-config"][..], &["status", "--config"], &["call", "a", "/", "--config"]]
        {
            let (code, out, errors) =
                run(origin(command).arg(file).args(if command[0] == "check-config" {
                    &[][..]
                } else {
                    &["--discovery", "http://127.0.0.1:9"]
                }));
            assert_eq!((code, out), (1, String::new()), "{command:?} {errors}");
            assert!(errors.contains(place), "{command:?} {file}: {errors}");
        }
    }
    let (code, _, errors) = run(&mut origin(&["check-config", "/no/such/origin.toml"]));
    assert!(code == 1 && errors.contains("/no/such/origin.toml"), "{errors}");
    let (code, out, _) = run(&mut origin(&["check-config", &odd]));
    assert_eq!(code, 0);
    assert!(out.starts_with("warning: policy.retry.max_attempts"), "{out}");
    assert_eq!(run(&mut origin(&["check-config", "--strict", &odd])).0, 1);
    for (name, value, words) in [
        ("ORIGIN__POLICY__NOPE", "1", "$ORIGIN__POLICY__NOPE: unknown field `nope`"),
        ("ORIGIN__SEED", "soon", "$ORIGIN__SEED: invalid type"),
        ("ORIGIN__SEED__X", "1", "$ORIGIN__SEED__X: "),
    ] {
        let (code, _, errors) = run(origin(&["check-config"]).env(name, value));
        assert!(code == 1 && errors.contains(words), "{name}: {errors}");
    }
    for (set, words) in [
        ("policy.nope=1", "--set policy.nope: unknown field `nope`"),
        ("secret", "a --set has no ="),
        ("a..b=1", "is not a key"),
        ("=1", "is not a key"),
    ] {
        let (code, _, errors) = run(&mut origin(&["check-config", "--set", set]));
        assert!(code == 1 && errors.contains(words), "{set}: {errors}");
    }
    let (code, out, _) = run(&mut origin(&["check-config", "--schema"]));
    let schema: Value = serde_json::from_str(&out).unwrap();
    assert!(code == 0 && schema["properties"]["policy"].is_object());
}

/// A file of policies says nothing of discovery, and is none the worse for it.
#[test]
fn a_file_that_holds_only_policies_can_be_checked() {
    let room = Room::new();
    let check = |text_: &str| {
        let file = room.file("policies.toml", text_);
        let output = origin(&["check-config", &file]).output().unwrap();
        (code(&output), text(&output.stdout), text(&output.stderr))
    };
    let (code_, out, errors) = check("[policy]\npreset = \"omninode\"\n");
    assert_eq!(code_, 0, "{errors}");
    assert!(out.contains("no mistakes and no warnings\nit does not say where"), "{out}");
    let (code_, _, errors) = check("[policy.deadline]\ntotal = \"0s\"\n");
    assert!(code_ == 1 && errors.contains("policy.deadline.total"), "{errors}");
    let (code_, out, _) = check("[discovery]\nurl = \"http://127.0.0.1:9/\"\n");
    assert_eq!((code_, &*out), (0, "no mistakes and no warnings\n"));
    // A client is not to be had of it.
    let file = room.file("policies.toml", "[policy]\npreset = \"omninode\"\n");
    let output = origin(&["status", "--config", &file]).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("it is not known where services are"));
}
