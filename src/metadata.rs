//! The identity of a plugin.

use crate::error::{Error, Result};

/// The environment variable in which the agent passes the plugin's id.
const ID_VARIABLE: &str = "WEDR_PLUGIN_ID";

/// The plugin's identity, which hello carries.
///
/// # Examples
///
/// ```
/// let meta = wedr_plugin_sdk::Metadata::new("8f0c", "1.2.0", "Acme sensor");
/// assert_eq!(meta.plugin_version, "1.2.0");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// The id that the plugin is enrolled under, without white space around it and without control
    /// characters.
    pub plugin_id: String,
    /// The plugin's own version.
    pub plugin_version: String,
    /// The plugin's name, for people. The agent's records have the name from the enrolment instead.
    pub plugin_name: String,
}

impl Metadata {
    /// Takes all three texts from the caller.
    pub fn new(
        plugin_id: impl Into<String>,
        plugin_version: impl Into<String>,
        plugin_name: impl Into<String>,
    ) -> Self {
        Self {
            plugin_id: plugin_id.into(),
            plugin_version: plugin_version.into(),
            plugin_name: plugin_name.into(),
        }
    }

    /// Takes the plugin's id from `WEDR_PLUGIN_ID`, which the agent sets for the plugins it
    /// launches. [`metadata!`](crate::metadata!) fills in the version.
    ///
    /// # Errors
    ///
    /// [`Error::MissingPluginId`] if the variable is unset or empty, [`Error::InvalidConfig`] if
    /// it is not UTF-8. Other faults of the id are errors of `run`: white space around the id, such as the
    /// line break of a file, and a control character in it are `InvalidConfig`.
    ///
    /// # Examples
    ///
    /// ```
    /// use wedr_plugin_sdk::{Error, Metadata};
    /// match Metadata::from_env("Acme sensor", "1.2.0") {
    ///     Ok(metadata) => assert!(!metadata.plugin_id.is_empty()),
    ///     // Started by hand, without the agent.
    ///     Err(error) => assert!(matches!(error, Error::MissingPluginId)),
    /// }
    /// ```
    pub fn from_env(plugin_name: &str, plugin_version: &str) -> Result<Self> {
        let id = std::env::var_os(ID_VARIABLE).unwrap_or_default();
        if id.is_empty() {
            return Err(Error::MissingPluginId);
        }
        let id = id.into_string().map_err(|id| {
            Error::InvalidConfig(format!("{ID_VARIABLE} is not valid UTF-8: {}", id.display()))
        })?;
        Ok(Self::new(id, plugin_version, plugin_name))
    }
}
