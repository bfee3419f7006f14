//! `origin call`: one call, its answer on stdout, the exit code for the script around it.

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use origin_blocking::{Client, Config, Error, Report, Response, Roots};
use serde_json::{Map, Value, json};

use crate::{exit, span};

/// The command line of `origin call`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the service, as discovery knows it.
    service: String,
    /// GET, POST, PUT, …; methods that are not idempotent are not repeated once they may have
    /// left, unless --idempotent is given.
    method: String,
    /// Path below the endpoint's base path, beginning with '/', with its query if any.
    path: String,
    /// URL of the discovery document.
    #[arg(long, value_name = "URL", env = "ORIGIN_DISCOVERY", hide_env_values = true)]
    discovery: Option<String>,
    /// Configuration file; what is given on the command line wins.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the service, instead of asking discovery. Can be repeated.
    #[arg(long, value_name = "URL")]
    endpoint: Vec<String>,
    /// Name of the cluster this machine is in: tried first.
    #[arg(long, value_name = "NAME", env = "ORIGIN_LOCAL_CLUSTER", hide_env_values = true)]
    local: Option<String>,
    /// Trust the certificate authorities in this PEM file and no others.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A request header. Can be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The request body: a text, @FILE, or - for stdin.
    #[arg(short, long, value_name = "BODY", allow_hyphen_values = true)]
    data: Option<String>,
    /// Print one JSON object with status, headers, body and report (or error, advice and report)
    /// instead of the bare body.
    #[arg(long)]
    json: bool,
    /// Tell on stderr which endpoints were tried, why, what they said and how long it took.
    #[arg(long)]
    explain: bool,
    /// Limit of the whole call (250ms, 1m30s, or seconds).
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    timeout: Option<Duration>,
    /// Limit of each attempt.
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    attempt_timeout: Option<Duration>,
    /// Repeating this request has no further effect.
    #[arg(long)]
    idempotent: bool,
    /// Do not print the body of an answer with status 400 or above.
    #[arg(long)]
    fail: bool,
}

/// What keeps a call from being made.
enum Refusal {
    /// The command line, or a file it names.
    Usage(String, &'static str),
    /// The library says why.
    Error(Error),
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        Refusal::Error(error.into())
    }
}

/// Makes the call and returns the exit code.
pub(crate) fn run(args: &Args) -> u8 {
    match call(args) {
        Ok(reply) => answered(args, &reply),
        Err(Refusal::Usage(what, advice)) => {
            exit::say(&what, advice);
            exit::USAGE
        }
        Err(Refusal::Error(error)) => {
            if args.json {
                let report = error.failure().map(|failure| &failure.report);
                let out = json!({
                    "error": error.to_string(), "advice": error.advice(), "report": report,
                });
                // The exit code tells of the failed call, whoever reads this or not.
                let _ = print(format!("{out}\n").as_bytes());
            }
            exit::explain(&error);
            if let (true, Some(failure)) = (args.explain, error.failure()) {
                explain(&failure.report);
            }
            exit::of_error(&error)
        }
    }
}

fn call(args: &Args) -> Result<Response, Refusal> {
    let client = client(args)?;
    let method = args.method.to_uppercase().parse().map_err(|_| {
        Refusal::Usage(format!("{:?} is not a method", args.method), "write GET, POST, PUT, …")
    })?;
    let mut request = client.service(&args.service)?.request(method, &args.path);
    for header in &args.headers {
        let (name, value) = header.split_once(':').ok_or_else(|| {
            // Not the text itself: without a colon all of it may be a secret.
            Refusal::Usage("a header has no colon".to_owned(), "write -H 'Name: value'")
        })?;
        request = request.header(name.trim(), value.trim());
    }
    if let Some(data) = &args.data {
        request = request.body(body(data)?);
    }
    if args.idempotent {
        request = request.idempotent(true);
    }
    Ok(request.send()?)
}

