//! For every answer of the agent, the session's parameters are within bounds, and the text of an error contains no
//! control character.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wedr_plugin_sdk::Error;
use wedr_plugin_sdk::fuzzing::answer;

fuzz_target!(|content: &[u8]| {
    let json: Option<Value> = serde_json::from_slice(content).ok();
    let field = |name: &str| json.as_ref().and_then(|json| json[name].as_str());
    match answer(content) {
        Ok(answer) => {
            assert_eq!(field("type"), Some("hello_ack"));
            assert_eq!(field("session_id"), Some(answer.session_id.as_str()));
            assert!(answer.max_content <= 1 << 20);
            assert!(answer.heartbeat.as_secs() > 0);
        }
        Err(e) => {
            match &e {
                Error::Rejected { .. } => {
                    assert!(field("type") == Some("reject") && field("reason").is_some());
                }
                Error::Protocol(_) => {}
                other => panic!("{other}"),
            }
            for text in [e.to_string(), format!("{e:?}")] {
                assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
                assert!(text.len() < 4096, "a message of {} bytes", text.len());
            }
        }
    }
});
