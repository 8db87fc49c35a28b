//! Escapes text from other processes before it is printed.

use std::fmt;

/// Writes text from another process. It escapes characters that could control a terminal or disguise the
/// rest of the line. Escaping twice changes nothing.
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for c in self.0.chars() {
            match c {
                '"' | '\'' | '\\' => f.write_char(c)?,
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

/// `text`, or its first 200 characters and the length of the whole text in bytes.
pub(crate) fn shortened(text: &str) -> String {
    shortened_to(200, text)
}

/// `text`, or its first `max` characters and the length of the whole text in bytes.
pub(crate) fn shortened_to(max: usize, text: &str) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes in all)", &text[..end], text.len()),
    }
}
