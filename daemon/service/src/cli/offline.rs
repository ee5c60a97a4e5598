//! Verbs that read files: policy tests and the audit.

use super::admin::Rest;
use super::{Failure, Remote, output};
use crate::{access, audit};
use clap::Subcommand;
use std::path::PathBuf;

/// `minoots policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyVerb {
    /// Put the questions of a file before the policies.
    Test {
        /// A TOML file of cases.
        cases: PathBuf,
        /// The operator's policies, beside the built-in ones
        #[arg(long, value_name = "DIR")]
        policies: Option<PathBuf>,
    },
}

/// `minoots audit`.
#[derive(Debug, Subcommand)]
pub enum AuditVerb {
    /// Find what was altered, removed or reordered.
    Verify {
        /// The directory of the audit.
        dir: PathBuf,
    },
    /// Write the lines of an audit directory as they are.
    Export {
        /// The directory of the audit.
        dir: PathBuf,
        /// Only after this line
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Show the lines that a service has written.
    Tail {
        /// Only after this line
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
}

pub(super) fn policy(verb: PolicyVerb, remote: &Remote) -> Result<(), Failure> {
    let PolicyVerb::Test { cases, policies } = verb;
    let report = access::policy::run_policy_tests(policies.as_deref(), &cases).map_err(Failure::usage)?;
    let failed: Vec<_> =
        report.failed.iter().map(|(name, how)| serde_json::json!({"case": name, "how": how})).collect();
    output::answer(&serde_json::json!({"passed": report.passed, "failed": failed}), remote.json)?;
    match failed.len() {
        0 => Ok(()),
        n => Err(Failure::failed(format!("{n} cases are answered otherwise than expected"))),
    }
}

pub(super) async fn audit(verb: AuditVerb, remote: &Remote) -> Result<(), Failure> {
    let at = |dir: &PathBuf, e: std::io::Error| {
        Failure::failed(format!(
            "cannot read the audit {}: {e}: name the directory of its files",
            dir.display()
        ))
    };
    match verb {
        AuditVerb::Verify { dir } => {
            let report = audit::verify(&dir).map_err(|e| at(&dir, e))?;
            output::answer(&serde_json::to_value(&report).map_err(Failure::failed)?, remote.json)?;
            match report.is_whole() {
                true => Ok(()),
                false => Err(Failure::failed("the audit is not whole: the findings name the lines")),
            }
        }
        AuditVerb::Export { dir, after } => {
            let filters = audit::Filters { after, ..Default::default() };
            let written = audit::export(&dir, &filters, &mut std::io::stdout().lock());
            match written {
                Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                written => written.map(|_| ()).map_err(|e| at(&dir, e)),
            }
        }
        AuditVerb::Tail { after } => {
            let rest = Rest::new(remote)?;
            let mut next = Some(after);
            while let Some(after) = next {
                let page = rest.get(&format!("/v1/audit?after={after}")).await?;
                for line in page["lines"].as_array().into_iter().flatten() {
                    output::line(line.as_str().unwrap_or(&line.to_string()))?;
                }
                next = page["next_after"].as_u64().filter(|n| *n > after);
            }
            Ok(())
        }
    }
}
