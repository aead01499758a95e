//! The published image, and its changes for those who follow it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use strandline_core::metadata::{MetadataDelta, MetadataImage};
use tokio::sync::mpsc;

/// What one command changed, and the image after it.
#[derive(Clone, Debug)]
pub struct MetadataUpdate {
    pub delta: MetadataDelta,
    pub image: Arc<MetadataImage>,
}

/// A subscriber's place in the stream of updates. Nothing is lost, so it must keep reading: what it has not read stays
/// in memory.
#[derive(Debug)]
pub struct MetadataUpdates {
    /// The image that the first update follows.
    pub image: Arc<MetadataImage>,
    receiver: mpsc::UnboundedReceiver<Arc<MetadataUpdate>>,
}

impl MetadataUpdates {
    /// The next update, one for each command, in the log's order; none when the quorum has shut down.
    pub async fn recv(&mut self) -> Option<Arc<MetadataUpdate>> {
        self.receiver.recv().await
    }

    /// An update that is there already.
    pub fn try_recv(&mut self) -> Option<Arc<MetadataUpdate>> {
        self.receiver.try_recv().ok()
    }
}

/// Shared by the state machine, which publishes, and the quorum, which reads and subscribes.
#[derive(Debug)]
pub struct Publisher {
    image: ArcSwap<MetadataImage>,
    subscribers: Mutex<Vec<mpsc::UnboundedSender<Arc<MetadataUpdate>>>>,
}

impl Publisher {
    pub fn new(image: Arc<MetadataImage>) -> Self {
        Self {
            image: ArcSwap::new(image),
            subscribers: Mutex::default(),
        }
    }

    pub fn image(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    pub fn publish(&self, delta: MetadataDelta, image: Arc<MetadataImage>) {
        let mut subscribers = self.subscribers.lock();
        self.image.store(image.clone());
        if subscribers.is_empty() {
            return;
        }
        let update = Arc::new(MetadataUpdate { delta, image });
        subscribers.retain(|s| s.send(update.clone()).is_ok());
    }

    pub fn subscribe(&self) -> MetadataUpdates {
        let (sender, receiver) = mpsc::unbounded_channel();
        // The lock is publish's: no update falls between the image and the first that is received.
        let mut subscribers = self.subscribers.lock();
        subscribers.push(sender);
        MetadataUpdates {
            image: self.image(),
            receiver,
        }
    }

    /// Ends every subscriber's stream.
    pub fn close(&self) {
        self.subscribers.lock().clear();
    }
}
