//! Child processes, real ones: how they start, are watched, end, and what is said of them meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugbay::base::error::Kind;
use plugbay::base::settings::Settings;
use plugbay::base::shutdown::Shutdown;
use plugbay::engine::process::desk::State;
use plugbay::engine::process::manifest::ChildManifest;
use plugbay::engine::process::processes::Processes;
use plugbay::kernel::registry::{Draft, Engine, Registry};
use plugbay::kernel::store::Store;
use plugbay::kernel::upstream::Upstreams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
    fn open() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::defaults(folder.path().join("home"));
        change(&mut settings);
        let (registry, shutdown) = (Registry::new(), Shutdown::new());
        let store = Store::open(&settings).unwrap();
        let limits = (settings.limits.clone(), shutdown.clone());
        let processes = Processes::new(store.clone(), registry.clone(), limits, Secrets::open(store.home()));
        processes.run_on(tokio::runtime::Handle::current(), 0).unwrap();
        processes.begin();
        Self { folder, processes, registry, shutdown }
    }

    /// A plugin whose server is this Python text; `fields` are further ones of its manifest.
    fn add(&self, id: &str, extra: &str, fields: serde_json::Value) {
        let folder = self.folder.path().join(id);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("server.py"), SERVER.replace("EXTRA", extra)).unwrap();
        let mut manifest = serde_json::json!({
            "name": id, "displayName": id, "entry": "index.js", "server": "server.py",
            "command": [python(), "server.py"],
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
fn python() -> String {
    let command = std::process::Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    String::from_utf8(command.unwrap().stdout).unwrap().trim().to_owned()
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
    yard.add("one", "ready(); serve()", serde_json::json!({}));
    let upstream = yard.processes.find("one").await.unwrap();
    yard.reaches("one", State::Running).await;
    let pid = asked(upstream.port).await;
    assert!(runs(pid));
    assert_eq!((upstream.run, upstream.key.len()), (1, 43));
    yard.processes.stop("one").await.unwrap();
    assert!(!runs(pid));
    assert_eq!(yard.processes.report("one").unwrap().status.state, State::Stopped);
    let again = yard.processes.find("one").await.unwrap();
    assert_eq!(again.run, 2);
    assert_ne!(again.key, upstream.key);
    yard.close().await;
}
