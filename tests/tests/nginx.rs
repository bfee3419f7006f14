//! The registry document as it is really served: by nginx, from a file, with the quirks of the
//! contract (an added JSON content type, `Cache-Control: max-age=300`, a legacy path that
//! redirects, HTML for everything else). All runtimes fetch it from there.

// Helpers of tests may fail the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use origin_lab::{World, WorldSpec};

#[macro_use] // on_every_runtime
extern crate origin_tests;

// What these rooms need of the conformance suite. It is used in part.
#[allow(dead_code)]
#[path = "conformance/authority.rs"]
mod authority;
#[allow(dead_code)]
#[path = "conformance/subject.rs"]
mod subject;

#[path = "nginx/mutual_tls.rs"]
mod mutual_tls;

/// nginx in the foreground, with everything it writes in a directory of its own.
struct Nginx {
    process: Child,
    directory: PathBuf,
    port: u16,
}

/// Where nginx is, or `None` with a loud word. In CI a missing server is a failure.
fn binary() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join("nginx"))
        .find(|file| file.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "nginx is missing; .ci/servers installs it");
        eprintln!("SKIPPED: nginx is not installed; run .ci/servers");
    }
    found
}

impl Nginx {
    fn start(document: &str) -> Option<Nginx> {
        Nginx::configured(&[("html/registry.json", document)], configuration)
    }

    /// With these files in its directory, and this configuration.
    fn configured(
        files: &[(&str, &str)],
        configuration: impl Fn(&Path, u16) -> String,
    ) -> Option<Nginx> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let binary = binary()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("origin-nginx-{}-{number}", std::process::id()));
        fs::create_dir_all(directory.join("html")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(directory.join("nginx.conf"), configuration(&directory, port)).unwrap();
        for (name, content) in files {
            fs::write(directory.join(name), content).unwrap();
        }
        let process = Command::new(binary)
            .args(["-e", "stderr", "-p"])
            .arg(&directory)
            .arg("-c")
            .arg(directory.join("nginx.conf"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(directory.join("error.log")).unwrap())
            .spawn()
            .unwrap();
        let mut nginx = Nginx { process, directory, port };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(nginx);
            }
            if let Some(status) = nginx.process.try_wait().unwrap() {
                panic!("nginx ended with {status}: {}", nginx.log("error.log"));
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("nginx does not listen: {}", nginx.log("error.log"));
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }

    /// The statuses it has answered with, in order.
    fn served(&self) -> Vec<String> {
        // It writes its log after the answer; give it a moment.
        std::thread::sleep(Duration::from_millis(100));
        self.log("access.log").lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn configuration(directory: &Path, port: u16) -> String {
    let dir = directory.display();
    format!(
        r#"
daemon off; master_process off; pid {dir}/pid;
events {{ worker_connections 128; }}
http {{
  log_format brief '$status $request_uri';
  access_log {dir}/access.log brief;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port};
    root {dir}/html;
    location /api/v1/services {{
      alias {dir}/html/registry.json;
      add_header Content-Type application/json;
      add_header Cache-Control "public, max-age=300";
    }}
    location = /services {{ return 301 /api/v1/services; }}
    location = /health {{ return 200 '{{"status":"healthy"}}'; }}
  }}
}}
"#
    )
}

fn setup() -> Option<(World, Nginx)> {
    let world = World::start(WorldSpec::default()).unwrap();
    let nginx = Nginx::start(&world.document().to_json())?;
    Some((world, nginx))
}

macro_rules! builder {
    ($client:ty, $world:expr, $url:expr) => {
        <$client>::builder().discovery($url).local_cluster($world.local()).configure(|c| {
            let discovery = c.discovery.as_mut().unwrap();
            discovery.ttl = Duration::from_secs(1);
            discovery.refresh_ahead = Duration::from_millis(100);
        })
    };
}

#[test]
fn blocking_reads_revalidates_and_follows_the_legacy_path() {
    let Some((world, nginx)) = setup() else { return };
    let client = builder!(origin_blocking::Client, world, nginx.url("/services")).build().unwrap();
    let billing = client.service("billing").unwrap();
    assert_eq!(billing.get("/x").send().unwrap().status(), 200);
    assert_eq!(nginx.served(), ["301 /services", "200 /api/v1/services"]);
    // Past its time to live, the next call asks again, with the validator of the document.
    std::thread::sleep(Duration::from_millis(1_100));
    assert_eq!(billing.get("/x").send().unwrap().status(), 200);
    assert_eq!(nginx.served()[2..], ["301 /services", "304 /api/v1/services"]);
    assert_eq!(client.snapshot().discovery[0].failures, 0);
}

#[test]
fn tokio_refreshes_in_the_background() {
    let Some((world, nginx)) = setup() else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client =
            builder!(origin_tokio::Client, world, nginx.url("/api/v1/services")).build().unwrap();
        let billing = client.service("billing").unwrap();
        assert_eq!(billing.get("/x").send().await.unwrap().status(), 200);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let served = nginx.served();
        assert!(served.len() >= 2 && served[1] == "304 /api/v1/services", "{served:?}");
    });
}

#[test]
fn async_std_and_smol_read_it_too() {
    let Some((world, nginx)) = setup() else { return };
    async_std::task::block_on(async {
        let client = builder!(origin_async_std::Client, world, nginx.url("/api/v1/services"))
            .build()
            .unwrap();
        assert_eq!(
            client.service("billing").unwrap().get("/x").send().await.unwrap().status(),
            200
        );
    });
    smol::block_on(async {
        let client = builder!(origin_async_std::smol::Client, world, nginx.url("/api/v1/services"))
            .build()
            .unwrap();
        assert_eq!(
            client.service("billing").unwrap().get("/x").send().await.unwrap().status(),
            200
        );
    });
}

/// A 404 of nginx is an HTML page, not a document.
#[test]
fn case_000_39_a_wrong_path_is_a_typed_error_that_names_the_source() {
    let Some((world, nginx)) = setup() else { return };
    let url = nginx.url("/api/v2/services");
    let client = builder!(origin_blocking::Client, world, url.clone()).build().unwrap();
    let error = client.service("billing").unwrap().get("/x").send().unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&url) && text.contains("404"), "{text}");
}
