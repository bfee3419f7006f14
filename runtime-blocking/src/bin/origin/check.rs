//! `origin check-config`: what is wrong in a configuration, what will surprise in it, what it comes
//! to and who has said it, and the schema that editors want.

use std::collections::BTreeMap;

use origin_blocking::Config;
use serde_json::{Map, Value, json};

use crate::exit::{self, Refusal};
use crate::settings::{Settings, Source, Where, key_of};
use crate::text::{self, Paint, Table, Tone};

/// The command line of `origin check-config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file. Default: the one that the other commands would read.
    file: Option<std::path::PathBuf>,
    /// Print every value there is, and who has said it: the default, a preset, a line of the file,
    /// a variable, a flag.
    #[arg(long)]
    effective: bool,
    /// With --effective: only what somebody has said, not the defaults.
    #[arg(long, requires = "effective")]
    said: bool,
    /// Print the JSON schema of the file, for editors, and check nothing.
    #[arg(long, conflicts_with = "effective")]
    schema: bool,
    /// Warnings are mistakes: exit code 1.
    #[arg(long)]
    strict: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Where,
}

/// One value of the effective configuration.
struct Line {
    key: String,
    value: Value,
    origin: String,
}

pub(crate) fn run(args: &Args) -> Result<u8, Refusal> {
    if args.schema {
        let schema = serde_json::to_string_pretty(&Config::schema()).unwrap_or_default();
        text::print(format!("{schema}\n").as_bytes())?;
        return Ok(exit::OK);
    }
    let mut place = args.place.clone();
    place.config = args.file.clone().or(place.config);
    let settings = place.read()?;
    // A file may hold policies alone; where services are then comes from elsewhere.
    settings.config.check_said()?;
    let warnings = settings.config.warnings();
    let lines = args.effective.then(|| effective(&settings)).transpose()?.map(|mut lines| {
        lines.retain(|line| !args.said || line.origin != "default");
        lines
    });
    if args.json {
        let effective = lines.map(|lines| {
            let of = |line: Line| (line.key, json!({"value": line.value, "origin": line.origin}));
            Value::Object(lines.into_iter().map(of).collect::<Map<_, _>>())
        });
        let mut all = json!({"warnings": warnings, "says_where": settings.config.says_where()});
        if let Some(effective) = effective {
            all["effective"] = effective;
        }
        text::print_json(&all)?;
    } else {
        let paint = Paint::of_stdout();
        let mut out = String::new();
        if let Some(lines) = lines {
            let mut table = Table::new(&["key", "value", "origin"]);
            for line in lines {
                let tone = (line.origin == "default").then_some(Tone::Dim);
                let cells = [line.key, line.value.to_string(), line.origin];
                table.row(cells.map(|cell| (cell, tone)));
            }
            out = table.text(paint);
        }
        for warning in &warnings {
            out.push_str(&paint.paint(Tone::Warn, &text::clean(&warning.to_string())));
            out.push('\n');
        }
        if !args.effective && warnings.is_empty() {
            out.push_str("no mistakes and no warnings\n");
        }
        if !settings.config.says_where() {
            out.push_str("it does not say where services are, which a client has to be told\n");
        }
        text::print(out.as_bytes())?;
    }
    Ok(if args.strict && !warnings.is_empty() { exit::MISSED } else { exit::OK })
}

/// Every value, in the order of the configuration.
fn effective(settings: &Settings) -> Result<Vec<Line>, Refusal> {
    let whole = serde_json::to_value(&settings.config).map_err(|error| {
        Refusal::Unusable(format!("the configuration cannot be written: {error}"), "report this")
    })?;
    let mut lines = Vec::new();
    walk(&whole, &mut Vec::new(), &mut |path, value| {
        let key = key_of(path);
        let origin = origin_of(path, &settings.origins);
        lines.push(Line { key, value: value.clone(), origin });
    });
    Ok(lines)
}

fn walk(value: &Value, path: &mut Vec<String>, found: &mut impl FnMut(&[String], &Value)) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                path.push(name.clone());
                walk(value, path, found);
                path.pop();
            }
        }
        // What is not there says nothing, and whoever has not said it either.
        Value::Null => {}
        value => found(path, value),
    }
}

/// Who has said the value at `path`: the nearest of those who have said it, or the whole it is in;
/// else the preset that its policy is laid on.
fn origin_of(path: &[String], origins: &BTreeMap<String, Source>) -> String {
    for length in (1..=path.len()).rev() {
        if let Some(source) = path.get(..length).and_then(|path| origins.get(&key_of(path))) {
            return source.to_string();
        }
    }
    // A value that is written as a table, and serialised as something else.
    let below = format!("{}.", key_of(path));
    if let Some((_, source)) =
        origins.range(below.clone()..).next().filter(|(key, _)| key.starts_with(&below))
    {
        return source.to_string();
    }
    for length in (1..path.len()).rev() {
        let mut preset = path.get(..length).unwrap_or_default().to_vec();
        preset.push("preset".to_owned());
        if let Some(source) = origins.get(&key_of(&preset)) {
            return format!("preset at {source}");
        }
    }
    "default".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_traced_to_whoever_said_it_last() {
        let file = |line| Source::File("f.toml".to_owned(), line);
        let origins = BTreeMap::from([
            ("policy.preset".to_owned(), file(2)),
            ("policy.retry.on.statuses".to_owned(), file(3)),
            ("policy.deadline.total".to_owned(), Source::Flag("--set".to_owned())),
        ]);
        let of = |key: &str| {
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            origin_of(&path, &origins)
        };
        assert_eq!(of("policy.retry.on.statuses"), "f.toml:3");
        assert_eq!(of("policy.deadline.total"), "--set");
        assert_eq!(of("policy.breaker.open"), "preset at f.toml:2");
        assert_eq!(of("limits.body"), "default");
    }
}
