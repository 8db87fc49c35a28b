//! Folds text to the width of a terminal.

use console::{Style, measure_text_width};

/// The most lines of an event.
const LINES: usize = 8;

/// Joined pieces of text, folded into lines if there is a width.
pub(super) struct Folded {
    text: String,
    width: Option<usize>,
    /// The first column of the second and further lines.
    indent: usize,
    column: usize,
    lines: usize,
}

impl Folded {
    pub(super) fn new(width: Option<usize>, indent: usize) -> Self {
        // A narrower line would have too little space after the indent.
        let width = width.map(|width| width.max(indent + 20));
        Self { text: String::new(), width, indent, column: 0, lines: 1 }
    }

    /// Whether the text has more than [`LINES`] lines. Then further pieces are discarded.
    pub(super) fn is_full(&self) -> bool {
        self.lines > LINES
    }

    /// Adds `piece`, on the next line if it does not fit on the current one.
    pub(super) fn put(&mut self, piece: &str, style: &Style) {
        let Some(width) = self.width else {
            return self.text.push_str(&style.apply_to(piece).to_string());
        };
        // The last column is for a comma or a bracket, so that no line begins with one.
        let width = if piece.len() > 1 { width - 1 } else { width };
        let mut rest = piece;
        while !rest.is_empty() && !self.is_full() {
            let fits = fitting(rest, width.saturating_sub(self.column));
            let fits_below = fitting(rest, width - self.indent);
            // A piece is split only if it does not fit on any line.
            let here = if fits == rest.len() || fits_below < rest.len() { fits } else { 0 };
            let (now, later) = rest.split_at(here);
            if !now.is_empty() {
                self.text.push_str(&style.apply_to(now).to_string());
                self.column += measure_text_width(now);
            }
            rest = later;
            if !rest.is_empty() {
                self.break_line();
            }
        }
    }

    /// Returns the text. If pieces were discarded, `left_out` follows it.
    pub(super) fn finish(mut self, left_out: &str) -> String {
        if self.is_full() {
            self.text.push_str(left_out);
        }
        self.text.push('\n');
        self.text
    }

    fn break_line(&mut self) {
        self.lines += 1;
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n(' ', self.indent));
        self.column = self.indent;
    }
}

/// How many bytes of `text` fit into `columns`.
fn fitting(text: &str, columns: usize) -> usize {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += measure_text_width(c.encode_utf8(&mut [0; 4]));
        if used > columns {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(width: Option<usize>, pieces: &[&str]) -> String {
        let mut folded = Folded::new(width, 2);
        for piece in pieces {
            folded.put(piece, &Style::new());
        }
        folded.finish("cut")
    }

    #[test]
    fn text_is_not_folded_without_a_width() {
        let long = "x".repeat(1000);
        assert_eq!(folded(None, &[&long, &long]), format!("{long}{long}\n"));
    }

    #[test]
    fn piece_that_fits_on_a_line_is_not_split() {
        let (a, b) = ("a".repeat(15), "b".repeat(15));
        assert_eq!(folded(Some(23), &[&a, &b, "c"]), format!("{a}\n  {b}c\n"));
    }

    #[test]
    fn comma_goes_into_the_last_column() {
        let (a, b) = ("a".repeat(21), "b".repeat(5));
        assert_eq!(folded(Some(22), &[&a, ",", &b]), format!("{a},\n  {b}\n"));
    }

    #[test]
    fn long_piece_is_split_by_columns_not_bytes() {
        let wide = "漢".repeat(20);
        let split = folded(Some(23), &[&wide]);
        assert_eq!(split, format!("{}\n  {}\n", "漢".repeat(11), "漢".repeat(9)));
    }

    #[test]
    fn very_long_piece_is_cut() {
        let cut = folded(Some(22), &[&"x".repeat(1 << 20), "y"]);
        assert_eq!(cut.lines().count(), LINES + 1, "{cut}");
        assert!(cut.ends_with("\n  cut\n") && !cut.contains('y'), "{cut}");
    }
}
