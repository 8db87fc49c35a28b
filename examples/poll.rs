//! A plugin that polls and keeps state: it lists a folder once a second and reports new files.
//!
//! ```sh
//! wedr-dev-agent -- cargo run --example poll -- FOLDER
//! ```
//!
//! Settings: the folder, as the argument or in `POLL_FOLDER`. The agent launches plugins without arguments.
//!
//! The first event, `folder_start`, has the number of `files` that exist. After that, each new file becomes
//! one `folder_new_file` with `path` and `bytes`. The plugin does not see a file that appears and disappears
//! between two lists.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, io, process};

use serde_json::json;
use wedr_plugin_sdk::{Error, EventSink, Metadata, Plugin, Result, Runner, SessionContext};

fn main() -> Result<()> {
    let argument = env::args_os().nth(1).or_else(|| env::var_os("POLL_FOLDER"));
    let (Some(folder), None) = (argument, env::args_os().nth(2)) else {
        eprintln!("usage: poll FOLDER, or set POLL_FOLDER");
        process::exit(2);
    };
    let folder = PathBuf::from(folder);
    // For wedr-dev-agent. The SDK itself never takes the pipe's path from the environment.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    runner.run(NewFiles { metadata: wedr_plugin_sdk::metadata!("poll")?, folder, known: None })
}

struct NewFiles {
    metadata: Metadata,
    folder: PathBuf,
    /// The names in the last list; `None` before the first list.
    known: Option<HashSet<OsString>>,
}

impl Plugin for NewFiles {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn run(&mut self, sink: &EventSink, ctx: &SessionContext) -> Result<()> {
        while !ctx.is_shutting_down() {
            self.report(sink)?;
            ctx.sleep(Duration::from_secs(1));
        }
        Ok(())
    }
}

impl NewFiles {
    fn report(&mut self, sink: &EventSink) -> Result<()> {
        let found = self.list().map_err(|e| {
            let folder = self.folder.display();
            Error::plugin(format!("cannot list {folder}: {e}; it must exist and be readable"))
        })?;
        match &self.known {
            None => {
                let folder = self.folder.to_string_lossy();
                sink.emit("folder_start", json!({ "folder": folder, "files": found.len() }))?;
            }
            Some(known) => {
                for name in found.difference(known) {
                    let path = self.folder.join(name);
                    // The file may have been removed since.
                    let bytes = fs::metadata(&path).ok().map(|metadata| metadata.len());
                    let path = path.to_string_lossy();
                    sink.emit("folder_new_file", json!({ "path": path, "bytes": bytes }))?;
                }
            }
        }
        // The plugin forgets removed files: a file that appears again is new.
        self.known = Some(found);
        Ok(())
    }

    fn list(&self) -> io::Result<HashSet<OsString>> {
        let mut names = HashSet::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // An entry that was removed since has no type.
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                names.insert(entry.file_name());
            }
        }
        Ok(names)
    }
}
