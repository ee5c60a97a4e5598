//! Wakes those who wait for events of one tenant or one timer, and nobody else.

use minoots_kernel::{EventRecord, TenantId, TimerId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How many of a topic's last events are remembered by number. A consumer that is not further behind finds the next one
/// without looking at what lies between.
const MARKS: usize = 8;

/// What events can be about.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    /// Any timer of a tenant.
    Tenant(TenantId),
    /// One timer.
    Timer(TimerId),
}

impl Topic {
    pub(super) fn has(&self, record: &EventRecord) -> bool {
        match self {
            Self::Tenant(tenant) => *tenant == record.tenant,
            Self::Timer(timer) => *timer == record.event.timer(),
        }
    }
}

/// The sequence numbers of a topic's last events, oldest first. Every event of the topic after the oldest one is among
/// them.
#[derive(Clone, Copy)]
struct Marks([u64; MARKS]);

impl Marks {
    fn add(&mut self, sequence: u64) {
        self.0.rotate_left(1);
        self.0[MARKS - 1] = sequence;
    }

    /// The first event of the topic that may have this number or a later one; `None` where there is none yet.
    fn first_from(&self, next: u64) -> Option<u64> {
        if self.0[0] >= next { Some(next) } else { self.0.iter().copied().find(|mark| *mark >= next) }
    }
}

/// The topics of a partition that somebody waits for.
#[derive(Default)]
pub(super) struct Topics(Mutex<HashMap<Topic, watch::Sender<Marks>>>);

impl Topics {
    fn heard(&self) -> MutexGuard<'_, HashMap<Topic, watch::Sender<Marks>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes events. `then` tells everybody else; no one begins to hear in between.
    pub(super) fn publish(&self, records: &[EventRecord], then: impl FnOnce()) {
        let heard = self.heard();
        if !heard.is_empty() {
            for record in records {
                for topic in [Topic::Tenant(record.tenant.clone()), Topic::Timer(record.event.timer())] {
                    if let Some(marks) = heard.get(&topic) {
                        marks.send_modify(|marks| marks.add(record.sequence));
                    }
                }
            }
        }
        then();
    }

    /// Hears of a topic from now on; `newest` gives the number of the newest event.
    pub(super) fn hear(self: &Arc<Self>, topic: Topic, newest: impl Fn() -> u64) -> Heard {
        let mut heard = self.heard();
        // What was before may have been anything.
        let sender = heard.entry(topic.clone()).or_insert_with(|| watch::channel(Marks([newest(); MARKS])).0);
        Heard { marks: Some(sender.subscribe()), topic, topics: self.clone() }
    }

    /// There will be no more events: wakes all.
    pub(super) fn close(&self) {
        self.heard().clear();
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.heard().is_empty()
    }
}

/// A topic that somebody hears of.
pub(super) struct Heard {
    topic: Topic,
    /// There until it is dropped.
    marks: Option<watch::Receiver<Marks>>,
    topics: Arc<Topics>,
}

impl Heard {
    pub(super) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The number of the first event from `next` on that may be of the topic. Asking counts as having heard, except of
    /// what is after `newest`: everybody is told of that in a moment.
    pub(super) fn first_from(&mut self, next: u64, newest: u64) -> Option<u64> {
        let heard = self.marks.as_mut()?;
        let marks = *heard.borrow_and_update();
        if marks.0[MARKS - 1] > newest {
            heard.mark_changed();
        }
        marks.first_from(next)
    }

    /// Waits for an event of the topic, or the end.
    pub(super) async fn changed(&mut self) {
        if let Some(marks) = &mut self.marks {
            let _ = marks.changed().await;
        }
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        let mut heard = self.topics.heard();
        // Under the lock, so that of two who leave at once one is the last.
        drop(self.marks.take());
        if heard.get(&self.topic).is_some_and(|sender| sender.receiver_count() == 0) {
            heard.remove(&self.topic);
        }
    }
}
