//! Alternating rounds of two measurements, and the table of results.

use std::fmt;
use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A result, or anything that keeps a benchmark from running.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// How much time is spent on a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Enough for figures to be compared.
    Full,
    /// Enough to see that the benchmarks still run.
    Quick,
}

impl Effort {
    fn rounds(self) -> usize {
        match self {
            Self::Full => 31,
            Self::Quick => 3,
        }
    }

    /// How many loads a server gets, one after the other.
    pub(crate) fn loads(self) -> usize {
        match self {
            Self::Full => 7,
            Self::Quick => 1,
        }
    }

    /// Releases that a store holds before its commits are measured.
    pub(crate) fn releases_before(self) -> usize {
        match self {
            Self::Full => 100_000,
            Self::Quick => 1000,
        }
    }

    /// Records in an audit log of some age.
    pub(crate) fn audit_records(self) -> usize {
        match self {
            Self::Full => 200_000,
            Self::Quick => 640,
        }
    }

    /// Protectors that cost much, each of its own.
    pub(crate) fn costly_protectors(self) -> usize {
        match self {
            Self::Full => 200,
            Self::Quick => 2,
        }
    }

    /// Requests that strangers send, each with a certificate of its own.
    pub(crate) fn strangers(self) -> u32 {
        match self {
            Self::Full => 100_000,
            Self::Quick => 100,
        }
    }

    /// How long a load lasts.
    pub(crate) fn load(self) -> Duration {
        10 * self.round()
    }

    /// How long a round takes.
    pub(crate) fn round(self) -> Duration {
        match self {
            Self::Full => Duration::from_millis(150),
            Self::Quick => Duration::from_millis(10),
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    /// Microseconds of one repetition, the median of all rounds.
    pub(crate) micros: f64,
    /// Microseconds of the floor in the same rounds.
    pub(crate) floor_micros: f64,
    /// The floor's share of the time: 1 is as fast as the primitives allow.
    pub(crate) share: f64,
}

/// Measures `work` against `floor` in alternating rounds.
pub(crate) fn compare(effort: Effort, mut floor: impl FnMut(), mut work: impl FnMut()) -> Figure {
    // Once each, so that lazy work and cold caches stay out.
    floor();
    work();
    let rounds: Vec<(f64, f64)> = (0..effort.rounds())
        .map(|_| (round(effort, &mut floor), round(effort, &mut work)))
        .collect();
    Figure {
        micros: median(rounds.iter().map(|(_, work)| *work)),
        floor_micros: median(rounds.iter().map(|(floor, _)| *floor)),
        share: median(rounds.iter().map(|(floor, work)| floor / work)),
    }
}

/// Microseconds of one repetition, from as many as fit into a round.
fn round(effort: Effort, work: &mut impl FnMut()) -> f64 {
    let begun = processor_time();
    let mut repetitions = 0u32;
    loop {
        work();
        repetitions += 1;
        let taken = processor_time().saturating_sub(begun);
        if taken >= effort.round() {
            return taken.as_secs_f64() * 1e6 / f64::from(repetitions);
        }
    }
}

/// Processor time of this thread: the work of other programs is not counted.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("processor time is never negative")
}

/// Processor time of the whole process.
pub(crate) fn process_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Octets of memory that a process has: `self`, or its number.
pub(crate) fn resident(process: &str) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = resident.and_then(|text| text.split_whitespace().next());
    let kibibytes: u64 = kibibytes.ok_or("the system does not count")?.parse()?;
    Ok(kibibytes << 10)
}

/// How long something took, each time that it was done.
pub(crate) struct Percentiles(Vec<Duration>);

impl Percentiles {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Milliseconds that this share of them took at most.
    pub(crate) fn millis(&self, share: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let place = (last as f64 * share).round() as usize;
        self.0
            .get(place)
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The figures, as a Markdown table.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<(String, Figure)>);

impl Table {
    pub(crate) fn add(&mut self, what: impl Into<String>, figure: Figure) {
        self.0.push((what.into(), figure));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "| what | µs | floor µs | floor / what |")?;
        writeln!(formatter, "|---|---|---|---|")?;
        for (what, figure) in &self.0 {
            let Figure {
                micros,
                floor_micros,
                share,
            } = figure;
            writeln!(
                formatter,
                "| {what} | {micros:.1} | {floor_micros:.1} | {share:.3} |"
            )?;
        }
        Ok(())
    }
}
