//! What every child is started and watched with: one set for the host.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore};

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Limits;
use crate::base::shutdown::Shutdown;
use crate::engine::process::cgroup::Cgroups;
use crate::engine::process::family::Table;
use crate::engine::process::guard::Guard;
use crate::engine::process::leftovers::Leftovers;
use crate::engine::process::manifest::ChildManifest;
use crate::engine::process::spawn::{Spawner, Surroundings};

/// Children that begin at once when the host starts.
const AT_ONCE: usize = 4;
/// How old a look at all processes may be to be of use once more.
const FRESH: Duration = Duration::from_millis(900);

/// Looks at the files of a child that is about to start; may block.
pub type Check = Arc<dyn Fn(&ChildManifest) -> Result<()> + Send + Sync>;

/// What children are started and watched with.
pub struct Equipment {
    /// The limits of the host.
    pub limits: Limits,
    /// What ends tasks.
    pub shutdown: Shutdown,
    /// What ends children when the host is gone.
    pub guard: Arc<Guard>,
    /// Where control groups can be made, if anywhere.
    pub cgroups: Option<Cgroups>,
    /// What a child's environment is made of.
    pub surroundings: Surroundings,
    /// The children that run, for the host after this one.
    pub leftovers: Leftovers,
    /// The folder of the children's logs.
    pub logs: PathBuf,
    /// Places for children that begin when the host starts.
    pub places: Arc<Semaphore>,
    /// What has to agree before a child starts.
    pub check: OnceLock<Check>,
    spawner: OnceLock<Spawner>,
    /// The host's own port; 0 as long as it has none.
    port: AtomicU16,
    /// The last look at all processes.
    table: Mutex<Option<(Instant, Arc<Table>)>>,
}

impl Equipment {
    /// What children of one host are started with. None can be started before [`Equipment::run_on`].
    pub fn new(limits: Limits, shutdown: Shutdown, leftovers: Leftovers, logs: PathBuf) -> Self {
        Self {
            limits,
            shutdown,
            guard: Arc::default(),
            cgroups: Cgroups::find(),
            surroundings: Surroundings::of_process(),
            leftovers,
            logs,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            check: OnceLock::new(),
            spawner: OnceLock::new(),
            port: AtomicU16::new(0),
            table: Mutex::default(),
        }
    }

    /// Lets children be started, and waited for by this runtime, whose host listens at `port` (0: it does not).
    ///
    /// # Errors
    /// `Internal`: the system gives no thread.
    pub fn run_on(&self, handle: Handle, port: u16) -> Result<()> {
        self.port.store(port, Ordering::Relaxed);
        let spawner = Spawner::start(handle, self.guard.clone())?;
        // Set twice only by one host; the second thread then ends at once.
        let _ = self.spawner.set(spawner);
        Ok(())
    }

    /// What starts processes.
    ///
    /// # Errors
    /// `Unavailable`: the host does not run yet.
    pub fn spawner(&self) -> Result<&Spawner> {
        self.spawner.get().ok_or_else(|| Error::new(Kind::Unavailable, "the host does not run yet"))
    }

    /// Lets nothing be started any more. All that was started has to be gone by then.
    pub fn end(&self) {
        if let Some(spawner) = self.spawner.get() {
            spawner.end();
        }
    }

    /// The host's own port.
    pub fn port(&self) -> u16 {
        self.port.load(Ordering::Relaxed)
    }

    /// All processes, as they were not long ago: many children share one look.
    pub async fn table(&self) -> Arc<Table> {
        let mut kept = self.table.lock().await;
        if let Some((at, table)) = &*kept
            && at.elapsed() < FRESH
        {
            return table.clone();
        }
        let table = Arc::new(blocking(Table::read).await.unwrap_or_default());
        *kept = Some((Instant::now(), table.clone()));
        table
    }
}

/// Runs what takes milliseconds where it holds up no other task. `None` when it panicked, or when the runtime ends.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
