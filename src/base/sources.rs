//! Where settings come from: defaults, then the file, then the environment, then flags.
use serde_json::Value;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::Settings;

impl Settings {
    /// Reads the settings.
    pub fn load(_flags: &Value) -> Result<Self> {
        Err(Error::new(Kind::Internal, "not yet"))
    }
}
