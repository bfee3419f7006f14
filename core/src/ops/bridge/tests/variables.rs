//! What variables of the environment say.

use super::*;

#[test]
fn case_001_27_28_variables_say_how_long_things_may_take() {
    use std::time::Duration;
    let with = |key: &'static str, value: &'static str| {
        let mut config = Config::default();
        configure(&mut config, |name| (name == key).then(|| value.to_owned())).map(|()| config)
    };
    let total = |policy: &crate::config::Policy| policy.deadline.total;
    let config = with(STAMPING_TIMEOUT_VARIABLE, "0.25").unwrap();
    let stamping = &config.services[stamping::SERVICE];
    assert_eq!(total(stamping.policy.as_ref().unwrap()), Duration::from_millis(250));
    assert_eq!(config.policy.deadline.connect, Some(Duration::from_millis(250)));
    let wait = stamping.policy.as_ref().unwrap().queue.max_wait;
    assert!(wait < Duration::from_millis(250), "{wait:?}");
    assert_eq!(
        total(config.services[tree::SERVICE].policy.as_ref().unwrap()),
        Duration::from_secs(30)
    );
    config.check().unwrap();
    let config = with(INTELLIGENCE_TIMEOUT_VARIABLE, " 0.5 ").unwrap();
    let tree = &config.services[tree::SERVICE];
    assert_eq!(total(&tree.profiles["get_intelligence"]), Duration::from_millis(500));
    assert_eq!((tree.profiles.len(), config.policy.deadline.connect), (1, None));
    config.check().unwrap();
    for (key, service) in [
        (STAMPING_HEALTH_TIMEOUT_VARIABLE, stamping::SERVICE),
        (TREE_HEALTH_TIMEOUT_VARIABLE, tree::SERVICE),
    ] {
        let config = with(key, "3.0").unwrap();
        let profile = &config.services[service].profiles["health_check"];
        assert_eq!(total(profile), Duration::from_secs(3));
        config.check().unwrap();
    }
    let keys = [
        STAMPING_TIMEOUT_VARIABLE,
        INTELLIGENCE_TIMEOUT_VARIABLE,
        STAMPING_HEALTH_TIMEOUT_VARIABLE,
        TREE_HEALTH_TIMEOUT_VARIABLE,
    ];
    for key in keys {
        for value in ["0", "-1", "nan", "inf", "1e99", "86401", "hunter2", "1 s"] {
            let error = with(key, value).unwrap_err();
            assert_eq!(error.field, key);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        // Unset and empty are the same.
        assert_eq!(with(key, " ").unwrap(), with("X", "1").unwrap());
    }
    // What is configured already is kept.
    let mut config = with(INTELLIGENCE_TIMEOUT_VARIABLE, "0.5").unwrap();
    let before = config.clone();
    configure(&mut config, |_| Some("7".to_owned())).unwrap();
    assert_eq!(
        config.services[tree::SERVICE].profiles["get_intelligence"],
        before.services[tree::SERVICE].profiles["get_intelligence"]
    );
}
