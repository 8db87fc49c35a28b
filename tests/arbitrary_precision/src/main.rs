//! Emits each line of its standard input, which is JSON, to the agent that its argument names, and
//! answers on its standard output whether it was taken or refused.

use std::io::stdin;

use serde_json::Value;
use wedr_plugin_sdk::{Error, Metadata, Result, Runner};

fn main() -> Result<()> {
    let agent = std::env::args_os().nth(1).expect("the agent's path");
    let metadata = Metadata::new("precise", "1", "Precise");
    Runner::new().pipe_path(agent).run_with(metadata, |sink, _| {
        for line in stdin().lines() {
            let payload: Value = serde_json::from_str(&line?)?;
            match sink.emit("test.number", payload) {
                Ok(()) => println!("taken"),
                Err(Error::Json(_) | Error::PayloadTooDeep { .. }) => println!("refused"),
                Err(other) => return Err(other),
            }
        }
        Ok(())
    })
}
