//! Draws line charts with labels at the measured points, as SVG files. The benches use this module too.

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Context<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// The width in pixels of the lines' names, next to the chart.
const LEGEND: u32 = 190;
/// The width in pixels of a character of a label.
const CHARACTER: i32 = 8;
const GREY: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xff, 0x7f, 0x0e),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0xd6, 0x27, 0x28),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0x8c, 0x56, 0x4b),
];

/// One chart. The x-axis is logarithmic.
#[derive(Default)]
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    /// The name and unit of the x-axis.
    pub(crate) x: &'a str,
    /// The labels of the x-axis.
    pub(crate) ticks: Vec<(f64, String)>,
    /// The name and unit of the y-axis.
    pub(crate) y: &'a str,
    /// Whether the y-axis is logarithmic and begins at 1. Otherwise it is linear and begins at 0.
    pub(crate) y_logarithmic: bool,
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
    /// A horizontal line, and its name.
    pub(crate) level: Option<(f64, &'a str)>,
    /// Vertical lines, and their names.
    pub(crate) marks: Vec<(f64, &'a str)>,
}

/// Draws charts next to each other. `size` is the width and height of each, in pixels.
pub(crate) fn draw(
    path: &Path,
    size: (u32, u32),
    charts: &[Chart<'_>],
) -> Result<(), Box<dyn Error>> {
    let cannot = |e: &dyn Error| format!("cannot write {}: {e}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| cannot(&e))?;
    }
    let count = u32::try_from(charts.len())?;
    let area = SVGBackend::new(path, (size.0 * count, size.1)).into_drawing_area();
    area.fill(&WHITE)?;
    for (area, chart) in area.split_evenly((1, charts.len())).iter().zip(charts) {
        chart.draw(area)?;
    }
    // `present` returns errors. Dropping the area would hide them.
    Ok(area.present().map_err(|e| cannot(&e))?)
}

impl Chart<'_> {
    fn draw(&self, area: &Area<'_>) -> Result<(), Box<dyn Error>> {
        let xs = || self.lines.iter().flat_map(|(_, points)| points).map(|point| point.0.log2());
        let ys = || self.lines.iter().flat_map(|(_, points)| points).map(|point| point.1);
        let left = xs().fold(f64::MAX, f64::min) - 0.2;
        let right = xs().fold(f64::MIN, f64::max) + 0.2;
        if left > right {
            return Err(format!("the chart {:?} has no points", self.title).into());
        }
        let top = ys().fold(self.level.map_or(0.0, |level| level.0), f64::max).max(1e-3) * 1.15;

        let beside = if self.names_lines() { LEGEND } else { 24 };
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 16))
            .margin(12)
            .margin_right(beside)
            .x_label_area_size(64)
            .y_label_area_size(68)
            .build_cartesian_2d(left..right, self.height(0.0)..self.height(top))?;
        // plotters does not put labels at the points, so this code draws them.
        let mut mesh = chart.configure_mesh();
        mesh.disable_mesh().x_labels(0).y_labels(0).x_desc(self.x).y_desc(self.y);
        mesh.axis_desc_style(("sans-serif", 13)).draw()?;
        self.label_x(area, &chart, left..right)?;
        self.label_y(area, &mut chart, left..right, top)?;
        self.draw_lines(area, &mut chart, left..right)?;
        self.draw_marks(area, &chart, left..right)
    }

    fn names_lines(&self) -> bool {
        self.lines.len() > 1 || self.level.is_some()
    }

    /// The position of a value on the y-axis.
    fn height(&self, value: f64) -> f64 {
        if self.y_logarithmic { value.max(1.0).log10() } else { value }
    }

    /// Draws the labels of the x-axis. Labels that would overlap go into the next row.
    fn label_x(
        &self,
        area: &Area<'_>,
        chart: &Context<'_, '_>,
        range: std::ops::Range<f64>,
    ) -> Result<(), Box<dyn Error>> {
        let mut row_ends = [i32::MIN; 3];
        for (tick, label) in self.ticks.iter().filter(|(tick, _)| range.contains(&tick.log2())) {
            let (x, y) = pixel(area, chart, (tick.log2(), self.height(0.0)));
            let half = CHARACTER * i32::try_from(label.len())? / 2;
            let row = row_ends.iter().position(|end| *end < x - half).unwrap_or(2);
            row_ends[row] = x + half;
            let below = y + 6 + 15 * i32::try_from(row)?;
            area.draw(&PathElement::new([(x, y), (x, below - 2)], BLACK))?;
            let style = text(HPos::Center, VPos::Top);
            area.draw(&Text::new(label.clone(), (x, below), style))?;
        }
        Ok(())
    }

    fn label_y(
        &self,
        area: &Area<'_>,
        chart: &mut Context<'_, '_>,
        range: std::ops::Range<f64>,
        top: f64,
    ) -> Result<(), Box<dyn Error>> {
        let ticks: Vec<f64> = if self.y_logarithmic {
            let steps = (0..9).flat_map(|power| [1.0, 2.0, 5.0].map(|n| n * 10_f64.powi(power)));
            steps.collect()
        } else {
            let power = 10_f64.powf((top / 4.0).log10().floor());
            let steps = [1.0, 2.0, 5.0].map(|step| step * power);
            let step = steps.into_iter().find(|step| top / step <= 8.0).unwrap_or(power * 10.0);
            (0..=8).map(|n| f64::from(n) * step).collect()
        };
        for tick in ticks.into_iter().filter(|tick| *tick <= top) {
            let y = self.height(tick);
            let line = [(range.start, y), (range.end, y)];
            chart.draw_series([PathElement::new(line, GREY)])?;
            let (x, row) = pixel(area, chart, line[0]);
            let label = ((tick * 1e6).round() / 1e6).to_string();
            area.draw(&Text::new(label, (x - 6, row), text(HPos::Right, VPos::Center)))?;
        }
        Ok(())
    }

    fn draw_lines(
        &self,
        area: &Area<'_>,
        chart: &mut Context<'_, '_>,
        range: std::ops::Range<f64>,
    ) -> Result<(), Box<dyn Error>> {
        let level = self.level.map(|(level, name)| {
            let y = self.height(level);
            (name, vec![(range.start, y), (range.end, y)], BLACK.stroke_width(1))
        });
        let lines = self.lines.iter().enumerate().map(|(n, (name, points))| {
            let places = points.iter().map(|(x, y)| (x.log2(), self.height(*y))).collect();
            (name.as_str(), places, COLOURS[n % COLOURS.len()].stroke_width(2))
        });
        // The names are on the right of the chart, where they cover no line.
        let x = (area.dim_in_pixel().0 - LEGEND + 12).cast_signed();
        let mut y = 60;
        for (name, places, style) in level.into_iter().chain(lines) {
            let size = if style.stroke_width > 1 { 3 } else { 0 };
            chart.draw_series(LineSeries::new(places, style).point_size(size))?;
            if self.names_lines() {
                area.draw(&PathElement::new([(x, y), (x + 22, y)], style))?;
                let style = text(HPos::Left, VPos::Center);
                area.draw(&Text::new(name.to_owned(), (x + 28, y), style))?;
                y += 22;
            }
        }
        Ok(())
    }

    /// Draws the marks. Their names are at the top, to the left of the first mark and to the right of others.
    fn draw_marks(
        &self,
        area: &Area<'_>,
        chart: &Context<'_, '_>,
        range: std::ops::Range<f64>,
    ) -> Result<(), Box<dyn Error>> {
        let leftmost = self.marks.iter().map(|mark| mark.0).fold(f64::MAX, f64::min);
        let inside = |mark: &&(f64, &str)| range.contains(&mark.0.log2());
        for (mark, name) in self.marks.iter().filter(inside) {
            let (x, bottom) = pixel(area, chart, (mark.log2(), self.height(0.0)));
            let top = 42;
            area.draw(&PathElement::new([(x, top), (x, bottom)], RGBColor(0x88, 0x88, 0x88)))?;
            let is_first = *mark <= leftmost && self.marks.len() > 1;
            let (x, side) = if is_first { (x - 4, HPos::Right) } else { (x + 4, HPos::Left) };
            area.draw(&Text::new((*name).to_owned(), (x, top), text(side, VPos::Top)))?;
        }
        Ok(())
    }
}

fn text(horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    TextStyle::from(("sans-serif", 12)).pos(Pos::new(horizontal, vertical))
}

/// The pixel of a point of the chart, within its area.
fn pixel(area: &Area<'_>, chart: &Context<'_, '_>, point: (f64, f64)) -> (i32, i32) {
    let (x, y) = chart.plotting_area().map_coordinate(&point);
    let (left, top) = area.get_base_pixel();
    (x - left, y - top)
}
