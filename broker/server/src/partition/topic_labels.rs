//! Which topics have metrics of their own. A broker of very many topics must not have a page of very many series: beyond
//! a bound, topics are counted together.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// Topics with series of their own.
const TOPICS_MAX: usize = 1000;
/// The label of all others. No topic can have this name.
const OTHERS: &str = "(others)";

#[derive(Debug, Default)]
pub struct TopicLabels(Mutex<HashSet<Arc<str>>>);

impl TopicLabels {
    /// The topic's label, which is its own name while there is room.
    pub fn admit<'a>(&self, topic: &'a str) -> &'a str {
        let mut known = self.0.lock();
        if known.contains(topic) {
            return topic;
        }
        if known.len() >= TOPICS_MAX {
            return OTHERS;
        }
        known.insert(Arc::from(topic));
        topic
    }

    pub fn of<'a>(&self, topic: &'a str) -> &'a str {
        match self.0.lock().contains(topic) {
            true => topic,
            false => OTHERS,
        }
    }

    /// True when the topic had series of its own.
    pub fn forget(&self, topic: &str) -> bool {
        self.0.lock().remove(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_beyond_the_bound_shares_a_label_until_there_is_room() {
        let labels = TopicLabels::default();
        for topic in 0..TOPICS_MAX {
            let topic = format!("t{topic}");
            assert_eq!(labels.admit(&topic), topic);
        }
        assert_eq!(labels.admit("t0"), "t0");
        assert_eq!(labels.admit("late"), OTHERS);
        assert_eq!(labels.of("late"), OTHERS);
        assert!(!labels.forget("late"));
        assert!(labels.forget("t0"));
        assert_eq!(labels.admit("late"), "late");
        assert_eq!(labels.of("t0"), OTHERS);
    }
}
