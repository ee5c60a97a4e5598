//! The sessions of clients before protocol 2026-07-28: each belongs to the caller that opened it, ends when it has been
//! idle, and nobody has many.

use crate::access::Caller;
use rmcp::transport::streamable_http_server::session::SessionManager;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How many sessions there may be, and for how long.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) per_caller: usize,
    pub(super) per_tenant: usize,
    /// A session without a stream and without a request for so long ends.
    pub(super) idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_caller: 64, per_tenant: 512, idle: Duration::from_secs(300) }
    }
}

struct Kept {
    /// `None` for one whose client left before it had an answer.
    owner: Option<Caller>,
    /// How many streams are open.
    streams: usize,
    last_used: Instant,
}

type Table = HashMap<Arc<str>, Kept>;

/// Every session.
pub(super) struct Sessions {
    pub(super) manager: Arc<LocalSessionManager>,
    limits: Limits,
    table: Mutex<Table>,
}

impl Sessions {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let mut manager = LocalSessionManager::default();
        // A session lives while its stream is open, however long nothing happens: idle ones are ended here.
        manager.session_config.keep_alive = None;
        Arc::new(Self { manager: Arc::new(manager), limits, table: Mutex::default() })
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is a session of the caller's; it is used then. One of another caller's is not there for this one.
    pub(super) fn is_of(&self, id: &str, caller: &Caller, now: Instant) -> bool {
        let mut table = self.table();
        let kept = table.get_mut(id).filter(|k| k.owner.as_ref().is_some_and(|owner| owner.is_same(caller)));
        if let Some(kept) = kept {
            kept.last_used = now;
            return true;
        }
        false
    }

    /// Takes in a new session. Where the caller or its tenant has too many, those that were not used for longest end.
    pub(super) async fn opened(&self, id: &str, caller: &Caller, now: Instant) {
        let too_many = {
            let mut table = self.table();
            let is_its = |k: &Kept| {
                k.owner.as_ref().is_some_and(|o| o.principal == caller.principal && o.tenant == caller.tenant)
            };
            let is_of_tenant = |k: &Kept| k.owner.as_ref().is_some_and(|o| o.tenant == caller.tenant);
            let mut ended = oldest(&table, is_its, self.limits.per_caller);
            ended.extend(oldest(&table, is_of_tenant, self.limits.per_tenant));
            ended.iter().for_each(|id| drop(table.remove(id)));
            let kept = Kept { owner: Some(caller.clone()), streams: 0, last_used: now };
            table.insert(id.into(), kept);
            ended
        };
        for id in too_many {
            self.end(&id).await;
        }
    }

    /// Ends a session.
    pub(super) async fn end(&self, id: &str) {
        self.table().remove(id);
        if let Err(error) = self.manager.close_session(&Arc::from(id)).await {
            tracing::debug!(%error, "an MCP session did not end as it should");
        }
    }

    /// A stream of the session, until it is dropped.
    pub(super) fn stream(self: &Arc<Self>, id: &str) -> OpenStream {
        if let Some(kept) = self.table().get_mut(id) {
            kept.streams += 1;
        }
        OpenStream { sessions: self.clone(), id: id.into() }
    }

    /// Ends what has been idle for too long.
    pub(super) async fn sweep(&self, now: Instant) {
        let there: Vec<_> = self.manager.sessions.read().await.keys().cloned().collect();
        let idle: Vec<_> = {
            let mut table = self.table();
            // What ended by itself is forgotten, but for those whose answer is on its way.
            table.retain(|id, k| there.iter().any(|t| **t == **id) || k.last_used + self.limits.idle > now);
            for id in there {
                table.entry(id).or_insert(Kept { owner: None, streams: 0, last_used: now });
            }
            let is_idle = |k: &Kept| k.streams == 0 && k.last_used + self.limits.idle <= now;
            table.iter().filter(|(_, k)| is_idle(k)).map(|(id, _)| id.clone()).collect()
        };
        for id in idle {
            self.end(&id).await;
        }
    }
}

/// Those that were used longest ago, so that there is room for one more within the limit.
fn oldest(table: &Table, is_counted: impl Fn(&Kept) -> bool, limit: usize) -> Vec<Arc<str>> {
    let mut counted: Vec<_> =
        table.iter().filter(|(_, k)| is_counted(k)).map(|(id, k)| (k.last_used, id.clone())).collect();
    counted.sort();
    let more = (counted.len() + 1).saturating_sub(limit);
    counted.into_iter().take(more).map(|(_, id)| id).collect()
}

