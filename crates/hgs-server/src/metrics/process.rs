//! What every process can tell of itself, under the names that Prometheus has for it.

use metrics_process::collector;

use super::{
    Metric, Metrics, PROCESS_CPU, PROCESS_MAX_FILES, PROCESS_OPEN_FILES, PROCESS_RESIDENT,
    PROCESS_START, PROCESS_THREADS, PROCESS_VIRTUAL,
};

pub(super) fn collect(metrics: &Metrics) {
    let process = collector::collect();
    let show = |metric: &'static Metric, value: Option<f64>| {
        if let Some(value) = value {
            metrics.gauge(metric, []).set(value);
        }
    };
    let whole = |value: Option<u64>| value.map(|value| value as f64);
    show(&PROCESS_RESIDENT, whole(process.resident_memory_bytes));
    show(&PROCESS_VIRTUAL, whole(process.virtual_memory_bytes));
    show(&PROCESS_OPEN_FILES, whole(process.open_fds));
    show(&PROCESS_MAX_FILES, whole(process.max_fds));
    show(&PROCESS_START, whole(process.start_time_seconds));
    show(&PROCESS_THREADS, whole(process.threads));
    if let Some(seconds) = process.cpu_seconds_total {
        metrics.counter(&PROCESS_CPU, []).absolute(seconds as u64);
    }
}
