//! `origin call`: one call, its answer on stdout, the exit code for the script around it.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use origin_blocking::core::config::EndpointConfig;
use origin_blocking::{Client, Report, Response};
use serde_json::{Map, Value, json};

use crate::exit::{self, Refusal};
use crate::settings::{Where, known};
use crate::{content, span, text};

/// The command line of `origin call`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "origin call [OPTIONS] <SERVICE> [METHOD] <PATH>")]
pub(crate) struct Args {
    /// Name of the service, as discovery knows it.
    service: String,
    /// The path below the endpoint's base path, beginning with '/', with its query if any; the
    /// method may stand before it.
    #[arg(required = true, num_args = 1..=2, value_name = "[METHOD] PATH")]
    what: Vec<String>,
    /// GET, POST, PUT, …; methods that are not idempotent are not repeated once they may have
    /// left, unless --idempotent is given. Default: GET, with a body POST.
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<String>,
    /// Address of the service, instead of asking discovery. Can be repeated.
    #[arg(long, value_name = "URL")]
    endpoint: Vec<String>,
    /// A request header. Can be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The request body: a text, @FILE, or - for stdin.
    #[arg(short, long, value_name = "BODY", allow_hyphen_values = true)]
    data: Option<String>,
    /// Write the body of the answer to this file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the status and the headers before the body.
    #[arg(short, long, conflicts_with = "json")]
    include: bool,
    /// Print one JSON object with status, headers, body and report (or error, advice and report)
    /// instead of the bare body.
    #[arg(long, conflicts_with = "output")]
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
    /// Repeat at most so often; 0: never. Default: as the policy says.
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(0..=99))]
    retry: Option<u32>,
    /// Repeating this request has no further effect.
    #[arg(long)]
    idempotent: bool,
    /// Do not print the body of an answer with status 400 or above.
    #[arg(long)]
    fail: bool,
    #[command(flatten)]
    place: Where,
}

/// Makes the call and returns the exit code.
pub(crate) fn run(args: &Args) -> Result<u8, Refusal> {
    match call(args) {
        Ok(reply) => answered(args, &reply),
        Err(Refusal::Error(error)) => {
            if args.json {
                let report = error.failure().map(|failure| &failure.report);
                let out = json!({
                    "error": error.to_string(), "advice": exit::advice(&error), "report": report,
                });
                // The exit code tells of the failed call, whoever reads this or not.
                let _ = text::print_json(&out);
            }
            exit::explain(&error);
            if let (true, Some(failure)) = (args.explain, error.failure()) {
                explain(&failure.report);
            }
            Ok(exit::of_error(&error))
        }
        Err(other) => Err(other),
    }
}

impl Args {
    /// The method and the path.
    fn target(&self) -> Result<(&str, &str), Refusal> {
        let usual = if self.data.is_some() { "POST" } else { "GET" };
        match (&*self.what, &self.method) {
            ([method, path], None) => Ok((method, path)),
            ([path], method) => Ok((method.as_deref().unwrap_or(usual), path)),
            _ => Err(Refusal::Usage(
                "the method stands there twice".to_owned(),
                "give it before the path, or with -X",
            )),
        }
    }
}

fn call(args: &Args) -> Result<Response, Refusal> {
    let (method, path) = args.target()?;
    let client = client(args)?;
    let method = method
        .to_uppercase()
        .parse()
        .map_err(|_| Refusal::Usage(format!("{method:?} is not a method"), "write GET, POST, …"))?;
    let mut request = client.service(&args.service)?.request(method, path);
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
    let mut config = args.place.read()?.config;
    let injected = args.endpoint.iter().map(EndpointConfig::at);
    if !args.endpoint.is_empty() {
        let service = config.services.entry(args.service.clone()).or_default();
        service.endpoints.extend(injected);
    }
    known(&config)?;
    let (total, attempt) = (args.timeout, args.attempt_timeout);
    // In the configuration, so that what was derived from other spans is derived from these; and
    // in the policy of the service where it has one of its own.
    let own = config.services.get_mut(&args.service).and_then(|own| own.policy.as_mut());
    for policy in own.into_iter().chain([&mut config.policy]) {
        let deadline = &mut policy.deadline;
        deadline.total = total.unwrap_or(deadline.total);
        deadline.attempt = attempt.or(deadline.attempt);
        if let Some(limit) = deadline.attempt.filter(|limit| *limit > deadline.total) {
            // A shorter whole on the command line shortens what the file says of its parts.
            deadline.attempt = Some(limit.min(deadline.total));
        }
        if let Some(retry) = args.retry {
            policy.retry.max_attempts = retry + 1;
            // What one cluster may take is not more than what there is.
            let cluster = &mut policy.retry.attempts_per_cluster;
            *cluster = (*cluster).min(retry + 1);
        }
    }
    Ok(args.place.builder(config)?.build()?)
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

fn answered(args: &Args, reply: &Response) -> Result<u8, Refusal> {
    let code = exit::of_answer(reply);
    let printed = show(args, reply, code);
    if args.explain {
        explain(reply.report());
    }
    if code != exit::OK {
        let advice = "see what the service says about the request";
        exit::say(&format!("{}: answered {}", args.service, reply.status()), advice);
    }
    match printed {
        // That the reader is gone does not make a failed call a good one.
        Err(Refusal::Gone) | Ok(()) => Ok(code),
        Err(refusal) => Err(refusal),
    }
}

fn show(args: &Args, reply: &Response, code: u8) -> Result<(), Refusal> {
    if args.json {
        return text::print_json(&as_json(reply));
    }
    if args.include {
        let mut head = format!("{}\n", reply.status());
        for (name, value) in reply.headers() {
            let value = String::from_utf8_lossy(value.as_bytes());
            head.push_str(&format!("{name}: {}\n", text::clean(&value)));
        }
        text::print(format!("{head}\n").as_bytes())?;
    }
    if args.fail && code != exit::OK {
        return Ok(());
    }
    match &args.output {
        Some(path) => {
            let name = path.display().to_string();
            fs::write(path, reply.bytes()).map_err(|error| {
                Refusal::Unusable(format!("{name}: {error}"), "name a file that can be written")
            })
        }
        None => content::print(reply.bytes()),
    }
}

fn explain(report: &Report) {
    exit::warn(&report.explain());
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
