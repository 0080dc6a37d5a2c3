//! The monitor line, the clock, and Ctrl-C.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libp2p_kad_dht_sim::{Observer, ProgressReport};

/// Shows a line on standard error twice a second, and ends the run on Ctrl-C.
pub(crate) struct Listener {
    started: Instant,
    stage: &'static str,
    stage_started: Instant,
    shown: Instant,
    events: u64,
    stop: Arc<AtomicBool>,
    lively: bool,
}

impl Listener {
    pub(crate) fn new() -> Listener {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        // A second Ctrl-C does not wait for the end of a long step.
        let handler = move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        };
        if let Err(error) = ctrlc::set_handler(handler) {
            eprintln!("Ctrl-C will end this at once: {error}");
        }
        let now = clock();
        let lively = std::io::stderr().is_terminal();
        Listener { started: now, stage: "", stage_started: now, shown: now, events: 0, stop, lively }
    }

    /// Clears the line.
    pub(crate) fn finish(&self) {
        if self.lively {
            eprint!("\r\x1b[K");
        }
        if self.stop.load(Ordering::Relaxed) {
            eprintln!("ended early: what follows is what was known by then");
        }
    }

    fn show(&mut self, now: Instant, pulse: ProgressReport) {
        let every = if self.lively { Duration::from_millis(500) } else { Duration::from_secs(10) };
        let since = now - self.shown;
        if since < every {
            return;
        }
        let speed = pulse.events.saturating_sub(self.events) as f64 / since.as_secs_f64();
        (self.shown, self.events) = (now, pulse.events);
        let spent = (now - self.stage_started).as_secs_f64();
        let left =
            if pulse.done > 0.01 { format!("{:.0} s left", spent * (1.0 / pulse.done - 1.0)) } else { "…".into() };
        let line = format!(
            "{}: {:.0} %, virtual time {:.0} s, {:.0} events/s, {left}",
            pulse.stage,
            pulse.done * 100.0,
            pulse.virtual_s,
            speed,
        );
        if self.lively {
            eprint!("\r\x1b[K{line}");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }
}

impl Observer for Listener {
    fn on_progress(&mut self, pulse: ProgressReport) -> bool {
        let now = clock();
        if pulse.stage != self.stage {
            (self.stage, self.stage_started, self.events) = (pulse.stage, now, 0);
        }
        self.show(now, pulse);
        !self.stop.load(Ordering::Relaxed)
    }

    fn real_seconds(&mut self) -> Option<f64> {
        Some((clock() - self.started).as_secs_f64())
    }

    fn memory_mb(&mut self) -> Option<f64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kilobytes / 1024.0)
    }
}

#[expect(clippy::disallowed_methods, reason = "the program's own clock; simulations never see it")]
fn clock() -> Instant {
    Instant::now()
}
