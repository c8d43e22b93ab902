//! What the host counts of itself, and its text for Prometheus.
//!
//! A request costs a few additions here: every counter is found when the program is written, no label is made while
//! it serves. Counts of plugins and tools are kept by who asks them; this file only reads them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::edge::parts::Parts;
use crate::engine::process::desk::State as ChildState;
use crate::engine::process::processes::Report;

/// The media type of [`Metrics::text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The upper ends of the latency histogram's buckets.
const BUCKETS: [Duration; 14] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];

/// Who answered a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// A plugin's route.
    Plugin,
    /// The host itself.
    Host,
}

const GROUPS: [(Group, &str); 2] = [(Group::Plugin, "plugin"), (Group::Host, "host")];

/// By the first digit of the status; a caller that went away has no status.
const CLASSES: [&str; 6] = ["cancelled", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The counters. Cloning is cheap: clones share everything.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Counters>);

#[derive(Default)]
struct Counters {
    answers: [[AtomicU64; CLASSES.len()]; GROUPS.len()],
    latency: Latency,
    connections: AtomicI64,
    tunnels: AtomicI64,
    refused: AtomicU64,
    panics: AtomicU64,
}

/// How long answers took: one count a bucket, the last of them without an upper end.
#[derive(Default)]
struct Latency {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Metrics {
    /// Counts an answer; `time` is from the end of the request's head to the answer's head.
    pub fn answered(&self, group: Group, status: u16, time: Duration) {
        let class = usize::from(status / 100).min(CLASSES.len() - 1);
        self.0.answers[group as usize][class].fetch_add(1, Ordering::Relaxed);
        let bucket = BUCKETS.iter().position(|end| time <= *end).unwrap_or(BUCKETS.len());
        self.0.latency.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.latency.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Counts a request whose caller went away before the answer.
    pub fn cancelled(&self, group: Group) {
        self.0.answers[group as usize][0].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that opens. Its other half is [`Metrics::closed`].
    pub fn opened(&self) {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that closes.
    pub fn closed(&self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many connections are open.
    pub fn connections(&self) -> i64 {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// Counts a WebSocket to a plugin's server for as long as what is returned lives.
    pub fn tunnel(&self) -> OpenTunnel {
        self.0.tunnels.fetch_add(1, Ordering::Relaxed);
        OpenTunnel(self.0.clone())
    }

    /// Counts a connection beyond the limit.
    pub fn refused(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a panic that was caught while a request was answered.
    pub fn panicked(&self) {
        self.0.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything that is counted in this host, as text of the media type [`MEDIA_TYPE`].
    pub fn text(&self, parts: &Parts) -> String {
        let mut registry = Registry::with_prefix("plugbay");
        registry.register_collector(Box::new(View { metrics: self.clone(), parts: parts.clone() }));
        let mut written = String::new();
        if text::encode(&mut written, &registry).is_err() {
            // Only a writer fails, and a String never does.
            written.clear();
        }
        written
    }
}

/// A WebSocket to a plugin's server, counted until this is dropped.
pub struct OpenTunnel(Arc<Counters>);

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One look at all counters.
struct View {
    metrics: Metrics,
    parts: Parts,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View")
    }
}

impl Collector for View {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.requests(&mut encoder)?;
        self.plugins(&mut encoder)?;
        self.children(&mut encoder)?;
        let (calls, failures) = self.parts.toolbox.tally();
        let panics = self.parts.shutdown.panics() + self.metrics.0.panics.load(Ordering::Relaxed);
        let refused = self.metrics.0.refused.load(Ordering::Relaxed);
        count(&mut encoder, "tool_calls", "Calls of tools, refusals included", calls)?;
        count(&mut encoder, "tool_failures", "Calls of tools that failed or were refused", failures)?;
        count(&mut encoder, "task_panics", "Tasks and requests that panicked and were caught", panics)?;
        count(&mut encoder, "connections_refused", "Connections beyond the limit", refused)?;
        gauge(&mut encoder, "connections", "Open connections", self.metrics.connections())?;
        let tunnels = self.metrics.0.tunnels.load(Ordering::Relaxed);
        gauge(&mut encoder, "tunnels", "Open WebSockets to plugins' servers", tunnels)?;
        gauge(&mut encoder, "ready", "1 when all plugins are loaded", i64::from(self.parts.ready.get()))
    }
}

impl View {
    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Answered requests, by who answered and by class of status";
        let mut family = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
        for (group, group_name) in GROUPS {
            for (class, class_name) in CLASSES.iter().enumerate() {
                let value = self.metrics.0.answers[group as usize][class].load(Ordering::Relaxed);
                let labels = [("group", group_name), ("class", *class_name)];
                ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let latency = &self.metrics.0.latency;
        let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(BUCKETS.len() + 1);
        let ends = BUCKETS.iter().map(Duration::as_secs_f64).chain([f64::MAX]);
        for (end, bucket) in ends.zip(&latency.buckets) {
            buckets.push((end, bucket.load(Ordering::Relaxed)));
        }
        let number = buckets.iter().map(|(_, number)| number).sum();
        let sum = Duration::from_nanos(latency.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        let help = "From the end of a request's head to the head of its answer";
        encoder
            .encode_descriptor("request_duration_seconds", help, None, MetricType::Histogram)?
            .encode_histogram::<[(&str, &str); 0]>(sum, number, &buckets, None)
    }

    fn plugins(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let meters = self.parts.meters.all();
        let mut calls = encoder.encode_descriptor("plugin_calls", "Questions asked", None, MetricType::Counter)?;
        for (plugin, meter) in &meters {
            ConstCounter::new(meter.calls()).encode(calls.encode_family(&[("plugin", &**plugin)])?)?;
        }
        let help = "Questions that the plugin failed at";
        let mut errors = encoder.encode_descriptor("plugin_errors", help, None, MetricType::Counter)?;
        for (plugin, meter) in &meters {
            ConstCounter::new(meter.errors()).encode(errors.encode_family(&[("plugin", &**plugin)])?)?;
        }
        let help = "Time in which the plugin's code ran";
        let mut seconds = encoder.encode_descriptor("plugin_seconds", help, None, MetricType::Counter)?;
        for (plugin, meter) in &meters {
            let time = meter.time().as_secs_f64();
            ConstCounter::new(time).encode(seconds.encode_family(&[("plugin", &**plugin)])?)?;
        }
        Ok(())
    }

    fn children(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let reports = self.parts.processes.reports();
        let mut state = encoder.encode_descriptor(
            "child_state",
            "1 for the state that a plugin's server is in",
            None,
            MetricType::Gauge,
        )?;
        for report in &reports {
            for each in ChildState::ALL {
                let labels = [("plugin", report.manifest.id.as_str()), ("state", each.as_str())];
                ConstGauge::new(i64::from(each == report.status.state)).encode(state.encode_family(&labels)?)?;
            }
        }
        let mut runs =
            encoder.encode_descriptor("child_starts", "Starts of a plugin's server", None, MetricType::Counter)?;
        for report in &reports {
            ConstCounter::new(report.status.runs).encode(runs.encode_family(&plugin_of(report))?)?;
        }
        let help = "Memory of a plugin's processes, measured once a second";
        let mut memory = encoder.encode_descriptor("child_memory_bytes", help, None, MetricType::Gauge)?;
        for report in &reports {
            let bytes = i64::try_from(report.status.usage.memory_bytes).unwrap_or(i64::MAX);
            ConstGauge::new(bytes).encode(memory.encode_family(&plugin_of(report))?)?;
        }
        let help = "Processor time of a plugin's processes, measured once a second";
        let mut time = encoder.encode_descriptor("child_cpu_seconds", help, None, MetricType::Counter)?;
        for report in &reports {
            let seconds = report.status.past_cpu_s + report.status.usage.cpu_s;
            ConstCounter::new(seconds).encode(time.encode_family(&plugin_of(report))?)?;
        }
        Ok(())
    }
}

fn plugin_of(report: &Report) -> [(&'static str, &str); 1] {
    [("plugin", report.manifest.id.as_str())]
}

fn count(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}
