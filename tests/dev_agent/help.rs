//! The page says what the binary says.

use std::fs;

use crate::agent::command;
use crate::common::watched;

const PAGE: &str = "docs/dev-agent.md";
const START: &str = "```text\n";
const END: &str = "```\n";

/// `WEDR_BLESS=1 cargo test --test dev_agent help` writes the page anew.
#[test]
fn the_help_in_the_docs_is_the_binarys() {
    watched(|| {
        let ran = command().arg("--help").output().unwrap();
        let help = String::from_utf8(ran.stdout).unwrap().replace("\r\n", "\n");
        let page = fs::read_to_string(PAGE).unwrap();
        let (before, rest) = page.split_once(START).expect("a block of text");
        let (shown, after) = rest.split_once(END).expect("its end");
        if std::env::var_os("WEDR_BLESS").is_some() {
            fs::write(PAGE, [before, START, &help, END, after].concat()).unwrap();
        } else {
            assert_eq!(shown, help, "WEDR_BLESS=1 cargo test --test dev_agent help mends {PAGE}");
        }
        let wide: Vec<_> = help.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(wide.is_empty(), "wider than 100 columns: {wide:#?}");
    });
}
