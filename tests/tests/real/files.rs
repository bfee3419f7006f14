//! Files rendered from what a real Consul knows.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use origin_core::config::consul::TemplateConfig;
use origin_core::consul::template::renderer;
use origin_core::notice::Event;
use origin_driver::Client;
use origin_lab::FaultServer;
use origin_servers::consul::{self, Setup};

use crate::catalogue::{client, register};
use crate::subject::{Subject, eventually, within};

on_every_runtime! {
    case_003_17_a_file_is_rewritten_only_on_change_and_kept_while_consul_is_down
}

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What tells a file that was replaced from one that was not.
fn identity(path: &Path) -> (u64, i64, i64) {
    let about = fs::metadata(path).unwrap();
    (about.ino(), about.mtime(), about.mtime_nsec())
}

fn events<S: Subject>(client: &Client<S>) -> Vec<renderer::Event> {
    let events = client.notices().into_iter().map(|notice| notice.event);
    let files = events.filter_map(|event| match event {
        Event::RenderedFile { what } => Some(what),
        _ => None,
    });
    files.collect()
}

fn case_003_17_a_file_is_rewritten_only_on_change_and_kept_while_consul_is_down<S: Subject>() {
    let Some(mut agent) = consul::start(&Setup::default()) else { return };
    let name = format!("origin-files-{}-{}", std::process::id(), S::NAME);
    let folder = Folder(std::env::temp_dir().join(name));
    fs::create_dir_all(&folder.0).unwrap();
    let (source, output) = (folder.0.join("web.tpl"), folder.0.join("web.conf"));
    let text = "{{ range service \"web\" }}server {{ .Address }}:{{ .Port }}; # {{ .ID }}\n{{ end }}mode {{ keyOrDefault \"web/mode\" \"plain\" }}\n";
    fs::write(&source, text).unwrap();
    let servers = [FaultServer::start().unwrap(), FaultServer::start().unwrap()];
    register(&agent, "web", "web1", &servers[0]);
    let client = client::<S>(&agent.url(), |consul| {
        consul.templates = vec![TemplateConfig {
            source: source.to_str().unwrap().to_owned(),
            destination: output.to_str().unwrap().to_owned(),
            period: Duration::from_secs(1),
        }];
    });
    let client = client.build().unwrap();
    let background = S::background(&client);
    let reads = |expected: &str| fs::read_to_string(&output).is_ok_and(|text| text == expected);
    let line = |n: usize| format!("server {}; # web{}\n", servers[n].addr(), n + 1);
    eventually("it is rendered", || reads(&format!("{}mode plain\n", line(0))));

    let first = identity(&output);
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(identity(&output), first, "looked at twice, and not written");
    register(&agent, "web", "web2", &servers[1]);
    agent.done("/v1/kv/web/mode", "fast").unwrap();
    eventually("it is rewritten", || reads(&format!("{}{}mode fast\n", line(0), line(1))));
    let second = identity(&output);
    assert_ne!(second.0, first.0, "another file took its name");

    // While Consul is down the file is not touched; it is said, once.
    agent.process.kill9();
    within(Duration::from_secs(15), "it is said", || {
        matches!(events(&client).last(), Some(renderer::Event::Failed { .. }))
    });
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(identity(&output), second);
    let failed = |e: &renderer::Event| matches!(e, renderer::Event::Failed { .. });
    assert_eq!(events(&client).iter().filter(|e| failed(e)).count(), 1, "{:?}", events(&client));
    // A development agent has forgotten everything, and says so.
    agent.process.restart().unwrap();
    within(Duration::from_secs(20), "it goes on", || reads("mode plain\n"));
    drop(background);
}
