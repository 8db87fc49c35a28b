//! The tables as pictures.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::{ByCapacity, ByLinger};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Line = (&'static str, Vec<(f64, f64)>);

/// The longest wait under `Block`, and what `Refuse` refuses.
pub(crate) fn capacities(path: &Path, all: &[ByCapacity]) -> Result<(), Box<dyn Error>> {
    let line = |y: fn(&ByCapacity) -> f64| {
        all.iter().map(|one| (one.capacity as f64, y(one))).collect::<Vec<_>>()
    };
    let waits = line(|one| milliseconds(one.block.stats.longest_wait));
    let refused = line(|one| one.refuse.refused());
    pair(
        path,
        "channel_capacity",
        ("Overflow::Block: the longest wait of an emit, ms", &[("", waits)]),
        ("Overflow::Refuse: events refused, %", &[("", refused)]),
    )
}

/// What a linger saves, and what it costs.
pub(crate) fn lingers(path: &Path, all: &[ByLinger]) -> Result<(), Box<dyn Error>> {
    let line = |y: fn(&ByLinger) -> f64| {
        // A logarithmic axis has no zero: none is drawn as 30 µs.
        let x = |one: &ByLinger| milliseconds(one.linger).max(0.03);
        all.iter().map(|one| (x(one), y(one))).collect::<Vec<_>>()
    };
    let events = line(|one| one.outcome.events_per_write());
    let median = line(|one| milliseconds(one.outcome.arrival(50.0)));
    let late = line(|one| milliseconds(one.outcome.arrival(99.9)));
    pair(
        path,
        "linger, ms (the leftmost: none)",
        ("Events a write", &[("", events)]),
        ("From emit to the agent, ms", &[("median", median), ("99.9 %", late)]),
    )
}

fn milliseconds(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Two charts side by side with the same x-axis.
fn pair(
    path: &Path,
    x: &str,
    left: (&str, &[Line]),
    right: (&str, &[Line]),
) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::new(path, (960, 360)).into_drawing_area();
    area.fill(&WHITE)?;
    for (area, (title, lines)) in area.split_evenly((1, 2)).iter().zip([left, right]) {
        chart(area, x, title, lines)?;
    }
    // Said here, or a failure to write the file would be lost when the area is dropped.
    area.present().map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(())
}

fn chart(area: &Area<'_>, x: &str, title: &str, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let x_range = extent(points().map(|point| point.0));
    let top = points().map(|point| point.1).fold(1.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(x_range.log_scale(), 0.0..top)?;
    chart.configure_mesh().x_desc(x).light_line_style(WHITE).draw()?;
    for (n, (name, points)) in lines.iter().enumerate() {
        let colour = Palette99::pick(n).to_rgba();
        let series = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3);
        let drawn = chart.draw_series(series)?;
        if !name.is_empty() {
            drawn
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
    }
    if lines.len() > 1 {
        let mut labels = chart.configure_series_labels();
        labels.position(SeriesLabelPosition::UpperLeft).border_style(BLACK).draw()?;
    }
    Ok(())
}

fn extent(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    low..high * 1.05
}
