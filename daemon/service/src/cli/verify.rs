//! `minoots verify`: whether the service signed a text.

use super::admin::Rest;
use super::{Failure, Remote, output};
use chronotick::verify::{Keys, Kind};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What is signed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Signed {
    /// The receipt of a fire.
    Receipt,
    /// An event.
    Event,
    /// A checkpoint of the audit.
    Checkpoint,
}

/// `minoots verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// What the file holds.
    kind: Signed,
    /// The envelopes, one on each line or one over several; `-` is standard input.
    file: PathBuf,
    /// A JWK set in a file; asked of the service without
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    let text = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(path),
    };
    text.map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))
}

pub(super) async fn run(args: VerifyArgs, remote: &Remote) -> Result<(), Failure> {
    let text = read(&args.file)?;
    let jwks = match &args.keys {
        Some(path) => read(path)?,
        None => Rest::new(remote)?.get("/.well-known/minoots-keys.json").await?.to_string(),
    };
    let keys = Keys::from_jwks(&jwks).map_err(Failure::usage)?;
    let kind = match args.kind {
        Signed::Receipt => Kind::Receipt,
        Signed::Event => Kind::Event,
        Signed::Checkpoint => Kind::Checkpoint,
    };
    let envelopes = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
    let mut count = 0;
    for envelope in envelopes {
        count += 1;
        let at = |e: &dyn std::fmt::Display| {
            let what = args.kind.to_possible_value().map(|v| v.get_name().to_string()).unwrap_or_default();
            Failure::of_code(
                "not_verified",
                format!("{what} {count} of {} is not taken as signed: {e}", args.file.display()),
            )
        };
        let envelope = envelope.map_err(|e| at(&e))?;
        let payload = keys.open(kind, &envelope.to_string()).map_err(|e| at(&e))?;
        match remote.json {
            // Exactly what was signed.
            true => output::line(&payload)?,
            false => {
                output::line("signature: good")?;
                output::answer(&serde_json::from_str(&payload).unwrap_or(payload.into()), false)?;
            }
        }
    }
    match count {
        0 => Err(Failure::usage(format!("{} holds no envelope", args.file.display()))),
        _ => Ok(()),
    }
}
