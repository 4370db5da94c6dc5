//! A plot of ratios: one bar each, on a logarithmic scale, with a mark where the target is.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

/// One measurement.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) ratio: f64,
    pub(crate) target: Option<f64>,
}

const WIDTH: u32 = 900;
const ROW: u32 = 26;
const LABELS: u32 = 400;
const FASTER: RGBColor = RGBColor(46, 125, 50);
const SLOWER: RGBColor = RGBColor(198, 40, 40);

/// Draws `bars` into an SVG at `path`.
pub(crate) fn draw(path: &Path, title: &str, bars: &[Bar]) -> anyhow::Result<()> {
    let rows = u32::try_from(bars.len())?;
    let area = SVGBackend::new(path, (WIDTH, rows * ROW + 90)).into_drawing_area();
    fill(&area, title, bars).map_err(|error| anyhow!("draw {}: {error}", path.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn fill(area: &Area<'_>, title: &str, bars: &[Bar]) -> Result<(), Box<dyn std::error::Error>> {
    area.fill(&WHITE)?;
    let values = || bars.iter().flat_map(|bar| [Some(bar.ratio), bar.target]).flatten();
    let most = values().fold(2.0_f64, f64::max) * 1.3;
    let least = values().fold(0.8_f64, f64::min) * 0.8;
    let rows = i32::try_from(bars.len())?;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .set_label_area_size(LabelAreaPosition::Left, LABELS)
        .set_label_area_size(LabelAreaPosition::Bottom, 30)
        .build_cartesian_2d((least..most).log_scale(), (0..rows).into_segmented())?;
    let label = |row: &SegmentValue<i32>| match row {
        SegmentValue::CenterOf(row) => usize::try_from(rows - 1 - row)
            .ok()
            .and_then(|row| bars.get(row))
            .map_or(String::new(), |bar| bar.label.clone()),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len())
        .y_label_formatter(&label)
        .y_label_style(("sans-serif", 13))
        .x_label_formatter(&|ratio| format!("{ratio}"))
        .draw()?;
    let mut row = rows;
    for bar in bars {
        row -= 1;
        let (low, high) = (SegmentValue::Exact(row), SegmentValue::Exact(row + 1));
        let is_good = bar.ratio >= bar.target.unwrap_or(1.0);
        let color = if is_good { FASTER } else { SLOWER };
        let mut shape = Rectangle::new([(1.0, low.clone()), (bar.ratio, high.clone())], color.filled());
        shape.set_margin(5, 5, 0, 0);
        chart.draw_series([shape])?;
        chart.draw_series([Text::new(
            format!("{:.2}", bar.ratio),
            (bar.ratio.max(1.0) * 1.02, high.clone()),
            ("sans-serif", 13),
        )])?;
        if let Some(target) = bar.target {
            chart.draw_series([PathElement::new([(target, low), (target, high)], BLACK.stroke_width(2))])?;
        }
    }
    area.present()?;
    Ok(())
}
