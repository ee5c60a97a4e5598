//! Prompts: what a user may ask an agent to do with timers.

use rmcp::ErrorData;
use rmcp::model::{GetPromptRequestParams, GetPromptResult, Prompt, PromptArgument, PromptMessage, Role};

const ALL: [(&str, &str, &[&str], &str); 3] = [
    (
        "plan-a-reminder",
        "Turn what a user wants to be reminded of into a timer",
        &["what", "when"],
        "Plan a reminder: {what}, {when}. Choose after, at, every or cron; ask for the time zone where it matters. Then \
         call timer_create once, with an idempotency_key, and tell me its due_at.",
    ),
    (
        "investigate-late-timer",
        "Find out why a timer fired late or not at all",
        &["id"],
        "Call timer_explain for the timer {id}. Name each cause with its evidence; call timer_history where you need \
         more. Change nothing.",
    ),
    (
        "coordinate-agents",
        "Give each of several agents a timer of one session",
        &["session", "agents"],
        "Make a session {session} for the agents {agents}: call agent_coordination_session, tell each agent its timer, \
         and wait for each with timer_wait.",
    ),
];

pub(super) fn list() -> Vec<Prompt> {
    ALL.iter()
        .map(|(name, description, arguments, _)| {
            let arguments = arguments.iter().map(|a| PromptArgument::new(*a).with_required(true)).collect();
            Prompt::new(*name, Some(*description), Some(arguments))
        })
        .collect()
}

pub(super) fn get(asked: &GetPromptRequestParams) -> Result<GetPromptResult, ErrorData> {
    let Some((_, description, arguments, text)) = ALL.iter().find(|p| p.0 == asked.name) else {
        let detail = format!("there is no prompt {:?}: prompts/list names them", asked.name);
        return Err(ErrorData::invalid_params(detail, None));
    };
    let mut said = (*text).to_string();
    for name in *arguments {
        let value = asked.arguments.as_ref().and_then(|a| a.get(*name)).and_then(|v| v.as_str());
        let Some(value) = value else {
            return Err(ErrorData::invalid_params(format!("the prompt needs the argument {name}"), None));
        };
        said = said.replace(&format!("{{{name}}}"), value);
    }
    Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, said)]).with_description(*description))
}
