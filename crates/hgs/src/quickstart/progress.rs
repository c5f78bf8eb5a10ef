//! Progress of the run: each step, its outcome, and how long it took.

use std::fmt;
use std::future::Future;
use std::time::Instant;

use hgs_terminal::{Failure, Terminal};
use serde::Serialize;

/// Where the steps are shown, one line each.
#[derive(Debug)]
pub(super) struct Progress<'t> {
    terminal: &'t Terminal,
}

/// One step, as a line for people or a JSON object.
#[derive(Debug, Serialize)]
struct Step<'a> {
    step: &'static str,
    /// Whether it did what it should; for a refusal, whether it was refused as it should be.
    ok: bool,
    millis: f64,
    detail: &'a str,
}

impl<'t> Progress<'t> {
    pub(super) fn new(terminal: &'t Terminal) -> Self {
        Self { terminal }
    }

    /// Does a step and shows it, with the detail that it returns.
    ///
    /// # Errors
    /// That of the step, which ends the scenario: what follows stands on it.
    pub(super) async fn step<T>(
        &self,
        step: &'static str,
        work: impl Future<Output = Result<(T, String), Failure>>,
    ) -> Result<T, Failure> {
        let begun = Instant::now();
        let outcome = work.await;
        let millis = (begun.elapsed().as_secs_f64() * 1e4).round() / 10.0;
        let (ok, detail) = match &outcome {
            Ok((_, detail)) => (true, detail.clone()),
            Err(failure) => (false, failure.to_string()),
        };
        self.terminal.step(&Step {
            step,
            ok,
            millis,
            detail: detail.trim_end(),
        })?;
        outcome
            .map(|(value, _)| value)
            .map_err(|failure| failure.while_doing(format!("the step {step} failed")))
    }

    /// A step whose work must be refused. `refused` tells the reason of the refusal, if that is what the error is.
    pub(super) async fn refusal<T, E: fmt::Display>(
        &self,
        step: &'static str,
        work: impl Future<Output = Result<T, E>>,
        is_expected: impl FnOnce(&E) -> bool,
    ) -> Result<(), Failure> {
        let judged = async {
            match work.await {
                Ok(_) => Err(Failure::failed("it was not refused")),
                Err(error) if is_expected(&error) => Ok(((), format!("refused: {error}"))),
                Err(error) => Err(Failure::failed(format!(
                    "refused for another reason: {error}"
                ))),
            }
        };
        self.step(step, judged).await
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.ok { "ok  " } else { "FAIL" };
        let Self {
            step,
            millis,
            detail,
            ..
        } = self;
        writeln!(formatter, "{mark} {millis:>8.1} ms  {step:<26} {detail}")
    }
}
