//! The engine's feed as a stream.

use crate::engine::{Cursor, Feed, FeedEvent, Subscription};
use crate::store::StoreError;
use futures::Stream;
use futures::stream;

/// Events after a place, then each new one; `None` for only those from now on. Ends when the engine stops.
pub(super) fn events(
    feed: &Feed,
    after: Option<&Cursor>,
) -> Result<impl Stream<Item = FeedEvent> + Send + use<>, StoreError> {
    Ok(stream::unfold(feed.subscribe(after)?, |mut subscription: Subscription| async move {
        subscription.next().await.map(|event| (event, subscription))
    }))
}
