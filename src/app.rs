//! The host as a whole: owns every part; reads as the order of starting and, in reverse, of stopping.
//!
//! Which engines run the plugins of folders is not known here: they come as [`Engines`], and through the registry.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::timeout;

use crate::base::error::{Error, Kind, Result};
use crate::base::json::Json;
use crate::base::log;
use crate::base::memory;
use crate::base::settings::Settings;
use crate::base::shutdown::Shutdown;
use crate::edge::parts::{Parts, Ready};
use crate::edge::server::{self, Serving};
use crate::edge::{admin, mcp, mcp_auth, tools, ws};
use crate::engine::mcp::server::{self as outside, mount};
use crate::engine::process::installer::Installer;
use crate::engine::process::placing::Placing;
use crate::engine::process::processes::Processes;
use crate::kernel::audit::Audit;
use crate::kernel::auth::Auth;
use crate::kernel::call::Moment;
use crate::kernel::clerk;
use crate::kernel::contribution::Hook;
use crate::kernel::database::Place;
use crate::kernel::fault::{PluginError, Stage};
use crate::kernel::gate::Gate;
use crate::kernel::hub::Hub;
use crate::kernel::inspection;
use crate::kernel::meter::Meters;
use crate::kernel::registry::{Plugin, Registry};
use crate::kernel::secrets::Secrets;
use crate::kernel::store::Store;
use crate::kernel::toolbox::Toolbox;

/// So long a stop may last beyond the drain time before the process is ended by force.
const GRACE: Duration = Duration::from_millis(500);

/// So long the process may at least take to end when everything in it has ended: plugins' `atexit` functions run then.
const LAST_TIME: Duration = Duration::from_secs(2);

/// So long an end by force may take for the records of calls that have ended.
const LAST_RECORDS: Duration = Duration::from_millis(200);

/// How long a start waits for outside servers: what they offer comes whenever they are there.
const OUTSIDE_TIME: Duration = Duration::from_secs(2);

/// What the engines want of the host.
pub struct Engines {
    /// What they say of themselves in `/api/host/status`: a JSON object.
    pub status: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Called by each thread of the runtime when it is about to sleep.
    pub parks: Arc<dyn Fn() + Send + Sync>,
}

/// Whether a host answers over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// It listens.
    On,
    /// It is for one console alone.
    Off,
}

/// A host, from its settings to its end.
pub struct App {
    parts: Parts,
    parks: Arc<dyn Fn() + Send + Sync>,
    url: String,
    port: u16,
    /// Taken when the server starts.
    listener: Mutex<Option<TcpListener>>,
    runtime: Mutex<Option<Runtime>>,
    serving: Mutex<Option<Serving>>,
    /// The plugins whose startup hooks have run, in that order. One that was withdrawn since is gone.
    started: Mutex<Vec<Weak<Plugin>>>,
    /// Told when all but the process has ended; whoever bounds the time of the stop listens.
    ended: Mutex<Option<Sender<()>>>,
}

impl App {
    /// Takes the lock on the home folder and the address, and puts the parts together. Nothing runs yet.
    ///
    /// # Errors
    /// `Conflict`: another host holds the home folder or the port. `Invalid`: a setting cannot be used.
    /// `Unavailable`: the home folder or the address cannot be used.
    pub fn open(settings: Settings, http: Http, meters: Meters, engines: Engines) -> Result<Self> {
        log::start(&settings)?;
        let store = Store::open(&settings)?;
        let auth = Auth::open(&settings, &store)?;
        let gate = Gate::open(&settings, &store)?;
        let listener = match http {
            Http::On => Some(server::bind(&settings)?),
            Http::Off => None,
        };
        let bound = listener.as_ref().map(TcpListener::local_addr).transpose();
        let bound =
            bound.map_err(|error| Error::new(Kind::Internal, "the listener has no address").with_source(error))?;
        let port = bound.map_or(0, |address| address.port());
        let url = match (&settings.public_url, bound) {
            (Some(url), _) => url.as_str().trim_end_matches('/').to_owned(),
            (None, Some(bound)) => url_of(&settings, bound),
            (None, None) => String::new(),
        };
        if http == Http::On {
            gate.approvals().open(&url);
        }
        let (registry, shutdown) = (Registry::new(), Shutdown::new());
        let secrets = Secrets::open(store.home());
        let processes = Processes::new(
            store.clone(),
            registry.clone(),
            (settings.limits.clone(), shutdown.clone()),
            secrets.clone(),
        );
        let settings = Arc::new(settings);
        let placing = Placing::new(&store, registry.clone(), processes.clone(), secrets.clone());
        processes.check_with({
            let placing = placing.clone();
            Arc::new(move |manifest| placing.check(manifest))
        });
        let audit = Audit::new(&settings, Place::of(&settings, store.home())?)?;
        let parts = Parts {
            installer: Installer::new(settings.clone(), shutdown.clone(), placing),
            secrets,
            upstreams: Arc::new(processes.clone()),
            processes,
            store,
            auth,
            toolbox: Toolbox::new(registry.clone(), gate).recording(audit, &settings.limits),
            hub: Hub::new(registry.clone(), shutdown.clone(), settings.limits.clone()),
            registry,
            meters,
            shutdown,
            ready: Ready::default(),
            engines: engines.status,
            settings,
        };
        Ok(Self {
            parts,
            parks: engines.parks,
            url,
            port,
            listener: Mutex::new(listener),
            runtime: Mutex::default(),
            serving: Mutex::default(),
            started: Mutex::default(),
            ended: Mutex::default(),
        })
    }

