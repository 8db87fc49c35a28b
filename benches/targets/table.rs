//! Tables in Markdown, as they go into docs/performance.md.

pub(crate) fn head(title: &str, columns: &[&str]) {
    println!("\n### {title}\n");
    row(columns);
    row(&vec!["---"; columns.len()]);
}

pub(crate) fn row<C: AsRef<str>>(cells: &[C]) {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    println!("| {} |", cells.join(" | "));
}

/// The verdict on a figure that should reach `target` and must reach `bound`.
pub(crate) fn at_least(figure: f64, target: f64, bound: f64) -> &'static str {
    if figure >= target {
        "met"
    } else if figure >= bound {
        "below target"
    } else {
        "**below the bound**"
    }
}

/// The verdict on a figure that must not exceed `target`.
pub(crate) fn at_most(figure: f64, target: f64) -> &'static str {
    if figure <= target { "met" } else { "**missed**" }
}

/// The verdict on a figure that should not exceed `target` and must not exceed `bound`.
pub(crate) fn at_most_bound(figure: f64, target: f64, bound: f64) -> &'static str {
    if figure <= target {
        "met"
    } else if figure <= bound {
        "above target"
    } else {
        "**above the bound**"
    }
}

/// A figure with three digits, or a dash for a design that was not measured.
pub(crate) fn figure(value: impl Into<Option<f64>>) -> String {
    match value.into() {
        None => "–".into(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// Events per second in thousands.
pub(crate) fn thousands(rate: Option<f64>) -> String {
    figure(rate.map(|rate| rate / 1000.0))
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
