use std::process::{Command, Stdio};

use crate::common::{example, watched};

#[test]
fn quickstart_prints_its_events_and_ends_by_itself() {
    watched(|| {
        let ran = Command::new(example("quickstart")).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        assert!(ran.status.success(), "{said}");
        for tick in 1..=5 {
            assert!(
                said.contains(&format!(r#"acme.tick {{"alive":true,"tick":{tick}}}"#)),
                "{said}"
            );
        }
        assert!(
            said.contains("hello from Quickstart") && said.contains("confirmed: true"),
            "{said}"
        );
    });
}
