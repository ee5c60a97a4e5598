//! Asking the user before something is done that cannot be taken back: through the client where it can ask, else by an
//! argument that repeats what would be done.

use super::backend::{Refused, refused};
use rmcp::model::*;
use rmcp::service::{ElicitationError, RequestContext, RoleServer};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The code of a call that has to be confirmed by an argument.
pub(super) const NEEDS_CONFIRMATION: &str = "needs_confirmation";
/// The key of the question, for a client that is asked in the answer.
const QUESTION: &str = "confirm";

/// What a client of protocol 2026-07-28 sends with a call that was answered with a question.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) responses: Option<InputResponses>,
    pub(super) state: Option<String>,
}

/// How asking went, where the user has not said no.
#[derive(Debug)]
pub(super) enum Consent {
    Given,
    /// This is the answer to the call: the client asks its user, and calls again.
    Ask(Box<InputRequiredResult>),
}

/// What the user is asked.
#[derive(Debug, Deserialize, JsonSchema)]
struct Agreement {
    /// Whether to go on.
    confirm: bool,
}
rmcp::elicit_safe!(Agreement);

fn declined() -> Refused {
    refused("not_confirmed", "the user did not agree: nothing was changed")
}

/// Asks the user through the client, where it can; else the argument `given` has to say what is wanted.
pub(super) async fn confirm(
    context: &RequestContext<RoleServer>,
    question: String,
    wanted: &str,
    given: Option<&str>,
    answers: &Answers,
) -> Result<Consent, Refused> {
    let can_ask = context
        .client_capabilities()
        .and_then(|client| client.elicitation)
        .is_some_and(|modes| modes.form.is_some() || modes.url.is_none());
    if !can_ask {
        return by_word(&question, wanted, given);
    }
    if context.protocol_version().is_some_and(|v| v >= ProtocolVersion::V_2026_07_28) {
        return in_the_answer(question, wanted, answers);
    }
    match context.peer.elicit::<Agreement>(question).await {
        Ok(Some(Agreement { confirm: true })) => Ok(Consent::Given),
        Ok(_) | Err(ElicitationError::UserDeclined | ElicitationError::UserCancelled) => Err(declined()),
        Err(e) => Err(refused(
            "not_confirmed",
            format!("the client could not ask its user ({e}): nothing was changed"),
        )),
    }
}

fn by_word(question: &str, wanted: &str, given: Option<&str>) -> Result<Consent, Refused> {
    if given == Some(wanted) {
        return Ok(Consent::Given);
    }
    Err(refused(
        NEEDS_CONFIRMATION,
        format!("{question} Ask the user, then call again with confirm: {wanted:?}"),
    ))
}

/// A server of protocol 2026-07-28 sends no requests: the question is the answer, and the call comes again. What was asked
/// comes back as the state; where it is not what would be done now, the user is asked again.
fn in_the_answer(question: String, wanted: &str, answers: &Answers) -> Result<Consent, Refused> {
    let response = answers.responses.as_ref().and_then(|all| all.get(QUESTION));
    match response {
        Some(response) if answers.state.as_deref() == Some(wanted) => {
            let result: Option<ElicitResult> = serde_json::from_value(response.clone()).ok();
            let agrees = result.filter(|r| r.action == ElicitationAction::Accept).and_then(|r| r.content);
            let agreement = agrees.and_then(|content| serde_json::from_value(content).ok());
            match agreement {
                Some(Agreement { confirm: true }) => Ok(Consent::Given),
                _ => Err(declined()),
            }
        }
        _ => {
            let requested_schema = ElicitationSchema::from_type::<Agreement>()
                .map_err(|e| refused("internal", format!("the question has no schema: {e}")))?;
            let asked = ElicitRequest::new(ElicitRequestParams::FormElicitationParams {
                meta: None,
                message: question,
                requested_schema,
            });
            let asked = BTreeMap::from([(QUESTION.to_string(), InputRequest::Elicitation(asked))]);
            Ok(Consent::Ask(Box::new(InputRequiredResult::new(Some(asked), Some(wanted.to_string())))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_word_has_to_be_what_would_be_done() {
        assert!(matches!(by_word("Cancel 3?", "3", Some("3")), Ok(Consent::Given)));
        for given in [None, Some(""), Some("2"), Some("yes")] {
            assert_eq!(
                by_word("Cancel 3?", "3", given).unwrap_err()["code"],
                NEEDS_CONFIRMATION,
                "{given:?}"
            );
        }
    }

    #[test]
    fn an_answer_counts_for_the_question_that_was_asked() {
        fn check(state: Option<&str>, response: Option<Value>, want: &str) {
            let responses = response.clone().map(|r| BTreeMap::from([(QUESTION.to_string(), r)]));
            let answers = Answers { responses, state: state.map(str::to_string) };
            let got = match in_the_answer("Cancel 3?".into(), "3", &answers) {
                Ok(Consent::Given) => "given".to_string(),
                Ok(Consent::Ask(asked)) => {
                    assert_eq!(asked.request_state.as_deref(), Some("3"));
                    "ask".to_string()
                }
                Err(problem) => problem["code"].as_str().unwrap().to_string(),
            };
            assert_eq!(got, want, "{state:?} {response:?}");
        }
        let yes = json!({"action": "accept", "content": {"confirm": true}});
        check(None, None, "ask");
        check(Some("3"), Some(yes.clone()), "given");
        check(Some("2"), Some(yes.clone()), "ask");
        check(None, Some(yes), "ask");
        check(Some("3"), Some(json!({"action": "accept", "content": {"confirm": false}})), "not_confirmed");
        check(Some("3"), Some(json!({"action": "accept"})), "not_confirmed");
        check(Some("3"), Some(json!({"action": "decline"})), "not_confirmed");
        check(Some("3"), Some(json!({"action": "cancel"})), "not_confirmed");
        check(Some("3"), Some(json!("nonsense")), "not_confirmed");
    }
}