fn client(args: &Args) -> Result<Client, Refusal> {
    let mut builder = Client::builder();
    if let Some(path) = &args.config {
        let advice = "name a readable file in the form of origin.toml";
        let text = fs::read_to_string(path)
            .map_err(|e| Refusal::Usage(format!("{}: {e}", path.display()), advice))?;
        builder = builder.config(Config::from_toml(&text)?);
    } else if args.discovery.is_none() && args.endpoint.is_empty() {
        return Err(Refusal::Usage(
            "it is not known where services are".to_owned(),
            "give --discovery URL (or ORIGIN_DISCOVERY), --config FILE, or --endpoint URL",
        ));
    }
    if let Some(url) = &args.discovery {
        builder = builder.discovery(url);
    }
    for endpoint in &args.endpoint {
        builder = builder.endpoint(&args.service, endpoint);
    }
    if let Some(local) = &args.local {
        builder = builder.local_cluster(local);
    }
    if let Some(path) = &args.ca {
        let advice = "name a readable PEM file";
        let pem = fs::read(path)
            .map_err(|e| Refusal::Usage(format!("{}: {e}", path.display()), advice))?;
        builder = builder.roots(Roots::Pem(pem));
    }
    let (total, attempt) = (args.timeout, args.attempt_timeout);
    // In the configuration, so that what was derived from other spans is derived from these; and
    // in the policy of the service where it has one of its own.
    let service = args.service.clone();
    builder = builder.configure(move |config| {
        let own = config.services.get_mut(&service).and_then(|own| own.policy.as_mut());
        for policy in own.into_iter().chain([&mut config.policy]) {
            let deadline = &mut policy.deadline;
            deadline.total = total.unwrap_or(deadline.total);
            deadline.attempt = attempt.or(deadline.attempt);
            if let Some(limit) = deadline.attempt.filter(|limit| *limit > deadline.total) {
                // A shorter whole on the command line shortens what the file says of its parts.
                deadline.attempt = Some(limit.min(deadline.total));
            }
        }
    });
    Ok(builder.build()?)
}

/// The bytes that `-d` stands for.
fn body(data: &str) -> Result<Vec<u8>, Refusal> {
    let unreadable = |what: &str, e: &io::Error| {
        Refusal::Usage(format!("{what}: {e}"), "give -d TEXT, -d @FILE, or -d - for stdin")
    };
    match data {
        "-" | "@-" => {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).map_err(|e| unreadable("stdin", &e))?;
            Ok(bytes)
        }
        _ => match data.strip_prefix('@') {
            Some(path) => fs::read(path).map_err(|e| unreadable(path, &e)),
            None => Ok(data.as_bytes().to_vec()),
        },
    }
}

fn answered(args: &Args, reply: &Response) -> u8 {
    let code = exit::of_answer(reply);
    let printed = if args.json {
        print(format!("{}\n", as_json(reply)).as_bytes())
    } else if args.fail && code != exit::OK {
        Ok(())
    } else {
        print(reply.bytes())
    };
    if args.explain {
        explain(reply.report());
    }
    if code != exit::OK {
        let advice = "see what the service says about the request";
        exit::say(&format!("{}: answered {}", args.service, reply.status()), advice);
    }
    if let Err(error) = printed {
        exit::say(&format!("stdout: {error}"), "give the output a place to go");
        return exit::UNUSABLE;
    }
    code
}

fn explain(report: &Report) {
    exit::warn(&report.explain());
}

fn print(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

fn as_json(reply: &Response) -> Value {
    let mut headers = Map::new();
    for name in reply.headers().keys() {
        let all = reply.headers().get_all(name).iter();
        let mut values: Vec<Value> =
            all.map(|value| String::from_utf8_lossy(value.as_bytes()).into()).collect();
        // A header that stands once is a text, one that is repeated a list of them.
        let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
        headers.insert(name.as_str().to_owned(), value);
    }
    json!({
        "status": reply.status().as_u16(),
        "headers": headers,
        "body": reply.text(),
        "report": reply.report(),
    })
}
