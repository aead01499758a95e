//! Where nonces and the random parts of names come from: one seeded generator, drawn by the driver.
//!
//! Always holds: the same seed gives the same ids, so that a simulation can be replayed.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Sixteen random bytes that tell one manifest edit from every other.
pub type Nonce = [u8; 16];

/// A shared, seeded source of ids. Clones draw from the same sequence.
#[derive(Clone)]
pub struct IdSource(Arc<Mutex<StdRng>>);

impl IdSource {
    /// The seed must be fresh per process outside of tests: names in the bucket are never reused.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Arc::new(Mutex::new(StdRng::from_seed(seed))))
    }

    pub fn nonce(&self) -> Nonce {
        let mut nonce = Nonce::default();
        self.0.lock().fill_bytes(&mut nonce);
        nonce
    }

    pub fn random(&self) -> u64 {
        self.0.lock().next_u64()
    }
}

impl std::fmt::Debug for IdSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdSource")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_and_clones_share_the_sequence() {
        let a = IdSource::from_seed([7; 32]);
        let b = IdSource::from_seed([7; 32]);
        let first = a.nonce();
        assert_eq!(first, b.nonce());
        assert_ne!(first, a.clone().nonce());
    }
}
