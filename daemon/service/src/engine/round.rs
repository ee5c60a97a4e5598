//! What one request does to the kernel, and the answer that it will get.

use super::handle::{Created, EngineError, ListQuery, Request, TimerPage};
use minoots_kernel::{
    ClockStamp, Command, CommandError, Kernel, Outcome, Selection, TimerDefinition, TimerId, TimerInstance,
};
use std::sync::Arc;

/// The answer to a request that may change something; sent when the change is durable.
pub(super) enum Answer {
    Created(Vec<Result<Created, EngineError>>),
    Cancelled(Result<TimerInstance, EngineError>),
    Finished(Result<(), EngineError>),
    /// The request reads; it is answered from the state after the round.
    Read,
}

/// How many commands a request holds: what a round is measured in.
pub(super) fn weight(request: &Request) -> usize {
    match request {
        Request::Create(batch, _) => batch.len().max(1),
        _ => 1,
    }
}

/// Carries a request out on the kernel; its events are staged.
pub(super) fn decide(kernel: &mut Kernel, request: &Request, stamp: &ClockStamp) -> Answer {
    answer(request, |command| kernel.handle(command, stamp).map_err(EngineError::from))
}

/// The answer to a request while nothing can be stored: a command that needs no event (a repeated create, a refusal)
/// is answered as ever, all others with `refusal`. The kernel must have nothing staged, and has not afterwards.
pub(super) fn decide_without_store(
    kernel: &mut Kernel,
    request: &Request,
    stamp: &ClockStamp,
    refusal: &dyn Fn() -> EngineError,
) -> Answer {
    answer(request, |command| {
        let outcome = kernel.handle(command, stamp);
        if kernel.staged().is_empty() {
            return outcome.map_err(EngineError::from);
        }
        kernel.rollback();
        Err(refusal())
    })
}

/// The commands of a request, each put to `handle`, and the outcomes as an answer.
fn answer(request: &Request, mut handle: impl FnMut(Command) -> Result<Outcome, EngineError>) -> Answer {
    match request {
        Request::Create(batch, _) => {
            let create = |(id, definition): &(TimerId, Arc<TimerDefinition>)| {
                let id = *id;
                match handle(Command::Create { id, definition: definition.clone() })? {
                    Outcome::Created { timer, replayed } => Ok(Created { timer, replayed }),
                    _ => Err(CommandError::NotFound(id).into()),
                }
            };
            Answer::Created(batch.iter().map(create).collect())
        }
        Request::Cancel(tenant, id, reason, _) => {
            let (tenant, id, reason) = (tenant.clone(), *id, reason.clone());
            Answer::Cancelled(handle(Command::Cancel { tenant, id, reason }).and_then(|o| match o {
                Outcome::Cancelled(timer) => Ok(timer),
                _ => Err(CommandError::NotFound(id).into()),
            }))
        }
        Request::Finish(firing, results, _) => {
            let command = Command::Finish { firing: *firing, results: results.clone() };
            Answer::Finished(handle(command).map(|_| ()))
        }
        Request::Get(..) | Request::List(..) | Request::Status(_) | Request::Shutdown => Answer::Read,
    }
}

/// One page of timers.
pub(super) fn list(kernel: &Kernel, query: &ListQuery) -> TimerPage {
    let ListQuery { tenant, state, labels, after, limit } = query;
    let page = kernel.list(&Selection { tenant, state: *state, labels, after: *after, limit: *limit });
    TimerPage { timers: page.timers.into_iter().cloned().collect(), next: page.next }
}
