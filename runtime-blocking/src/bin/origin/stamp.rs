//! `origin stamp`: metadata stamps of files, by the stamping service of the bridge.

use std::path::PathBuf;

use origin_blocking::bridge::{NewStamp, Stamping};
use origin_blocking::core::ops::bridge;
use serde_json::json;

use crate::exit::{self, Refusal};
use crate::settings::Where;
use crate::{input, text};

/// The command line of `origin stamp`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The files; - for stdin.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Namespace of the stamps. Default: that of the service.
    #[arg(long)]
    namespace: Option<String>,
    /// What the stamp says. Can be repeated.
    #[arg(long = "data", short, value_name = "KEY=VALUE")]
    data: Vec<String>,
    /// Print the hash and stamp nothing.
    #[arg(long, conflicts_with = "validate")]
    hash: bool,
    /// Validate the stamps in the files; exit code 1 if one does not hold.
    #[arg(long)]
    validate: bool,
    /// The service speaks as the published server does, not as the clients' contract has it.
    #[arg(long)]
    of_server: bool,
    /// Print JSON, a file on a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

pub(crate) fn run(args: &Args) -> Result<u8, Refusal> {
    let mut config = args.place.read()?.config;
    bridge::configure(&mut config, |name| std::env::var(name).ok())?;
    let client = args.place.builder(config)?.build()?;
    let mut stamping = Stamping::new(client);
    if args.of_server {
        stamping = stamping.of_server();
    }
    let namespace = args.namespace.as_deref();
    let mut code = exit::OK;
    for file in &args.files {
        let (name, content) = (file.display().to_string(), input::read(file)?);
        if args.validate {
            let found = stamping.validate_stamp(&content_text(&name, content)?, namespace)?;
            let holds = found.validation_result;
            if !holds {
                code = exit::MISSED;
            }
            if args.json {
                text::print_json(&json!({
                    "file": name, "valid": holds, "stamps": found.stamps_found,
                }))?;
            } else {
                let word = if holds { "valid" } else { "NOT VALID" };
                let line = format!("{word}  {name} ({})", text::count(found.stamps_found, "stamp"));
                text::print(format!("{}\n", text::clean(&line)).as_bytes())?;
            }
            continue;
        }
        let hash = stamping.generate_hash(&content, namespace)?.hash;
        if args.hash {
            match args.json {
                true => text::print_json(&json!({"file": name, "hash": hash}))?,
                false => text::print(format!("{}  {name}\n", text::clean(&hash)).as_bytes())?,
            }
            continue;
        }
        let mut new = NewStamp::new(&hash, &name, content.len() as u64);
        if args.of_server {
            new = new.content(content_text(&name, content)?);
        }
        for one in &args.data {
            let (key, value) = one.split_once('=').ok_or_else(|| {
                Refusal::Usage("a --data has no =".to_owned(), "write --data KEY=VALUE")
            })?;
            new = new.with(key, value);
        }
        let stamp = stamping.create_stamp(&new, namespace)?;
        if args.json {
            text::print_json(&json!({
                "file": name, "hash": stamp.file_hash, "stamp_id": stamp.stamp_id,
                "created_at": stamp.created_at, "namespace": stamp.namespace,
            }))?;
        } else {
            let id = stamp.stamp_id.as_deref().unwrap_or("-");
            let line = format!("{id}  {}  {name}", stamp.file_hash);
            text::print(format!("{}\n", text::clean(&line)).as_bytes())?;
        }
    }
    Ok(code)
}

/// The content as the text that this operation wants.
fn content_text(name: &str, content: Vec<u8>) -> Result<String, Refusal> {
    String::from_utf8(content)
        .map_err(|_| Refusal::Usage(format!("{name}: is no text"), "give a file in UTF-8"))
}
