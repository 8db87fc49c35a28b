use super::*;

#[macro_use]
#[path = "variants.rs"]
mod variants;

macro_rules! headings {
    ($($variant:ident,)+) => {
        const HEADINGS: &[&str] = &[$(stringify!($variant)),+];

        /// The variant's heading in docs/errors.md. A new variant does not compile here: add it to
        /// src/error/variants.rs.
        fn heading(error: &Error) -> &'static str {
            match error {
                $(Error::$variant { .. } => stringify!($variant),)+
            }
        }
    };
}
for_all_variants!(headings);

#[test]
fn every_variant_and_reason_has_a_heading_in_the_docs() {
    assert!(HEADINGS.contains(&heading(&Error::Shutdown)));
    let page = std::fs::read_to_string("docs/errors.md").unwrap();
    for &variant in HEADINGS {
        let found = page.lines().any(|line| {
            line.strip_prefix("### ").is_some_and(|title| title.split(':').next() == Some(variant))
        });
        assert!(found, "docs/errors.md does not show {variant}");
    }
    for reason in RejectReason::KNOWN {
        let heading = format!("\n### Rejected: {reason}\n");
        assert!(page.contains(&heading), "docs/errors.md does not show {reason}");
    }
}

#[test]
fn every_reason_is_listed_in_other_places() {
    let places = ["docs/protocol.md", "src/dev_agent/cli.rs", "tests/vectors/agent_to_plugin.json"];
    for place in places {
        let text = std::fs::read_to_string(place).unwrap();
        for reason in RejectReason::KNOWN {
            assert!(text.contains(reason), "{place} does not list {reason}");
        }
    }
}

#[test]
fn error_is_send_and_sync() {
    fn assert_send_sync<T: Send + Sync + 'static>() {}
    assert_send_sync::<Error>();
}

#[test]
fn debug_is_display_followed_by_the_causes() {
    let lost = Error::pipe_lost(Arc::new(io::Error::from_raw_os_error(32)));
    let debug = format!("{lost:?}");
    assert!(debug.starts_with(&lost.to_string()), "{debug}");
    assert!(debug.contains("\n  caused by: "), "{debug}");
    assert!(lost.is_disconnected());
    let Error::Io(inner) = lost else { panic!("{debug}") };
    assert_eq!(inner.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn wire_text_is_escaped_before_it_is_printed() {
    let reason = RejectReason::from_wire("\u{1b}[2J\u{7}\r\n\u{202e}\u{9b}x".into());
    let shown = [reason.to_string(), Error::Rejected { reason }.to_string()];
    for text in shown {
        assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text:?}");
    }
    let twice = Printable("a\u{1b}b").to_string();
    assert_eq!(Printable(&twice).to_string(), twice);
}

#[test]
fn long_reason_is_shortened_only_in_the_message() {
    let reason = RejectReason::from_wire("é".repeat(1 << 20));
    assert!(Error::Rejected { reason: reason.clone() }.to_string().len() < 1000);
    assert_eq!(reason.to_string().len(), 2 << 20);
}
