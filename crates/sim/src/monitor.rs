//! Reports of the progress of a run, and the request to end it early.
//!
//! Knows: the observer. Must not know: a clock; the observer may have one.

/// The progress of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ProgressReport {
    /// The current stage, in a word or two.
    pub stage: &'static str,
    /// Events handled so far.
    pub events: u64,
    /// Virtual time in seconds.
    pub virtual_s: f64,
    /// The share of this stage that is done, from 0 to 1.
    pub done: f64,
}

/// Watches a run.
pub trait Observer {
    /// Called at intervals; `false` ends the run with the results so far.
    fn on_progress(&mut self, report: ProgressReport) -> bool;

    /// Seconds of real time since some fixed moment; `None` without a clock. Only the scenario `scale`, which measures
    /// speed, asks for it, and only its report differs from run to run.
    fn real_seconds(&mut self) -> Option<f64> {
        None
    }

    /// Memory of the process in megabytes; `None` where it is unknown.
    fn memory_mb(&mut self) -> Option<f64> {
        None
    }
}

/// An observer that does nothing and never ends a run.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it needs no fields")]
pub struct Unobserved;

impl Observer for Unobserved {
    fn on_progress(&mut self, _: ProgressReport) -> bool {
        true
    }
}

/// A scenario's side of the observer.
pub struct Monitor<'a> {
    observer: &'a mut dyn Observer,
    stage: &'static str,
    stopped: bool,
}

impl<'a> Monitor<'a> {
    /// A monitor that reports to this observer.
    pub fn new(observer: &'a mut dyn Observer) -> Monitor<'a> {
        Monitor { observer, stage: "", stopped: false }
    }

    /// Begins another stage.
    pub fn stage(&mut self, stage: &'static str) {
        self.stage = stage;
        self.report(0, 0, 0.0);
    }

    /// Reports the events handled so far, the virtual time in microseconds, and the share of the stage that is done.
    pub fn report(&mut self, events: u64, now: u64, done: f64) {
        let report = ProgressReport { stage: self.stage, events, virtual_s: now as f64 / 1e6, done };
        if !self.stopped && !self.observer.on_progress(report) {
            self.stopped = true;
        }
    }

    /// The current stage.
    pub fn current_stage(&self) -> &'static str {
        self.stage
    }

    /// Whether the observer asked to end the run.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// See [`Observer::real_seconds`].
    pub fn real_seconds(&mut self) -> Option<f64> {
        self.observer.real_seconds()
    }

    /// See [`Observer::memory_mb`].
    pub fn memory_mb(&mut self) -> Option<f64> {
        self.observer.memory_mb()
    }
}