/// Counts as one open stream of a session.
pub(super) struct OpenStream {
    sessions: Arc<Sessions>,
    pub(super) id: Arc<str>,
}

impl OpenStream {
    /// Ends the session.
    pub(super) async fn end_session(&self) {
        self.sessions.end(&self.id).await;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if let Some(kept) = self.sessions.table().get_mut(&self.id) {
            kept.streams = kept.streams.saturating_sub(1);
            kept.last_used = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Principal;
    use minoots_kernel::TenantId;

    const LIMITS: Limits = Limits { per_caller: 2, per_tenant: 3, idle: Duration::from_secs(10) };

    fn caller(tenant: &str, key: &str) -> Caller {
        Caller {
            principal: Principal::Key(key.into()),
            tenant: TenantId::new(tenant),
            every_tenant: false,
            ..Caller::local(None)
        }
    }

    async fn open(sessions: &Sessions, caller: &Caller, now: Instant) -> Arc<str> {
        let (id, transport) = sessions.manager.create_session().await.unwrap();
        // The transport's task lives as long as the session.
        std::mem::forget(transport);
        sessions.opened(&id, caller, now).await;
        id
    }

    #[tokio::test]
    async fn a_session_is_its_callers_only() {
        let (sessions, now) = (Sessions::new(LIMITS), Instant::now());
        let mine = caller("a", "one");
        let id = open(&sessions, &mine, now).await;
        let is_of = |caller: &Caller| sessions.is_of(&id, caller, now);
        assert!(is_of(&mine));
        assert!(is_of(&Caller { from: "10.0.0.9:1".parse().ok(), ..mine.clone() }), "clients move");
        assert!(!is_of(&caller("a", "two")));
        assert!(!is_of(&caller("b", "one")));
        assert!(!is_of(&Caller { agent: Some("x".into()), ..mine.clone() }), "its rights changed");
        assert!(!sessions.is_of("no-such-session", &mine, now));
    }

    #[tokio::test]
    async fn nobody_has_many_sessions_and_nobody_ends_those_of_another_tenant() {
        let (sessions, start) = (Sessions::new(LIMITS), Instant::now());
        let (one, two, other) = (caller("a", "one"), caller("a", "two"), caller("b", "one"));
        let others = open(&sessions, &other, start).await;
        let mut ids = Vec::new();
        for (n, caller) in [&one, &one, &two, &one, &two].into_iter().enumerate() {
            let now = start + Duration::from_millis(n as u64);
            ids.push((open(&sessions, caller, now).await, caller));
        }
        let live: Vec<_> = ids.iter().map(|(id, caller)| sessions.is_of(id, caller, start)).collect();
        // The first ended for the fourth (two of a caller), the second for the fifth (three of a tenant).
        assert_eq!(live, [false, false, true, true, true]);
        assert!(sessions.is_of(&others, &other, start));
        assert_eq!(sessions.manager.sessions.read().await.len(), 4);
    }

    #[tokio::test]
    async fn an_idle_session_ends_and_one_with_a_stream_does_not() {
        let (sessions, start) = (Sessions::new(LIMITS), Instant::now());
        let mine = caller("a", "one");
        let (idle, busy) = (open(&sessions, &mine, start).await, open(&sessions, &mine, start).await);
        let stream = sessions.stream(&busy);
        // One whose client left before it had an answer.
        let (orphan, transport) = sessions.manager.create_session().await.unwrap();
        std::mem::forget(transport);
        for seconds in [9, 18, 27] {
            sessions.sweep(start + Duration::from_secs(seconds)).await;
        }
        assert!(!sessions.is_of(&idle, &mine, start) && sessions.is_of(&busy, &mine, start));
        assert!(!sessions.manager.has_session(&orphan).await.unwrap());
        drop(stream);
        sessions.sweep(Instant::now() + LIMITS.idle).await;
        assert!(!sessions.is_of(&busy, &mine, start));
        assert!(sessions.manager.sessions.read().await.is_empty() && sessions.table().is_empty());
    }
}
