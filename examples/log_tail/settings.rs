//! The settings, from arguments and environment variables: the agent launches plugins without
//! arguments.

use std::ffi::OsString;
use std::path::{PathBuf, absolute};

use crate::names::Names;

pub(crate) const USAGE: &str = "\
usage: log_tail [--from-start] [--position POSITION_FILE] FILE
variables that replace missing arguments:
  LOG_TAIL_FILE=FILE  LOG_TAIL_POSITION=POSITION_FILE  LOG_TAIL_FROM_START=1";

pub(crate) struct Settings {
    pub(crate) names: Names,
    pub(crate) position: Option<PathBuf>,
    pub(crate) from_start: bool,
}

impl Settings {
    /// Returns `None` if the settings do not follow [`USAGE`]. An empty variable counts as unset.
    pub(crate) fn new(
        mut arguments: impl Iterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Option<Self> {
        let (mut file, mut position, mut from_start) = (None, None, false);
        while let Some(argument) = arguments.next() {
            if argument == "--from-start" {
                from_start = true;
            } else if argument == "--position" && position.is_none() {
                position = Some(arguments.next()?);
            } else if file.is_some() || argument.as_encoded_bytes().starts_with(b"-") {
                return None;
            } else {
                file = Some(argument);
            }
        }
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        from_start |= match variable("LOG_TAIL_FROM_START") {
            None => false,
            Some(value) if value == "1" => true,
            Some(value) if value == "0" => false,
            Some(_) => return None,
        };
        let position = position.or_else(|| variable("LOG_TAIL_POSITION"));
        let file = absolute(file.or_else(|| variable("LOG_TAIL_FILE"))?).ok()?;
        Some(Self {
            names: Names::new(file)?,
            position: position.map(absolute).transpose().ok()?,
            from_start,
        })
    }
}
