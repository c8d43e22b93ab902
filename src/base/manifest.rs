//! What a plugin says of itself.

use std::sync::Arc;

use semver::{Version, VersionReq};

use crate::base::error::{Error, Kind, Result};
use crate::base::name::PluginId;

/// The version of the interface between host and plugin that this host offers.
pub const HOST_API: &str = "1.0.0";

/// What a plugin says of itself, checked. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Unique among all plugins.
    pub id: PluginId,
    /// The name that people see.
    pub name: Arc<str>,
    /// The plugin's own version, free text.
    pub version: Arc<str>,
    /// One sentence, possibly empty.
    pub description: Arc<str>,
    /// The range of host interface versions that it works with.
    pub host_api: Arc<str>,
}

impl Manifest {
    /// Checks the five fields as a plugin gave them.
    ///
    /// # Errors
    /// `Invalid`: a bad id, an empty name, or a `host_api` that is no version range or leaves this host out.
    pub fn check(id: &str, name: &str, version: &str, description: &str, host_api: &str) -> Result<Self> {
        let id = PluginId::parse(id)?;
        if name.trim().is_empty() {
            return Err(Error::new(
                Kind::Invalid,
                format!("plugin {id} has an empty name: give it one that people can read"),
            ));
        }
        let range = VersionReq::parse(host_api).map_err(|error| {
            Error::new(
                Kind::Invalid,
                format!("host_api {host_api:?} of plugin {id} is no version range ({error}): write it like \">=1,<2\""),
            )
        })?;
        let offered = Version::parse(HOST_API).expect("HOST_API is a version");
        if !range.matches(&offered) {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "plugin {id} asks for host_api {host_api:?}, this host offers {HOST_API}: install a version of the \
                     plugin for this host, or a host for this plugin"
                ),
            ));
        }
        Ok(Self {
            id,
            name: name.into(),
            version: version.into(),
            description: description.into(),
            host_api: host_api.into(),
        })
    }

    /// What a plugin without a Python half says of itself; its `manifest.json` was checked before.
    pub fn of_child(id: PluginId, name: &str, version: &str, description: &str) -> Self {
        Self { id, name: name.into(), version: version.into(), description: description.into(), host_api: "*".into() }
    }
}
