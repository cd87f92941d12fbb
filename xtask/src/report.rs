//! Steps with a name, a duration and an outcome, and the summary at the end.

use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What a step came to. An error is a failure; its text is repeated in the summary.
pub(crate) type Outcome = Result<Done, String>;

/// How a step that did not fail ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    Passed,
    /// Did not run, for a reason that the reader should see.
    Skipped(String),
}

/// The steps so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    outcome: Outcome,
    took: Duration,
}

impl Report {
    /// Runs a step, says how it went and keeps going whatever the outcome.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce() -> Outcome) -> bool {
        println!("\n=== {name}");
        let started = Instant::now();
        let outcome = work();
        let took = started.elapsed();
        println!("=== {name}: {} in {}", verdict(&outcome), seconds(took));
        let good = outcome.is_ok();
        self.rows.push(Row {
            name: name.to_owned(),
            outcome,
            took,
        });
        good
    }

    /// Prints the summary. Failure if any step failed, or if nothing ran at all.
    pub(crate) fn finish(self) -> ExitCode {
        if self.rows.is_empty() {
            return ExitCode::SUCCESS;
        }
        println!("\nsummary");
        for row in &self.rows {
            println!(
                "  {:<7} {:>8}  {}",
                verdict(&row.outcome),
                seconds(row.took),
                row.name
            );
        }
        let problems = || self.rows.iter().filter(|row| row.outcome.is_err());
        let skipped = self
            .rows
            .iter()
            .filter(|row| matches!(row.outcome, Ok(Done::Skipped(_))));
        for row in skipped.clone() {
            if let Ok(Done::Skipped(why)) = &row.outcome {
                println!("\nskipped: {}\n  {}", row.name, indent(why));
            }
        }
        for row in problems() {
            if let Err(why) = &row.outcome {
                println!("\nfailed: {}\n  {}", row.name, indent(why));
            }
        }
        let failed = problems().count();
        let skipped = skipped.count();
        let passed = self.rows.len() - failed - skipped;
        println!("\nsteps: {passed} passed, {failed} failed, {skipped} skipped");
        if failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn verdict(outcome: &Outcome) -> &'static str {
    match outcome {
        Ok(Done::Passed) => "ok",
        Ok(Done::Skipped(_)) => "skipped",
        Err(_) => "FAILED",
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_does_not_stop_the_next_and_fails_the_whole() {
        let mut report = Report::default();
        assert!(!report.step("one", || Err("broken".into())));
        assert!(report.step("two", || Ok(Done::Skipped("not here".into()))));
        assert!(report.step("three", || Ok(Done::Passed)));
        assert_eq!(report.rows.len(), 3);
        assert_eq!(
            format!("{:?}", report.finish()),
            format!("{:?}", ExitCode::FAILURE)
        );
    }
}