    /// The parts.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// `http://127.0.0.1:8000`, without a trailing slash; empty for a host without HTTP.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port that it listens on; 0 for a host without HTTP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the runtime, the signals and the server. The host's own routes answer from now on; plugins' routes do
    /// when [`App::ready`] has returned.
    ///
    /// # Errors
    /// `Internal`: the system gives no thread. `Invalid`: the TLS files cannot be used.
    pub fn start(&self) -> Result<Handle> {
        let parks = self.parks.clone();
        let runtime = Builder::new_multi_thread()
            .worker_threads(self.parts.settings.workers)
            .thread_name("plugbay-core")
            .on_thread_park(move || parks())
            .enable_all()
            .build()
            .map_err(|error| Error::new(Kind::Internal, "the system gives no thread to run on").with_source(error))?;
        let handle = runtime.handle().clone();
        let inside = handle.enter();
        if self.parts.settings.handle_signals {
            self.obey_signals()?;
        }
        self.parts.toolbox.audit().start(&self.parts.shutdown);
        self.parts.hub.start(self.parks.clone());
        clerk::start(self.parts.toolbox.gate(), &self.parts.hub, &self.parts.shutdown);
        self.parts.processes.run_on(handle.clone(), self.port)?;
        self.parts.shutdown.spawn("child-news", tell_of_children(self.parts.clone()));
        let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(listener) = listener {
            let own = admin::router(self.parts.clone())
                .merge(tools::router(self.parts.clone()))
                .merge(mcp::router(self.parts.clone()))
                .merge(mcp_auth::router(self.parts.clone()))
                .merge(ws::router(self.parts.clone()));
            let serving = server::serve(self.parts.clone(), listener, own)?;
            *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = Some(serving);
        }
        drop(inside);
        *self.runtime.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
        Ok(handle)
    }

