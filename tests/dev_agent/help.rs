//! docs/dev-agent.md has the help texts of the binary.

use std::fs;

use crate::agent::command;
use crate::common::watched;

const PAGE: &str = "docs/dev-agent.md";
const END: &str = "```\n";

/// `WEDR_BLESS=1 cargo test --test dev_agent help` updates the page.
#[test]
fn help_in_the_docs_equals_the_binary() {
    watched(|| {
        let mut page = fs::read_to_string(PAGE).unwrap();
        for arguments in
            [&["--help"][..], &["check", "--help"], &["schema", "--help"], &["events", "--help"]]
        {
            let ran = command().args(arguments).output().unwrap();
            let help = String::from_utf8(ran.stdout).unwrap().replace("\r\n", "\n");
            let start = format!("$ wedr-dev-agent {}\n", arguments.join(" "));
            let (before, rest) = page.split_once(&start).expect("a block of text");
            let (shown, after) = rest.split_once(END).expect("its end");
            if std::env::var_os("WEDR_BLESS").is_some() {
                page = [before, &start, &help, END, after].concat();
                fs::write(PAGE, &page).unwrap();
            } else {
                let remedy = "WEDR_BLESS=1 cargo test --test dev_agent help updates";
                assert_eq!(shown, help, "{remedy} {PAGE}");
            }
            let wide: Vec<_> = help.lines().filter(|line| line.chars().count() > 100).collect();
            assert!(wide.is_empty(), "wider than 100 columns: {wide:#?}");
        }
    });
}

#[test]
fn command_line_error_has_a_remedy() {
    watched(|| {
        let before = "put -- before the plugin's command: wedr-dev-agent ";
        for (arguments, remedy) in [
            (&["target/debug/plugin"][..], before),
            (&["--restart", "plugin", "--verbose"], before),
            (&["check", "plugin"], before),
            (&["--stall-after", "x"], "give a number of events, or events and seconds: 100:10"),
        ] {
            let ran = command().args(arguments).output().unwrap();
            let printed = String::from_utf8(ran.stderr).unwrap();
            assert_eq!((ran.status.code(), &*ran.stdout), (Some(2), &b""[..]), "{printed}");
            assert!(printed.contains(remedy), "{arguments:?}: {printed}");
        }
        let ran = command().arg("--no-such-option").output().unwrap();
        let printed = String::from_utf8(ran.stderr).unwrap();
        assert!(!printed.contains(before), "{printed}");
    });
}
