//! What the demo prints: numbered steps on standard output, progress on standard error when that is a terminal.

use std::cell::Cell;
use std::io::Write as _;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

pub struct Account {
    steps: Cell<u32>,
}

impl Account {
    pub fn new() -> Self {
        Self {
            steps: Cell::new(0),
        }
    }

    pub fn title(&self, text: &str) {
        write(text);
    }

    pub fn step(&self, title: &str) {
        let number = self.steps.get() + 1;
        self.steps.set(number);
        write(&format!("\n{number}. {title}"));
    }

    pub fn line(&self, text: &str) {
        write(&format!("   {text}"));
    }

    pub fn blank(&self) {
        write("");
    }

    /// Draws nothing where there is no terminal.
    pub fn bar(&self, total: u64, what: &str) -> ProgressBar {
        let bar = ProgressBar::new(total);
        let template = "   {bar:32} {human_pos}/{human_len} {msg}  {per_sec}  eta {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar
    }

    /// Progress towards an end that is not known.
    pub fn spinner(&self, what: &str) -> ProgressBar {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("   {spinner} {human_pos} {msg}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar
    }
}

/// A reader that went away, as `head` does, is no reason to end before the checks.
fn write(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

pub fn count(number: u64) -> HumanCount {
    HumanCount(number)
}

pub fn bytes(number: u64) -> HumanBytes {
    HumanBytes(number)
}

pub fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

pub fn per_second(amount: u64, duration: Duration) -> u64 {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    amount.saturating_mul(1000) / ms.max(1)
}
