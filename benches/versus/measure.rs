//! Processor time, memory and percentiles.
//!
//! Knows: the accounting of the operating system and of the allocator. Must not know: what is measured.

use std::alloc::System;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use cap::Cap;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value};

/// Counts every byte that this process asks for.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes in use.
pub(crate) fn heap() -> usize {
    HEAP.allocated()
}

fn clock(id: ClockId) -> f64 {
    let time = clock_gettime(id);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Seconds of processor time of this thread.
pub(crate) fn thread_cpu() -> f64 {
    clock(ClockId::ThreadCPUTime)
}

/// Seconds of processor time of this process, all threads together.
pub(crate) fn process_cpu() -> f64 {
    clock(ClockId::ProcessCPUTime)
}

/// Seconds of processor time of this process's threads, summed by their names.
fn threads_cpu() -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").expect("needs /proc").flatten() {
        let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let nanoseconds = read("schedstat").split_whitespace().next().and_then(|first| first.parse::<f64>().ok());
        *sums.entry(read("comm").trim().to_owned()).or_default() += nanoseconds.unwrap_or(0.0) / 1e9;
    }
    sums
}

/// The time that a piece of work took, from [`Stretch::begin`] on.
pub(crate) struct Stretch {
    begun: Instant,
    cpu: f64,
    threads: BTreeMap<String, f64>,
}

/// Seconds.
pub(crate) struct Took {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    threads: BTreeMap<String, f64>,
}

impl Stretch {
    pub(crate) fn begin() -> Stretch {
        Stretch { threads: threads_cpu(), cpu: process_cpu(), begun: Instant::now() }
    }

    pub(crate) fn end(self) -> Took {
        let (wall, cpu) = (self.begun.elapsed().as_secs_f64(), process_cpu() - self.cpu);
        let mut threads = threads_cpu();
        for (name, after) in &mut threads {
            *after -= self.threads.get(name).copied().unwrap_or(0.0);
        }
        Took { wall, cpu, threads }
    }
}

impl Took {
    /// Processor time of the threads of this name.
    pub(crate) fn thread(&self, name: &str) -> f64 {
        self.threads.get(name).copied().unwrap_or(0.0)
    }
}

/// Nanoseconds of this thread's processor time for each of `times` runs, after some to warm up.
pub(crate) fn nanoseconds(times: usize, mut run: impl FnMut(usize)) -> f64 {
    (0..times / 10 + 1).for_each(&mut run);
    let begun = thread_cpu();
    (0..times).for_each(&mut run);
    (thread_cpu() - begun) / times as f64 * 1e9
}

/// The value below which the share `at` of the times lies, in milliseconds; NaN if there are none.
pub(crate) fn percentile(times: impl IntoIterator<Item = Duration>, at: f64) -> f64 {
    let mut times: Vec<Duration> = times.into_iter().collect();
    times.sort();
    let last = times.len().saturating_sub(1);
    times.get((last as f64 * at).round() as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

/// The mean; NaN if there is nothing.
pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values.into_iter().fold((0.0, 0_usize), |(sum, count), value| (sum + value, count + 1));
    sum / count as f64
}

/// The results of one implementation in one workload, by the name of the figure.
#[derive(Default)]
pub(crate) struct Figures(Map<String, Value>);

impl Figures {
    pub(crate) fn add(&mut self, name: &str, figure: impl Into<Value>) {
        self.0.insert(name.to_owned(), figure.into());
    }

    /// One line for the process that compares.
    pub(crate) fn print(self) {
        println!("{}", Value::Object(self.0));
    }
}
