//! remote.log.request.budgets: how many requests per second the store is asked for each purpose, so that housekeeping
//! can neither run up a bill nor take the store's rate limit from uploads and readers.
#![allow(clippy::disallowed_methods)] // A driver: budgets are by the real clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Purpose;

#[derive(Debug)]
struct Budget {
    purpose: Purpose,
    interval: Duration,
    /// When the next request may go.
    next: Mutex<Option<Instant>>,
}

/// Clones share their budgets. A purpose without one is not limited.
#[derive(Clone, Debug, Default)]
pub struct RequestBudgets(Arc<[Budget]>);

impl RequestBudgets {
    /// `purpose=requests per second`, separated by commas.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let budgets = parts.map(|part| {
            let (name, rate) = part
                .split_once('=')
                .ok_or_else(|| format!("\"{part}\" is not purpose=requests"))?;
            let purpose = Purpose::ALL
                .into_iter()
                .find(|purpose| purpose.name() == name.trim())
                .ok_or_else(|| format!("there is no purpose \"{}\"", name.trim()))?;
            let rate: f64 = rate
                .trim()
                .parse()
                .ok()
                .filter(|rate: &f64| rate.is_finite() && *rate >= 0.01)
                .ok_or_else(|| format!("\"{}\" is no rate of at least 0.01", rate.trim()))?;
            Ok(Budget {
                purpose,
                interval: Duration::from_secs_f64(1.0 / rate),
                next: Mutex::default(),
            })
        });
        Ok(Self(budgets.collect::<Result<_, String>>()?))
    }

    /// Waits until a request may go.
    pub async fn admit(&self, purpose: Purpose) {
        let Some(budget) = self.0.iter().find(|budget| budget.purpose == purpose) else {
            return;
        };
        let now = Instant::now();
        let wait = {
            let mut next = budget.next.lock();
            let at = next.map_or(now, |next| next.max(now));
            *next = Some(at + budget.interval);
            at - now
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_read_or_said_to_be_wrong() {
        for right in ["", "sweep=50", "sweep=50, retention = 0.5"] {
            assert!(RequestBudgets::parse(right).is_ok(), "{right}");
        }
        for wrong in [
            "sweep",
            "sweep=",
            "sweep=0",
            "sweep=-1",
            "sweep=many",
            "other=5",
        ] {
            assert!(RequestBudgets::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn requests_wait_for_their_budget_and_others_do_not() {
        let budgets = RequestBudgets::parse("sweep=50").expect("valid");
        let begun = Instant::now();
        for _ in 0..5 {
            budgets.clone().admit(Purpose::Sweep).await;
        }
        assert!(
            begun.elapsed() >= Duration::from_millis(80),
            "{:?}",
            begun.elapsed()
        );
        let begun = Instant::now();
        for _ in 0..1_000 {
            budgets.admit(Purpose::Upload).await;
        }
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}
