//! Why the timer service did not do what it was asked to.

use std::time::Duration;
use tonic::Code;

/// What went wrong.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimersError {
    /// The service refused. `code` is a stable word of docs/api/errors.md; nothing has changed.
    #[error("{detail}")]
    Refused {
        /// The stable word.
        code: String,
        /// What happened this time, and what to do next.
        detail: String,
        /// When to try again, where that can help.
        retry_after: Option<Duration>,
    },
    /// The service did not answer. A change may have been made all the same.
    #[error("the timer service does not answer: {0}: look whether `minoots serve` runs at this address")]
    Unreachable(String),
    /// The client was set up wrongly.
    #[error("{0}")]
    Config(String),
    /// The answer is not one of this protocol.
    #[error("the answer cannot be read: {0}: compare the versions of client and service")]
    Answer(String),
}

impl TimersError {
    /// The stable word: of docs/api/errors.md, or `unreachable`, `config`, `answer` for what this side found.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Unreachable(_) => "unreachable",
            Self::Config(_) => "config",
            Self::Answer(_) => "answer",
        }
    }

    /// How long the service asks to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The same call may succeed later without a change to it.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable(_)) || self.retry_after().is_some()
    }

    pub(super) fn missing(field: &str) -> Self {
        Self::Answer(format!("{field} is missing"))
    }
}

impl From<tonic::Status> for TimersError {
    fn from(status: tonic::Status) -> Self {
        let metadata = |name| status.metadata().get(name).and_then(|v| v.to_str().ok());
        let Some(code) = metadata("minoots-code") else {
            return match status.code() {
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
                    Self::Unreachable(reason(&status))
                }
                other => Self::Refused {
                    code: format!("grpc_{other:?}").to_lowercase(),
                    detail: status.message().to_string(),
                    retry_after: None,
                },
            };
        };
        let detail = status.message();
        let detail = detail.strip_prefix(code).and_then(|d| d.strip_prefix(": ")).unwrap_or(detail);
        Self::Refused {
            code: code.to_string(),
            detail: detail.to_string(),
            retry_after: metadata("retry-after").and_then(|s| s.parse().ok()).map(Duration::from_secs),
        }
    }
}

/// The message with the causes that it hides.
fn reason(status: &tonic::Status) -> String {
    let mut text = status.message().to_string();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    if text.is_empty() { format!("{:?}", status.code()) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_becomes_its_code_and_detail() {
        let mut status = tonic::Status::not_found("timer_not_found: no timer \"x\"");
        status.metadata_mut().insert("minoots-code", "timer_not_found".parse().unwrap());
        let e = TimersError::from(status.clone());
        assert_eq!((e.code(), e.to_string().as_str()), ("timer_not_found", "no timer \"x\""));
        assert!(!e.is_transient());
        status.metadata_mut().insert("retry-after", 5.into());
        assert_eq!(TimersError::from(status).retry_after(), Some(Duration::from_secs(5)));
        let e = TimersError::from(tonic::Status::unavailable("tcp connect error"));
        assert_eq!((e.code(), e.is_transient()), ("unreachable", true));
    }
}
