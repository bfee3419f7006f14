//! `origin secret get`: a secret of Vault. The value goes to stdout and nowhere else.

use origin_blocking::core::config::VaultAuth;
use serde_json::Value;

use crate::exit::{self, Refusal};
use crate::settings::Where;
use crate::{content, text};

/// The command line of `origin secret`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Read a secret: all of it as JSON, or one field as it is.
    Get {
        /// Its path below /v1/: secret/data/app
        path: String,
        /// Print only this field, without quotes and, but on a terminal, without a line feed
        /// behind it.
        #[arg(long, short, value_name = "NAME")]
        field: Option<String>,
        /// Variable that holds the token, where `[vault]` says nothing else.
        #[arg(long, value_name = "NAME", default_value = "VAULT_CLIENT_TOKEN")]
        token_env: String,
        #[command(flatten)]
        place: Where,
    },
}

pub(crate) fn run(args: &Args) -> Result<u8, Refusal> {
    let What::Get { path, field, token_env, place } = &args.what;
    let mut builder = place.client()?;
    let auth = place.read()?.config.vault.map(|vault| vault.auth);
    if matches!(auth, None | Some(VaultAuth::Given)) {
        builder = builder.vault_token_from_env(token_env);
    }
    let client = builder.build()?;
    let secret = client.secrets().get_secret(path)?;
    let Some(field) = field else {
        text::print_json(&secret.data)?;
        return Ok(exit::OK);
    };
    match secret.data.get(field) {
        Some(Value::String(value)) => content::print(value.as_bytes())?,
        Some(other) => content::print(other.to_string().as_bytes())?,
        None => {
            let known: Vec<&str> = secret.data.keys().map(String::as_str).collect();
            exit::say(
                &format!("the secret has no field {field:?}; its fields are: {}", known.join(", ")),
                "give one of these, or none for all of them as JSON",
            );
            return Ok(exit::UNUSABLE);
        }
    }
    Ok(exit::OK)
}
