//! Signs of life, and the wish to end early.
//!
//! Knows: whom to tell. Must not know: a clock; the one who listens has one.

/// How far a simulation is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Pulse {
    /// What is being done, in a word or two.
    pub stage: &'static str,
    /// Events handled so far.
    pub events: u64,
    /// Virtual time in seconds.
    pub virtual_s: f64,
    /// The share of this stage that is done, from 0 to 1.
    pub done: f64,
}

/// Listens to a simulation that runs.
pub trait Observer {
    /// Called every now and then; `false` ends the simulation with what is known.
    fn pulse(&mut self, pulse: Pulse) -> bool;

    /// Seconds of real time since some fixed moment, where the listener has a clock. Only the scenario that measures
    /// speed asks, and its report is the only one that differs from run to run.
    fn real_seconds(&mut self) -> Option<f64> {
        None
    }

    /// Memory of the process in megabytes, where the listener knows it.
    fn memory_mb(&mut self) -> Option<f64> {
        None
    }
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "it has nothing to be told")]
pub struct Unobserved;

impl Observer for Unobserved {
    fn pulse(&mut self, _: Pulse) -> bool {
        true
    }
}

/// The listener, and whether it still wants more.
pub(crate) struct Progress<'a> {
    observer: &'a mut dyn Observer,
    stage: &'static str,
    stopped: bool,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(observer: &'a mut dyn Observer) -> Progress<'a> {
        Progress { observer, stage: "", stopped: false }
    }

    pub(crate) fn stage(&mut self, stage: &'static str) {
        self.stage = stage;
        self.tell(0, 0, 0.0);
    }

    pub(crate) fn tell(&mut self, events: u64, now: u64, done: f64) {
        let pulse = Pulse { stage: self.stage, events, virtual_s: now as f64 / 1e6, done };
        if !self.stopped && !self.observer.pulse(pulse) {
            self.stopped = true;
        }
    }

    pub(crate) fn current(&self) -> &'static str {
        self.stage
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    pub(crate) fn real_seconds(&mut self) -> Option<f64> {
        self.observer.real_seconds()
    }

    pub(crate) fn memory_mb(&mut self) -> Option<f64> {
        self.observer.memory_mb()
    }
}
