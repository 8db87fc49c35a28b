//! Whether memory stays constant: ten minutes at 100 000 events/s.

use std::time::{Duration, Instant};

use procfs::process::Process;
use wedr_plugin_sdk::{Metadata, Runner};

use crate::paced::sleep_until;
use crate::support::agent::Agent;
use crate::support::payload::{KIND, typed};
use crate::table::{head, row};

const LASTING: Duration = Duration::from_secs(600);
const INTERVAL: Duration = Duration::from_micros(10);
const ROW: Duration = Duration::from_secs(30);

pub(crate) fn measure(agent: &Agent) {
    let title = "Memory of the plugin's process at 100 000 events/s, capacity 8192: flat";
    head(title, &["s", "events sent", "resident, KiB", "threads", "descriptors", "high water"]);
    Runner::new()
        .pipe_path(agent.path())
        .install_signal_handler(false)
        .run_with(Metadata::new("bench", "1", "bench"), |sink, _| {
            let began = Instant::now();
            let process = Process::myself().expect("our own entry in /proc");
            let mut shown = Duration::ZERO;
            for n in 0.. {
                let due = INTERVAL * n;
                sleep_until(began + due);
                sink.event(KIND).emit(&typed(n)).expect("the session is open");
                if due >= shown {
                    let memory = process.status().expect("our own status");
                    let stats = sink.stats();
                    row(&[
                        due.as_secs().to_string(),
                        stats.sent.to_string(),
                        memory.vmrss.expect("it has memory").to_string(),
                        memory.threads.to_string(),
                        process.fd_count().expect("our own descriptors").to_string(),
                        stats.queue_high_water.to_string(),
                    ]);
                    shown += ROW;
                }
                if due >= LASTING {
                    break;
                }
            }
            Ok(())
        })
        .expect("nothing is lost");
}
