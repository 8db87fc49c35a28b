//! Text laid out in the columns of a terminal.

use console::{Style, measure_text_width};

/// How many lines an event may take.
const LINES: usize = 8;

/// Pieces of text, one after the other; folded into lines if there is a width to fold them to.
pub(super) struct Folded {
    text: String,
    width: Option<usize>,
    /// Where a line begins that is not the first.
    indent: usize,
    column: usize,
    lines: usize,
}

impl Folded {
    pub(super) fn new(width: Option<usize>, indent: usize) -> Self {
        // Too narrow to be worth an indent of any depth.
        let width = width.map(|width| width.max(indent + 20));
        Self { text: String::new(), width, indent, column: 0, lines: 1 }
    }

    /// Whether it has all the lines it may have: what is put now is left out.
    pub(super) fn is_full(&self) -> bool {
        self.lines > LINES
    }

    /// Adds `piece`, on the next line if it does not fit on this one.
    pub(super) fn put(&mut self, piece: &str, style: &Style) {
        let Some(width) = self.width else {
            return self.text.push_str(&style.apply_to(piece).to_string());
        };
        // The last column is kept for a comma or a bracket, so that none begins a line.
        let width = if piece.len() > 1 { width - 1 } else { width };
        let mut rest = piece;
        while !rest.is_empty() && !self.is_full() {
            let fits = fitting(rest, width.saturating_sub(self.column));
            let fits_below = fitting(rest, width - self.indent);
            // A piece is torn only if no line could hold it.
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

    /// The text, and at its end what was left out.
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

/// How many bytes of `text` fit into so many columns.
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
    fn nothing_is_folded_without_a_width() {
        let long = "x".repeat(1000);
        assert_eq!(folded(None, &[&long, &long]), format!("{long}{long}\n"));
    }

    #[test]
    fn pieces_stay_whole_where_a_line_can_hold_them() {
        let (a, b) = ("a".repeat(15), "b".repeat(15));
        assert_eq!(folded(Some(23), &[&a, &b, "c"]), format!("{a}\n  {b}c\n"));
    }

    #[test]
    fn a_comma_finds_room_where_nothing_else_does() {
        let (a, b) = ("a".repeat(21), "b".repeat(5));
        assert_eq!(folded(Some(22), &[&a, ",", &b]), format!("{a},\n  {b}\n"));
    }

    #[test]
    fn a_piece_that_no_line_can_hold_is_torn_by_columns_not_bytes() {
        let wide = "漢".repeat(20);
        let torn = folded(Some(23), &[&wide]);
        assert_eq!(torn, format!("{}\n  {}\n", "漢".repeat(11), "漢".repeat(9)));
    }

    #[test]
    fn an_endless_piece_ends() {
        let cut = folded(Some(22), &[&"x".repeat(1 << 20), "y"]);
        assert_eq!(cut.lines().count(), LINES + 1, "{cut}");
        assert!(cut.ends_with("\n  cut\n") && !cut.contains('y'), "{cut}");
    }
}
