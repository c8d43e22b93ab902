//! Child processes, real ones: how they start, are watched and end.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use plugbay::base::error::{Error, Kind};
use plugbay::base::settings::Settings;
use plugbay::base::shutdown::Shutdown;
use plugbay::engine::process::desk::State;
use plugbay::engine::process::manifest::ChildManifest;
use plugbay::engine::process::processes::Processes;
use plugbay::kernel::registry::{Draft, Engine, Registry};
use plugbay::kernel::secrets::Secrets;
use plugbay::kernel::store::Store;
use plugbay::kernel::upstream::{Upstream, Upstreams};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// No wait of a test is longer: what it waits for has failed to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that answers each connection with its process id; `EXTRA` stands for what is special about it.
const SERVER: &str = r#"
import json, os, signal, socket, subprocess, sys, time
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
def ready(port=port, **more):
    print(json.dumps({"ready": True, "port": port, **more}), flush=True)
def serve():
    while True:
        connection, _ = listener.accept()
        connection.sendall(str(os.getpid()).encode())
        connection.close()
EXTRA
"#;

/// A host of child processes alone.
struct Yard {
    folder: tempfile::TempDir,
    processes: Processes,
    registry: Registry,
    shutdown: Shutdown,
}

impl Yard {
    /// One whose children begin as they are added.
    fn open() -> Self {
        let yard = Self::with(|_| {});
        yard.processes.begin();
        yard
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::defaults(folder.path().join("home"));
        change(&mut settings);
        let (registry, shutdown) = (Registry::new(), Shutdown::new());
        let store = Store::open(&settings).unwrap();
        let limits = (settings.limits, shutdown.clone());
        let processes = Processes::new(store.clone(), registry.clone(), limits, Secrets::open(store.home()));
        processes.run_on(tokio::runtime::Handle::current(), 0).unwrap();
        Self { folder, processes, registry, shutdown }
    }

    /// A plugin whose server is this Python text; `fields` are further ones of its manifest.
    fn add(&self, id: &str, extra: &str, fields: Value) {
        let folder = self.folder.path().join(id);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("server.py"), SERVER.replace("EXTRA", extra)).unwrap();
        let mut manifest = json!({
            "name": id, "displayName": id, "entry": "index.js", "server": "server.py",
            "command": [python(), "-S", "-E", "server.py"],
        });
        manifest.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
        let manifest = ChildManifest::read(&folder).unwrap();
        self.registry.commit(Draft::new(manifest.manifest(), id, Engine::Process)).unwrap();
        self.processes.add(manifest, id).unwrap();
    }

    async fn reaches(&self, id: &str, state: State) {
        let mut changes = self.processes.changes(id).unwrap();
        let reached = tokio::time::timeout(PATIENCE, changes.wait_for(|now| *now == state)).await;
        let status = self.processes.report(id).unwrap().status;
        reached.unwrap_or_else(|_| panic!("{id} is not {state:?}: {status:?}")).unwrap();
    }

    async fn find(&self, id: &str) -> Result<Upstream, Error> {
        self.processes.find(id).await
    }

    fn error(&self, id: &str) -> String {
        self.processes.report(id).unwrap().status.error.unwrap().1.message().to_owned()
    }

    async fn close(self) {
        self.processes.close(Instant::now() + PATIENCE).await;
        self.shutdown.stop();
        assert!(self.shutdown.finished(PATIENCE).await.is_empty());
    }
}

/// An interpreter by its whole path: what stands on `PATH` may be a script that looks for one.
fn python() -> &'static str {
    static FOUND: OnceLock<String> = OnceLock::new();
    FOUND.get_or_init(|| {
        let command = std::process::Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        String::from_utf8(command.unwrap().stdout).unwrap().trim().to_owned()
    })
}

async fn asked(port: u16) -> i32 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.parse().unwrap()
}

fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_is_started_asked_and_stopped() {
    let yard = Yard::open();
    yard.add("one", "ready(); serve()", json!({}));
    let upstream = yard.find("one").await.unwrap();
    yard.reaches("one", State::Running).await;
    let pid = asked(upstream.port).await;
    assert!(runs(pid));
    assert_eq!((upstream.run, upstream.key.len()), (1, 43));
    yard.processes.stop("one").await.unwrap();
    assert!(!runs(pid));
    assert_eq!(yard.processes.report("one").unwrap().status.state, State::Stopped);
    let again = yard.find("one").await.unwrap();
    assert_eq!(again.run, 2);
    assert_ne!(again.key, upstream.key);
    yard.close().await;
    assert!(TcpStream::connect(("127.0.0.1", again.port)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_first_calls_start_one_process() {
    let yard = Yard::with(|_| {});
    yard.add("lazy", "time.sleep(0.1); ready(); serve()", json!({"restart": "on-demand"}));
    let found = join_all((0..100).map(|_| yard.find("lazy"))).await;
    let runs: BTreeSet<u64> = found.iter().map(|upstream| upstream.as_ref().unwrap().run).collect();
    assert_eq!(runs, BTreeSet::from([1]));
    yard.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_died_runs_again_by_itself_and_a_request_does_not_wait_for_the_pause() {
    let yard = Yard::open();
    yard.add("dies", "ready(); serve()", json!({}));
    let first = yard.find("dies").await.unwrap();
    kill(asked(first.port).await);
    yard.reaches("dies", State::Waiting).await;
    let asked_at = Instant::now();
    let second = yard.find("dies").await.unwrap();
    assert!(asked_at.elapsed() < Duration::from_secs(1), "it waited for the pause");
    assert_eq!(second.run, 2);
    assert!(yard.error("dies").contains("was ended by signal 9"), "{}", yard.error("dies"));
    second.has_answered();
    kill(asked(second.port).await);
    yard.reaches("dies", State::Waiting).await;
    yard.reaches("dies", State::Running).await;
    let status = yard.processes.report("dies").unwrap().status;
    assert_eq!((status.runs, status.failures), (3, 0), "a run that has answered is no failure");
    yard.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_failures_in_a_row_are_too_many_and_only_a_person_lets_it_run_again() {
    let yard = Yard::with(|_| {});
    yard.add("fails", "print('no key', file=sys.stderr); sys.exit(3)", json!({}));
    for count in 1..=5 {
        let error = yard.find("fails").await.err().unwrap();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.message().contains("ended with exit code 3 before it was ready\n  | no key"), "{error}");
        assert_eq!(yard.processes.report("fails").unwrap().status.failures, count);
    }
    assert_eq!(yard.processes.report("fails").unwrap().status.state, State::Failed);
    let recorded = yard.registry.errors();
    assert_eq!(recorded.len(), 5);
    assert_eq!((recorded[0].stage.as_str(), recorded[0].plugin.as_deref()), ("startup", Some("fails")));
    yard.processes.stop("fails").await.unwrap();
    assert!(yard.find("fails").await.is_err());
    assert_eq!(yard.processes.report("fails").unwrap().status.runs, 5, "a request has started a child that had failed");
    assert!(yard.processes.start("fails").await.is_err());
    assert_eq!(yard.processes.report("fails").unwrap().status.runs, 6);
    yard.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_never_to_restart_stays_ended() {
    let yard = Yard::open();
    yard.add("once", "ready(); serve()", json!({"restart": "never"}));
    let found = yard.find("once").await.unwrap();
    kill(asked(found.port).await);
    yard.reaches("once", State::Failed).await;
    let error = yard.find("once").await.err().unwrap();
    assert!(error.message().contains("signal 9"), "{error}");
    yard.processes.start("once").await.unwrap();
    assert_eq!(yard.find("once").await.unwrap().run, 2);
    yard.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_is_used_only_when_the_child_listens_there_on_loopback() {
    let yard = Yard::with(|_| {});
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().port();
    let cases = [
        ("foreign", format!("ready({taken}); serve()"), "belongs to another process"),
        ("nobody", "listener.close(); ready(); time.sleep(60)".to_owned(), "nobody listens at port"),
        ("zero", "ready(0); serve()".to_owned(), "from 1 to 65535"),
        ("fraction", "ready(8000.5); serve()".to_owned(), "from 1 to 65535"),
        ("large", "ready(99999); serve()".to_owned(), "from 1 to 65535"),
        (
            "open",
            "listener = socket.create_server(('0.0.0.0', 0)); port = listener.getsockname()[1]; ready(port); serve()"
                .to_owned(),
            "where other machines may reach it",
        ),
        (
            "six",
            "listener = socket.create_server(('::1', 0), family=socket.AF_INET6); port = listener.getsockname()[1]; \
                 ready(port); serve()"
                .to_owned(),
            "not at 127.0.0.1",
        ),
    ];
    for (id, extra, _) in &cases {
        yard.add(id, extra, json!({}));
    }
    let found = join_all(cases.iter().map(|(id, _, _)| yard.find(id))).await;
    for ((id, _, expected), found) in cases.iter().zip(found) {
        let error = found.err().unwrap();
        assert!(error.message().contains(expected), "{id}: {error}");
    }
    yard.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_may_be_opened_by_a_process_that_the_child_has_started() {
    let yard = Yard::with(|_| {});
    let extra = "listener.close()\nif os.fork():\n    os.wait()\nelse:\n    os.setsid()\n    listener = \
                 socket.create_server(('127.0.0.1', 0))\n    ready(listener.getsockname()[1])\n    serve()";
    yard.add("forks", extra, json!({}));
    let found = yard.find("forks").await.unwrap();
    let grandchild = asked(found.port).await;
    yard.processes.stop("forks").await.unwrap();
    assert!(!runs(grandchild));
    yard.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_never_ready_is_ended_and_says_why() {
    let yard = Yard::with(|settings| {
        settings.limits.ready_time = Duration::from_millis(600);
        settings.limits.stop_grace = Duration::from_millis(200);
    });
    let stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(os.getpid(), file=sys.stderr, flush=True)\n";
    yard.add("silent", &format!("{stubborn}time.sleep(60)"), json!({}));
    yard.add("quoted", &format!("{stubborn}ready(str(port)); serve()"), json!({}));
    for (id, expected) in [("silent", "did not report ready within 0.6 s"), ("quoted", "which is no number")] {
        let error = yard.processes.start(id).await.err().unwrap();
        assert!(error.message().contains(expected), "{error}");
        let pid: i32 = error.message().rsplit("| ").next().unwrap().trim().parse().unwrap();
        yard.reaches(id, State::Waiting).await;
        assert!(!runs(pid), "{id} was left behind");
    }
    yard.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_first_ready_line_counts_whatever_stands_around_it() {
    let yard = Yard::with(|_| {});
    let noise =
        "print('null\\n[1]\\n{\"ready\": false}\\nnoise'); sys.stdout.write(' '); ready(more=1); ready(1); serve()";
    yard.add("twice", noise, json!({}));
    let found = yard.find("twice").await.unwrap();
    asked(found.port).await;
    assert_eq!(yard.find("twice").await.unwrap().port, found.port);
    yard.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_that_start_together_take_little_longer_than_the_slowest() {
    let yard = Yard::with(|_| {});
    for number in 0..10 {
        yard.add(&format!("child-{number}"), "time.sleep(1.5); ready(); serve()", json!({}));
    }
    yard.add("never", "time.sleep(60)", json!({}));
    let began = Instant::now();
    yard.processes.begin();
    for number in 0..10 {
        yard.reaches(&format!("child-{number}"), State::Running).await;
    }
    let all = began.elapsed();
    let slowest =
        (0..10).filter_map(|number| yard.processes.report(&format!("child-{number}")).unwrap().status.start_time).max();
    let slowest = slowest.unwrap();
    assert!(all <= slowest.mul_f64(1.5), "all took {all:?}, the slowest {slowest:?}");
    yard.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_above_its_limits_is_ended_with_limit_and_use() {
    let yard = Yard::with(|_| {});
    let held = "held = bytearray(120 << 20); ready(); serve()";
    yard.add("hungry", held, json!({"limits": {"memory_bytes": 64 << 20}, "restart": "never"}));
    let many = "many = [subprocess.Popen(['sleep', '60']) for _ in range(6)]; ready(); serve()";
    yard.add("many", many, json!({"limits": {"processes": 4}, "restart": "never"}));
    let files = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE), file=sys.stderr); sys.exit(1)";
    yard.add("files", files, json!({"limits": {"open_files": 77}, "restart": "never"}));
    yard.processes.begin();
    for (id, limit) in [("hungry", "67108864"), ("many", "7 processes, its limit is 4"), ("files", "(77, 77)")] {
        yard.reaches(id, State::Failed).await;
        assert!(yard.error(id).contains(limit), "{}", yard.error(id));
    }
    yard.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_and_stop_from_many_sides_leave_one_state() {
    let yard = Yard::open();
    yard.add("busy", "ready(); serve()", json!({}));
    join_all((0..4).map(|side| {
        let yard = &yard;
        async move {
            for turn in 0..8 {
                // A start that another side's stop ends is an error, as it should be.
                let _ = match (side + turn) % 4 {
                    0 => yard.processes.enable("busy").await,
                    1 => yard.processes.disable("busy").await,
                    2 => yard.processes.start("busy").await,
                    _ => yard.processes.stop("busy").await,
                };
            }
        }
    }))
    .await;
    yard.processes.enable("busy").await.unwrap();
    let status = yard.processes.report("busy").unwrap().status;
    let found = yard.find("busy").await.unwrap();
    assert_eq!((status.state, status.pid), (State::Running, Some(asked(found.port).await)));
    yard.processes.disable("busy").await.unwrap();
    assert!(yard.find("busy").await.err().unwrap().message().contains("disabled"));
    yard.close().await;
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
