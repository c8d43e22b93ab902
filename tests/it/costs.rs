//! What the gate and the record add to a call, in CPU time: `cargo test --release -- --ignored --nocapture costs`.

use std::num::NonZeroU32;
use std::sync::Arc;

use plugbay::base::manifest::Manifest;
use plugbay::base::name::ToolName;
use plugbay::base::permissions::{Permissions, Written};
use plugbay::base::settings::Settings;
use plugbay::base::shutdown::Shutdown;
use plugbay::kernel::audit::Audit;
use plugbay::kernel::call::{Arguments, Door, ToolCall};
use plugbay::kernel::contribution::Tool;
use plugbay::kernel::database::Place;
use plugbay::kernel::gate::Gate;
use plugbay::kernel::principal::{Principal, Scopes};
use plugbay::kernel::registry::{Draft, Engine, Registry};
use plugbay::kernel::specifier::Template;
use plugbay::kernel::store::Store;
use plugbay::kernel::toolbox::Toolbox;
use procfs::process::Process;

use crate::stand::tool;

/// Calls of one measurement: seconds of CPU in sum, since the system counts in hundredths.
const CALLS: u32 = 100_000;
/// Measurements of each kind, in turn.
const ROUNDS: usize = 5;
/// What each may add to a call, in µs.
const MOST: f64 = 10.0;

/// A toolbox with one tool, behind rules of that number and with or without a record.
struct Bench {
    toolbox: Toolbox,
    _home: tempfile::TempDir,
}

impl Bench {
    fn new(rules: usize, shutdown: Option<&Shutdown>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut settings = Settings::defaults(home.path().to_owned());
        let half = rules / 2;
        let written = |text: String| Written { text: text.into(), place: "bench".into() };
        settings.permissions = Permissions {
            // Half speak of other tools, and half of this one without matching the call.
            deny: (0..half).map(|number| written(format!("other.tool{number}"))).collect(),
            ask: (0..half).map(|number| written(format!("bench.echo(/folder{number}/*.txt)"))).collect(),
            ..Permissions::default()
        };
        let store = Store::open(&settings).unwrap();
        let registry = Registry::new();
        let manifest = Manifest::check("bench", "bench", "1", "", ">=1,<2").unwrap();
        let mut draft = Draft::new(manifest, "bench", Engine::Native);
        let echo = tool("bench.echo", |call| Box::pin(async move { Ok(call.arguments.text().clone()) }));
        draft.add_tool(Tool { specifier_template: Some(Template::parse("{text}").unwrap()), ..echo }).unwrap();
        registry.commit(draft).unwrap();
        let gate = Gate::open(&settings, &store).unwrap();
        let mut toolbox = Toolbox::new(registry, gate);
        if let Some(shutdown) = shutdown {
            let audit = Audit::new(&settings, Place::of(&settings, home.path()).unwrap()).unwrap();
            audit.start(shutdown);
            toolbox = toolbox.recording(audit, &settings.limits);
        }
        Self { toolbox, _home: home }
    }

    /// The CPU time of one call, in µs.
    async fn measure(&self, calls: NonZeroU32) -> f64 {
        let principal = Principal::new("bench", Scopes::ALL);
        let before = cpu_us();
        for _ in 0..calls.get() {
            let call = ToolCall {
                tool: ToolName::parse("bench.echo").unwrap(),
                arguments: Arguments::parse(&b"{\"text\": \"/data/reports/2026/january.md\"}"[..]).unwrap(),
                principal: principal.clone(),
                door: Door::Http,
                progress: None,
            };
            self.toolbox.run(call).await.unwrap();
        }
        self.toolbox.audit().flush().await;
        (cpu_us() - before) / f64::from(calls.get())
    }
}

/// The CPU time of this process, all its threads, in µs.
fn cpu_us() -> f64 {
    let stat = Process::myself().unwrap().stat().unwrap();
    (stat.utime + stat.stime) as f64 * 1e6 / procfs::ticks_per_second() as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures, and takes the machine for itself"]
async fn the_gate_and_the_record_add_little_to_a_call() {
    let shutdown = Shutdown::new();
    let benches: Arc<[(&str, Bench)]> = Arc::new([
        ("no rules, no record", Bench::new(0, None)),
        ("1,000 rules, no record", Bench::new(1000, None)),
        ("no rules, a record", Bench::new(0, Some(&shutdown))),
    ]);
    let calls = NonZeroU32::new(if cfg!(debug_assertions) { 2000 } else { CALLS }).unwrap();
    let mut found = vec![Vec::new(); benches.len()];
    for _ in 0..ROUNDS {
        for (bench, found) in benches.iter().zip(&mut found) {
            found.push(bench.1.measure(calls).await);
        }
    }
    let found: Vec<f64> = found.into_iter().map(median).collect();
    for ((name, _), cpu) in benches.iter().zip(&found) {
        println!("{name}: {cpu:.2} µs a call");
    }
    println!("1,000 rules add {:.2} µs, the record adds {:.2} µs", found[1] - found[0], found[2] - found[0]);
    // A build without optimization costs several times as much, which says nothing.
    if !cfg!(debug_assertions) {
        assert!(found[1] - found[0] <= MOST, "1,000 rules add {:.2} µs", found[1] - found[0]);
        assert!(found[2] - found[0] <= MOST, "the record adds {:.2} µs", found[2] - found[0]);
    }
}
