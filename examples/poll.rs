//! Reports every new file in a folder, by listing it once a second: a polled source with state.
//!
//! `WEDR_PLUGIN_ID=demo cargo run --example poll -- FOLDER`, with an agent on the default pipe, or
//! on the one named in `WEDR_PIPE_PATH`.
//!
//! The first event, `folder.start`, counts the files that are there already. From then on each new
//! name becomes one `folder.new_file`. What came and went between two looks is not seen.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, io, process};

use serde_json::json;
use wedr_plugin_sdk::{Error, EventSink, Metadata, Plugin, Result, Runner, SessionContext};

fn main() -> Result<()> {
    let (Some(folder), None) = (env::args_os().nth(1), env::args_os().nth(2)) else {
        eprintln!("usage: poll FOLDER");
        process::exit(2);
    };
    let folder = PathBuf::from(folder);
    // The SDK never reads it: letting the environment say where telemetry goes is for examples.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    runner.run(NewFiles { metadata: wedr_plugin_sdk::metadata!("poll")?, folder, known: None })
}

struct NewFiles {
    metadata: Metadata,
    folder: PathBuf,
    /// The names at the last look, once there was one.
    known: Option<HashSet<OsString>>,
}

impl Plugin for NewFiles {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn run(&mut self, sink: &EventSink, ctx: &SessionContext) -> Result<()> {
        while !ctx.is_shutting_down() {
            self.look(sink)?;
            ctx.sleep(Duration::from_secs(1));
        }
        Ok(())
    }
}

impl NewFiles {
    fn look(&mut self, sink: &EventSink) -> Result<()> {
        let found = self.list().map_err(|e| {
            let folder = self.folder.display();
            Error::plugin(format!("cannot list {folder}: {e}; it must be there and readable"))
        })?;
        match &self.known {
            None => {
                let folder = self.folder.to_string_lossy();
                sink.emit("folder.start", json!({ "folder": folder, "files": found.len() }))?;
            }
            Some(known) => {
                for name in found.difference(known) {
                    let path = self.folder.join(name);
                    // It may be gone again by now.
                    let bytes = fs::metadata(&path).ok().map(|metadata| metadata.len());
                    let path = path.to_string_lossy();
                    sink.emit("folder.new_file", json!({ "path": path, "bytes": bytes }))?;
                }
            }
        }
        // A name that is gone is forgotten: if it comes back, it is new.
        self.known = Some(found);
        Ok(())
    }

    fn list(&self) -> io::Result<HashSet<OsString>> {
        let mut names = HashSet::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // If it is gone already, there is none.
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                names.insert(entry.file_name());
            }
        }
        Ok(names)
    }
}
