//! Payloads with JSON as unchecked text: `RawValue`. `emit` refuses exactly the texts for which the agent
//! would end the session, and a refused text has no effect on other events.

mod common;

use common::{LIMIT, assert_counters, assert_delivered, runner, session, watched};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;
use wedr_plugin_sdk::Error;
use wedr_plugin_sdk::testing::TestAgent;

/// Text inside this many nested arrays.
struct Within<'a>(usize, &'a RawValue);

impl Serialize for Within<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 0 {
            return self.1.serialize(serializer);
        }
        let mut array = serializer.serialize_seq(Some(1))?;
        array.serialize_element(&Within(self.0 - 1, self.1))?;
        array.end()
    }
}

fn nested(levels: usize, inner: &str) -> String {
    format!("{}{inner}{}", "[".repeat(levels), "]".repeat(levels))
}

/// The value that the agent's parser reads from a payload.
fn as_the_agent_reads(payload: &str) -> Option<Value> {
    let content: Value = serde_json::from_str(&format!("{{\"payload\":{payload}}}")).ok()?;
    Some(content["payload"].clone())
}

#[test]
fn raw_text_is_accepted_exactly_where_the_agent_accepts_it() {
    let texts = [
        "null".to_owned(),
        " { \"a\" : [ true , 1e3 ] ,\n\"a\" : 2 } ".to_owned(),
        "1e308".to_owned(),
        "1e999".to_owned(),
        "-1e999".to_owned(),
        "0e999".to_owned(),
        "[1,2,{\"deep\":[1e400]}]".to_owned(),
        r#""\ud83d\ude00""#.to_owned(),
        r#""\ud800""#.to_owned(),
        r#""\udc00\ud800""#.to_owned(),
        r#""\\ud800""#.to_owned(),
        r#"{"\ud800":1}"#.to_owned(),
        r#""[[[[{{{{""#.to_owned(),
        nested(125, "1"),
        nested(126, "1"),
        nested(127, "1"),
        nested(200, "1"),
        nested(200, "1e999"),
    ];
    watched(move || {
        let agent = TestAgent::start().unwrap();
        let mut wanted = Vec::new();
        let mut refused = 0;
        let (result, report) = session(runner(&agent), |sink, _| {
            for text in texts {
                let raw = RawValue::from_string(text.clone()).expect("it is JSON");
                for levels in [0, 1, 100] {
                    let said = sink.event("test").emit(&Within(levels, &raw));
                    match (as_the_agent_reads(&nested(levels, &text)), said) {
                        (Some(arrives), Ok(())) => wanted.push(arrives),
                        (None, Err(Error::Json(_) | Error::PayloadTooDeep { max: 126 })) => {
                            refused += 1;
                        }
                        (agent, said) => panic!("{levels}, {text}: {agent:?}, but {said:?}"),
                    }
                }
            }
            Ok(())
        });
        result.unwrap();
        assert!(wanted.len() > 20 && refused > 20, "{} taken, {refused} refused", wanted.len());
        assert_counters(&report.stats, wanted.len() as u64, 0);
        // A payload that is invalid is not counted as a loss.
        assert_eq!(report.stats.refused, 0);
        let seen = agent.ended_session(LIMIT).unwrap();
        assert_delivered(&seen, &report.stats);
        assert!(seen.events().map(|event| &event.payload).eq(&wanted));
    });
}
