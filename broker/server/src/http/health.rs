//! What the broker says about itself.

use std::fmt;

/// Asked on each request; must answer at once.
pub trait Health: Send + Sync {
    fn report(&self) -> HealthReport;

    /// What the tier does for each partition, as JSON.
    fn tier(&self) -> String {
        "{}".to_owned()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthReport {
    /// Clients are served.
    pub ready: bool,
    /// What needs a person, a line each: what, since when, what follows.
    pub problems: Vec<String>,
    /// Worth knowing, and no problem.
    pub notes: Vec<String>,
}

impl fmt::Display for HealthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.problems.is_empty(), self.ready) {
            (true, true) => "healthy",
            (true, false) => "healthy, not ready",
            (false, _) => "unhealthy",
        };
        writeln!(f, "{state}")?;
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}
