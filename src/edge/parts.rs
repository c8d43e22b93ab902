//! The parts of the host that the ways in need, as one cheap handle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::base::settings::Settings;
use crate::base::shutdown::Shutdown;
use crate::engine::process::installer::Installer;
use crate::engine::process::processes::Processes;
use crate::kernel::auth::Auth;
use crate::kernel::hub::Hub;
use crate::kernel::meter::Meters;
use crate::kernel::registry::Registry;
use crate::kernel::secrets::Secrets;
use crate::kernel::store::Store;
use crate::kernel::toolbox::Toolbox;
use crate::kernel::upstream::Upstreams;

/// What the ways in need; the app makes it. Cloning is cheap.
#[derive(Clone)]
pub struct Parts {
    /// What the operator set.
    pub settings: Arc<Settings>,
    /// What is kept on disk.
    pub store: Store,
    /// Who is who.
    pub auth: Auth,
    /// What plugins that are processes of their own are told with each request.
    pub secrets: Secrets,
    /// What plugins are there.
    pub registry: Registry,
    /// What runs plugins that are processes of their own.
    pub processes: Processes,
    /// What brings plugins in and takes them out.
    pub installer: Installer,
    /// What runs tools.
    pub toolbox: Toolbox,
    /// What moves frames.
    pub hub: Hub,
    /// The plugins that are processes of their own.
    pub upstreams: Arc<dyn Upstreams>,
    /// How much plugins are asked.
    pub meters: Meters,
    /// What ends everything.
    pub shutdown: Shutdown,
    /// Whether all plugins are loaded and started.
    pub ready: Ready,
    /// What the engines say of themselves in `/api/host/status`: a JSON object.
    pub engines: Arc<dyn Fn() -> Value + Send + Sync>,
}

/// Whether the host is ready to serve plugins; cloning is cheap.
#[derive(Clone, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Says that it is.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it is.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
