//! The engine's feed as a stream.

use crate::engine::{Feed, Subscription};
use futures::Stream;
use futures::stream;
use minoots_kernel::EventRecord;
use std::sync::Arc;

/// Events after the one with this sequence, then each new one; `None` for only those from now on. Ends when the engine
/// stops.
pub(super) fn events(
    feed: &Feed,
    after: Option<u64>,
) -> impl Stream<Item = Arc<EventRecord>> + Send + 'static {
    stream::unfold(feed.subscribe(after), |mut subscription: Subscription| async move {
        subscription.next().await.map(|record| (record, subscription))
    })
}