    /// Starts the child processes, runs the startup hooks of every plugin, in the order of commit, then lets plugins be
    /// asked. A plugin whose hook fails is withdrawn and recorded. Blocks; not for a thread of the runtime.
    ///
    /// # Errors
    /// `Unavailable`: the host was not started, or `host.json` cannot be written.
    pub fn ready(&self) -> Result<()> {
        let handle = self.handle()?;
        if self.parts.settings.children {
            // Nobody waits for a child: one that never gets ready delays nothing.
            self.parts.processes.begin();
        }
        for plugin in self.parts.registry.snapshot().plugins() {
            if self.parts.shutdown.is_stopping() {
                break;
            }
            match handle.block_on(self.start_plugin(plugin)) {
                Ok(()) => self.started.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(plugin)),
                Err(error) => self.give_up(plugin, &error),
            }
        }
        handle.block_on(self.mount_outside_servers());
        {
            let _inside = handle.enter();
            inspection::start(self.parts.toolbox.gate(), &self.parts.registry, &self.parts.shutdown);
        }
        if self.port != 0 {
            self.parts.store.announce(&self.url)?;
        }
        self.parts.ready.set();
        let audit = self.parts.toolbox.audit().clone();
        // What is wrong with an old database is said now and not at the first call; nothing waits for it.
        let look = async move { audit.look().await.unwrap_or_else(|error| tracing::error!("{error}")) };
        let _inside = handle.enter();
        drop(self.parts.shutdown.spawn("look at the database", look));
        memory::give_back();
        Ok(())
    }

    /// Asks for the stop; returns at once.
    pub fn stop(&self) {
        self.parts.shutdown.stop();
    }

    /// Blocks until the stop is asked for, then ends in the reverse order of starting: requests are drained, plugins
    /// and child processes shut down. Not for a thread of the runtime.
    ///
    /// # Errors
    /// `Unavailable`: the host was not started.
    pub fn wait(&self) -> Result<()> {
        let handle = self.handle()?;
        handle.block_on(self.parts.shutdown.stopping());
        let deadline = Instant::now() + self.parts.settings.limits.drain_time;
        if self.parts.settings.handle_signals {
            self.end_by_force_after(deadline + GRACE);
        }
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(serving) = serving {
            handle.block_on(async { timeout(left(deadline), serving.drained()).await }).ok();
        }
        self.parts.store.retract();
        let started = std::mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner));
        // Hooks may not use up the time in which children end in good order.
        let for_children = if self.parts.processes.is_empty() { Duration::ZERO } else { left(deadline) / 2 };
        for plugin in started.iter().rev().filter_map(Weak::upgrade) {
            handle.block_on(self.stop_plugin(&plugin, deadline - for_children));
        }
        handle.block_on(self.parts.processes.close(deadline));
        Ok(())
    }

    /// Ends the runtime, after the engines have ended. Gives the exit code: 0 when every task ended in time, else 1.
    pub fn finish(&self) -> i32 {
        self.parts.shutdown.stop();
        let mut code = 0;
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            // Nothing is left of them, unless the host was never waited for.
            runtime.block_on(self.parts.processes.close(Instant::now() + GRACE));
            self.parts.processes.equipment().end();
            runtime.block_on(self.parts.toolbox.audit().close(GRACE));
            let late = runtime.handle().block_on(self.parts.shutdown.finished(GRACE));
            if !late.is_empty() {
                tracing::warn!("tasks that did not end in time: {late:?}");
                code = 1;
            }
            runtime.shutdown_timeout(GRACE);
        }
        self.parts.registry.reset();
        self.parts.store.release();
        log::flush(LOG_TIME);
        if let Some(ended) = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It fails when that thread could not be started: then nothing is bounded.
            let _ = ended.send(());
        }
        code
    }

    /// Mounts the outside MCP servers and waits a little for their first try; a slow one comes when it comes.
    async fn mount_outside_servers(&self) {
        let servers = &self.parts.settings.mcp.servers;
        let place = outside::Place {
            registry: self.parts.registry.clone(),
            shutdown: self.parts.shutdown.clone(),
            equipment: self.parts.processes.equipment().clone(),
        };
        let tried = futures_util::future::join_all(mount(servers, &place));
        tokio::select! {
            _ = timeout(OUTSIDE_TIME, tried) => {}
            () = self.parts.shutdown.stopping() => {}
        }
    }

    /// Runs a plugin's startup hooks. Those of its shutdown hooks that make up for what has run are run when a later
    /// one fails.
    async fn start_plugin(&self, plugin: &Arc<Plugin>) -> Result<()> {
        let mut any = false;
        for hook in plugin.offers.hooks.iter().filter(|hook| hook.moment == Moment::Startup) {
            if let Err(error) = self.act(plugin, hook).await {
                if any {
                    self.stop_plugin(plugin, Instant::now() + self.parts.settings.limits.hook_time).await;
                }
                return Err(error);
            }
            any = true;
        }
        Ok(())
    }

    /// Runs a plugin's shutdown hooks, in reverse order, at most until the deadline.
    async fn stop_plugin(&self, plugin: &Arc<Plugin>, deadline: Instant) {
        for hook in plugin.offers.hooks.iter().rev().filter(|hook| hook.moment == Moment::Shutdown) {
            // Half of what is left: one that does not end leaves time for those after it.
            let acted = timeout(left(deadline) / 2, self.act(plugin, hook)).await.unwrap_or_else(|_| {
                Err(Error::new(Kind::Timeout, format!("hook {} did not end before the host had to", hook.name)))
            });
            if let Err(error) = acted {
                self.record(plugin, Stage::Shutdown, &error);
            }
        }
    }

    async fn act(&self, plugin: &Plugin, hook: &Hook) -> Result<()> {
        let limit = self.parts.settings.limits.hook_time;
        timeout(limit, hook.handler.act(hook.moment)).await.unwrap_or_else(|_| {
            let (name, seconds) = (&hook.name, limit.as_secs_f64());
            let message =
                format!("hook {name} did not end within {seconds} s: start what takes long in a task or a thread");
            Err(Error::new(Kind::Timeout, message).blame(plugin.manifest.id.shared()))
        })
    }

    fn give_up(&self, plugin: &Plugin, error: &Error) {
        self.parts.registry.withdraw(plugin.manifest.id.as_str());
        self.record(plugin, Stage::Startup, error);
    }

    fn record(&self, plugin: &Plugin, stage: Stage, error: &Error) {
        let id = plugin.manifest.id.shared();
        match error.detail() {
            Some(traceback) => tracing::error!(plugin = &*id, stage = stage.as_str(), traceback, "{error}"),
            None => tracing::error!(plugin = &*id, stage = stage.as_str(), "{error}"),
        }
        self.parts.registry.record(PluginError::new(plugin.source.clone(), Some(id), stage, error));
    }

    fn handle(&self) -> Result<Handle> {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = runtime.as_ref().map(|runtime| runtime.handle().clone());
        handle.ok_or_else(|| Error::new(Kind::Unavailable, "the host does not run: start it first"))
    }

    /// The first SIGTERM or SIGINT asks for the stop, the second ends the process at once.
    #[expect(clippy::disallowed_methods, reason = "it outlives the stop, whose second signal it waits for")]
    fn obey_signals(&self) -> Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let problem = |error| Error::new(Kind::Internal, "the system gives no signals").with_source(error);
        let mut terminate = signal(SignalKind::terminate()).map_err(problem)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(problem)?;
        let (shutdown, store) = (self.parts.shutdown.clone(), self.parts.store.clone());
        let (audit, processes) = (self.parts.toolbox.audit().clone(), self.parts.processes.clone());
        // Not awaited by anybody: it lives as long as the runtime, also while everything else is stopping.
        tokio::spawn(async move {
            for count in 1.. {
                let number = tokio::select! {
                    _ = terminate.recv() => 15,
                    _ = interrupt.recv() => 2,
                };
                if count == 1 {
                    tracing::info!("stopping: requests that run are finished, a second signal ends at once");
                    shutdown.stop();
                } else {
                    tracing::warn!("ended by a second signal");
                    let _ = timeout(LAST_RECORDS, audit.flush()).await;
                    store.retract();
                    processes.kill();
                    exit_at_once(128 + number);
                }
            }
        });
        Ok(())
    }

    /// Ends the process when the stop takes too long: Python may be stuck, and an interpreter with a stuck thread is
    /// never finalized. It goes on for as long as the process, which Python may keep from ending too.
    #[expect(clippy::disallowed_methods, reason = "the event would be the end of the process")]
    fn end_by_force_after(&self, deadline: Instant) {
        let (ended, still_stopping) = mpsc::channel();
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        let store = self.parts.store.clone();
        let audit = self.parts.toolbox.audit().clone();
        let (engines, processes) = (self.parts.engines.clone(), self.parts.processes.clone());
        let spawned = std::thread::Builder::new().name("plugbay-end".into()).spawn(move || {
            match still_stopping.recv_timeout(left(deadline)) {
                // The folder was let go, and may be another host's by then.
                Ok(()) => std::thread::sleep(left(deadline).max(LAST_TIME)),
                Err(RecvTimeoutError::Timeout) => store.retract(),
                // The host is gone without having been finished, which is no end of the process.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            tracing::warn!("the stop took too long: ended by force; {}", engines());
            audit.flush_within(LAST_RECORDS);
            processes.kill();
            exit_at_once(1);
        });
        if let Err(error) = spawned {
            tracing::error!("no thread to bound the time of the stop: {error}");
        }
    }
}

/// Tells every socket when a child process is in another state, until the host stops.
async fn tell_of_children(parts: Parts) {
    let mut news = parts.processes.news();
    loop {
        let heard = tokio::select! {
            heard = news.recv() => heard,
            () = parts.shutdown.stopping() => return,
        };
        // Who is too far behind is told what comes next.
        if let Ok((plugin, state)) = heard {
            let data = json!({"plugin": plugin.as_str(), "state": state});
            parts.hub.announce("plugin_state", &Json::of(&data));
        }
    }
}

/// How long the last lines of the log may take to be written.
const LOG_TIME: Duration = Duration::from_millis(500);

/// Ends the process without finalizing anything: no destructor, no `atexit`.
#[expect(unsafe_code, reason = "std::process::exit runs atexit handlers, which may wait for a stuck interpreter")]
fn exit_at_once(code: i32) -> ! {
    log::flush(LOG_TIME);
    // SAFETY: `_exit` takes any number and does not return.
    unsafe { libc::_exit(code) }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn url_of(settings: &Settings, bound: SocketAddr) -> String {
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let mut address = bound;
    if address.ip().is_unspecified() {
        // Not an address that anybody can ask; this machine's own is.
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("{scheme}://{address}")
}
