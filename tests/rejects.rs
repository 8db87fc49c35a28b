//! The reason of a reject arrives, although the agent closes the pipe directly after writing it.

mod common;

use common::{LIMIT, metadata, runner, watched};
use wedr_plugin_sdk::Error;
use wedr_plugin_sdk::testing::{Script, TestAgent};

#[test]
fn of_400_rejects_every_reason_arrives() {
    watched(|| {
        let agent = TestAgent::with(Script::new().reject("hash_mismatch")).unwrap();
        for n in 0..400 {
            match runner(&agent).run_with(metadata(), |_, _| unreachable!("there is no session")) {
                Err(Error::Rejected { reason }) => assert_eq!(reason.to_string(), "hash_mismatch"),
                other => panic!("reject {n}: {other:?}"),
            }
        }
        let all_said_hello = |sessions: &[wedr_plugin_sdk::testing::RecordedSession]| {
            sessions.iter().filter(|session| session.hello.is_some()).count() == 400
        };
        assert!(agent.wait_until(LIMIT, all_said_hello));
    });
}
